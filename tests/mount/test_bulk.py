"""Very many documents at once: the events are paced so that no watcher's queue overflows."""

from __future__ import annotations

import faulthandler
from typing import TYPE_CHECKING

from tests.mount.harness import until
from tests.mount.remote import Remote, believed, credential, settled
from tests.mount.standin_client import StandIn
from tests.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

COUNT = scaled(10_000)
PATIENT = 120.0 + COUNT * 0.15
"""Seconds: the proxy alone takes 50 ms for each removal."""


def test_thousands_come_and_go(mounts: Mounts, tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # the full count takes longer than it allows
    remote = Remote(tmp_path / "store")
    remote.seed("a.json")
    here = mounts("here", "--deadline", "60")
    with StandIn(here.config, here.auths) as standin:
        for serial in range(COUNT):
            remote.replace(f"auths/n{serial}.json", credential(serial))
        belief = believed(standin, here, PATIENT)
        assert len(belief.credentials) == COUNT + 1
        assert set(belief.first_reads.values()) == {"complete"}
        settled(here, PATIENT)
        for serial in range(COUNT):
            remote.delete(f"auths/n{serial}.json")
        until(lambda: here.status()["held_deletions"], "the deletions are held", PATIENT)
        until(lambda: here.status()["held_deletions"] >= COUNT * 0.7, "all of them", PATIENT)
        here.sync("accept-deletions")
        assert here.status()["held_deletions"] == 0
        # More than a queue holds in all, while the watcher is still busy with the removals.
        for serial in range(COUNT):
            remote.replace(f"auths/m{serial}.json", credential(serial))
        belief = believed(standin, here, PATIENT)
        assert len(belief.credentials) == COUNT + 1
        settled(here, PATIENT)
    assert belief.incomplete == 0
    assert belief.outcomes.get("debounced", 0) == 0
    until(lambda: here.status()["raises_waiting"] == 0, "nothing is left to raise")
    assert here.status()["held_deletions"] == 0
    assert here.log().count("nothing is deleted here") == 1
    assert here.commits() == []
