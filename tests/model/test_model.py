"""Two machines over one store, against a dictionary: any order of calls, faults and restarts.

After healing (no faults, everything reconciled and raised) both machines show the backend's
documents byte for byte; what was acknowledged was current once, and what was refused is kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from storefs.backends.local import Local
from tests.model.machines import TwoMachines
from tests.scale import scaled
from tests.servers.postgres import cluster, shared_database  # noqa: F401 - fixtures
from tests.servers.postgres_cluster import serial

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.programs import Connect
    from tests.servers.postgres_cluster import Database


def _run(machines: type[TwoMachines], examples: int) -> None:
    run_state_machine_as_test(
        machines,
        settings=settings(
            derandomize=True,
            database=None,
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_two_machines_and_their_backend_agree_after_healing() -> None:
    _run(TwoMachines, scaled(5000, 20))


def test_two_machines_over_a_directory_agree_after_healing(tmp_path: Path) -> None:
    number = count()

    def new_store() -> Connect:
        directory = tmp_path / str(next(number))
        directory.mkdir()
        return partial(Local, directory)

    class OverDirectory(TwoMachines):
        pass

    OverDirectory.new_store = new_store
    _run(OverDirectory, scaled(500, 10))


def test_two_machines_over_postgres_agree_after_healing(
    shared_database: Database,  # noqa: F811
) -> None:
    def new_store() -> Connect:
        more = {"PGSTORE_SCHEMA": f"model_{next(serial)}"}
        return replace(shared_database, more=more).connect

    class OverPostgres(TwoMachines):
        only_json = True

    OverPostgres.new_store = new_store
    _run(OverPostgres, scaled(500, 10))
