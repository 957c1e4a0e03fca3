"""When a deletion made elsewhere is raised: late enough, once, and not if it is taken back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, Watch, until
from tests.mount.remote import LONG, Remote, believed, credential, settled
from tests.mount.standin_client import StandIn
from tests.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

NAMES = tuple(f"{name}.json" for name in "abcdefghij")
APART = 1.09
"""Seconds between two removals: 1.1, by a clock that may be slewed meanwhile."""


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    remote = Remote(tmp_path / "store")
    remote.seed(*NAMES)
    return remote


def gone_at(mount: Mount, watch: Watch, name: str, *kinds: str) -> float:
    """When a name of the directory went, whenever this process came to read the event of it."""
    for kind, about in watch.events(LONG):
        if about == name and kind in (kinds or ("DELETE",)):
            return mount.auths.stat().st_mtime
    raise AssertionError(f"no removal of {name}")


def test_two_removals_of_a_name_keep_their_distance(mounts: Mounts, remote: Remote) -> None:
    """Within 1 s the proxy drops the second one, and believes in the credential for ever."""
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        for turn in range(scaled(30, 2)):
            gone = []
            for step in range(2):
                remote.delete("auths/a.json")
                gone.append(gone_at(here, watch, "a.json"))
                if turn % 2:  # else the name is back before the proxy has looked
                    standin.wait_until(lambda belief: "a.json" not in belief.credentials, LONG)
                remote.replace("auths/a.json", credential(100 + 2 * turn + step))
                watch.expect("CREATE", "a.json")
            assert gone[1] - gone[0] > APART, f"turn {turn}"
        belief = believed(standin, here)
    assert belief.outcomes.get("debounced", 0) == 0
    assert belief.outcomes["removed"] >= 2 * (scaled(30, 2) // 2)
    assert here.commits() == []


@pytest.mark.parametrize("away", ["unlink", "rename"])
def test_a_removal_of_ones_own_counts_too(mounts: Mounts, remote: Remote, away: str) -> None:
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        if away == "unlink":
            (here.auths / "a.json").unlink()
        else:
            (here.auths / "a.json").rename(here.auths / "z.json")
        first = gone_at(here, watch, "a.json", "DELETE", "MOVED_FROM")
        remote.replace("auths/a.json", credential(60))
        watch.expect("CREATE", "a.json")
        remote.delete("auths/a.json")
        assert gone_at(here, watch, "a.json") - first > APART
        belief = believed(standin, here)
    assert belief.outcomes.get("debounced", 0) == 0


def test_a_document_deleted_on_both_machines_is_gone(mounts: Mounts, remote: Remote) -> None:
    """The second unlink comes while the first is not yet believed here."""
    here, there = mounts("here"), mounts("there")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        for name in ("a.json", "b.json"):
            (there.auths / name).unlink()
            until(lambda: not remote.has(f"auths/{name}"), "deleted in the store")  # noqa: B023
            (here.auths / name).unlink()
            watch.expect("DELETE", name)
        # Later than the removals: whoever stumbled over them cannot tell this.
        remote.delete("auths/c.json")
        watch.expect("DELETE", "c.json")
        remote.write("auths/new.json", credential(70))
        watch.expect("CREATE", "new.json")
        believed(standin, here)
    settled(here)
    settled(there)


class Hold:
    """A program's unlink that hangs in the backend: the kernel holds the directory meanwhile."""

    def __init__(self, mount: Mount, name: str) -> None:
        self._fault = mount.fault("commit.hang")
        before = len(mount.commits())
        self._thread = threading.Thread(target=(mount.auths / name).unlink)
        self._thread.start()
        until(lambda: len(mount.commits()) > before, "the unlink is at the backend")

    def end(self) -> None:
        self._fault.unlink()
        self._thread.join(LONG)
        assert not self._thread.is_alive()


def test_a_removal_on_its_way_is_called_back(mounts: Mounts, remote: Remote) -> None:
    """The same bytes come back between the decision and the event: then nothing happened."""
    here = mounts("here", "--dir-wait", "60", "--deadline", "60")
    inodes = {name: (here.auths / name).stat().st_ino for name in ("a.json", "b.json")}
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        hold = Hold(here, "c.json")
        for name in inodes:
            remote.delete(f"auths/{name}")
        # The worker holds one of them in its call, the other one waits.
        until(lambda: here.status()["raises_waiting"] == 1, "both are to be removed")
        remote.replace("auths/a.json", credential(0))
        remote.replace("auths/b.json", credential(1))
        here.sync()
        hold.end()
        remote.write("auths/last.json", credential(80))
        watch.expect("CREATE", "last.json")
        assert {name: (here.auths / name).stat().st_ino for name in inodes} == inodes
        settled(here)
        believed(standin, here)


def test_a_removal_on_its_way_is_not_decided_twice(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here", "--dir-wait", "60", "--deadline", "60")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        hold = Hold(here, "c.json")
        remote.delete("auths/a.json")
        remote.delete("auths/b.json")
        until(lambda: here.status()["raises_waiting"] == 1, "both are to be removed")
        here.sync()
        here.sync()
        hold.end()
        watch.expect("DELETE", "b.json")
        remote.delete("auths/d.json")
        watch.expect("DELETE", "d.json")
        belief = believed(standin, here)
    assert belief.outcomes["removed"] == 4
    settled(here)
