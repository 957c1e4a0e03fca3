"""Two machines over one store, against a dictionary: any order of calls, faults and restarts.

After healing (no faults, everything reconciled and raised) both machines show the backend's
documents byte for byte; what was acknowledged was current once, and what was refused is kept.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machines import TwoMachines
from tests.scale import scaled


def test_two_machines_and_their_backend_agree_after_healing() -> None:
    run_state_machine_as_test(
        TwoMachines,
        settings=settings(
            derandomize=True,
            database=None,
            max_examples=scaled(1000, 20),
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
