"""A store that lost most of its documents is more likely broken than tidied up."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, Watch, until
from tests.mount.remote import CONFIG, LONG, Remote, believed, credential, settled, tree
from tests.mount.standin_client import StandIn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

NAMES = tuple(f"n{number}.json" for number in range(20))


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    remote = Remote(tmp_path / "store")
    remote.seed(*NAMES)
    return remote


def delete(remote: Remote, count: int) -> tuple[str, ...]:
    for name in NAMES[:count]:
        remote.delete(f"auths/{name}")
    return NAMES[:count]


def held(mount: Mount, count: int) -> None:
    until(lambda: mount.status()["held_deletions"] == count, f"{count} deletions are held", LONG)


def test_few_deletions_at_once_are_believed(mounts: Mounts, remote: Remote) -> None:
    """Of 21 documents max(3, 20 %) are 4."""
    here = mounts("here")
    with Watch(here.auths) as watch:
        delete(remote, 4)
        for name in NAMES[:4]:
            watch.expect("DELETE", name)
    settled(here)
    assert "nothing is deleted here" not in here.log()


def test_many_deletions_at_once_are_held_until_accepted(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        delete(remote, 5)
        held(here, 5)
        assert set(tree(here.auths)) == set(NAMES)
        assert watch.drain() == []
        here.sync()
        assert here.status()["held_deletions"] == 5
        assert "lacks 5 of 21 documents" in here.log()
        here.sync("accept-deletions")
        settled(here)
        assert {event for event in watch.drain() if event[0] == "DELETE"} == {
            ("DELETE", name) for name in NAMES[:5]
        }
        believed(standin, here)
    assert here.status()["held_deletions"] == 0
    until(lambda: len(here.kept("trash")) == 5, "what is gone is in the trash")
    assert here.commits() == []


def test_a_second_look_after_half_a_minute_believes_them(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        began = time.monotonic()
        delete(remote, 15)
        held(here, 15)
        watch.expect("DELETE", NAMES[0], LONG)
        assert time.monotonic() - began > 30
        settled(here)
        believed(standin, here)
    until(lambda: here.status()["held_deletions"] == 0, "nothing is held any more")


def test_documents_that_come_back_are_not_deleted(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        delete(remote, 15)
        held(here, 15)
        # All at once: the few that are still away in between would be believed.
        fault = here.fault("read.hang")
        for serial in range(15):
            remote.replace(f"auths/{NAMES[serial]}", credential(serial))
        fault.unlink()
        held(here, 0)
        remote.write("auths/last.json", credential(90))
        watch.expect("CREATE", "last.json")
        assert watch.drain() == []
        # A few deletions that follow are believed again.
        remote.delete(f"auths/{NAMES[3]}")
        watch.expect("DELETE", NAMES[3])
        believed(standin, here)
    settled(here)


def test_those_that_stay_away_when_most_came_back_are_deleted(
    mounts: Mounts, remote: Remote
) -> None:
    here = mounts("here")
    with Watch(here.auths) as watch:
        delete(remote, 15)
        held(here, 15)
        for serial in range(2, 15):
            remote.replace(f"auths/{NAMES[serial]}", credential(serial))
        watch.expect("DELETE", NAMES[0])
        watch.expect("DELETE", NAMES[1])
    settled(here)
    assert here.status()["held_deletions"] == 0


def test_an_emptied_store_deletes_nothing(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here", start=False)
    with here:
        for name in ("config", "auths"):
            shutil.rmtree(remote.store / name)
        held(here, 21)
        first = here.log().count("nothing is deleted here")
        time.sleep(33)  # nothing tells that the 30 s are over for which others would be held
        here.sync()
        assert here.status()["held_deletions"] == 21
        assert set(tree(here.auths)) == set(NAMES)
        assert here.log().count("nothing is deleted here") == first == 1
    with here:  # nor at the next start
        assert set(tree(here.auths)) == set(NAMES)
        held(here, 21)
        here.sync("accept-deletions")
        until(lambda: os.listdir(here.auths) == [], "all are gone", LONG)
        assert b"made up" in here.config.read_bytes()
    assert here.commits() == []


def test_a_store_directory_that_is_gone_deletes_nothing(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    away = remote.store.with_name("away")
    remote.store.rename(away)
    with pytest.raises(OSError, match=r"Input/output error"):
        here.sync("accept-deletions")
    assert not here.status()["online"]
    assert set(tree(here.auths)) == set(NAMES)
    remote.store.mkdir()
    held(here, 21)  # what was said of the store that was gone is not taken of the empty one
    remote.store.rmdir()
    with Watch(here.auths) as watch:
        away.rename(remote.store)
        remote.write("auths/last.json", credential(91))
        watch.expect("CREATE", "last.json", LONG)
    settled(here)


def test_a_config_that_vanished_stays_and_the_next_save_restores_it(
    mounts: Mounts, remote: Remote
) -> None:
    here = mounts("here")
    inode = here.config.stat().st_ino
    with StandIn(here.config, here.auths) as standin:
        remote.delete("config/config.yaml")
        until(lambda: "vanished" in str(here.status()["warnings"]), "status says so", LONG)
        assert "request-retry: 3" in here.config.read_text()
        standin.save_config_from_memory("request-retry", "4")
        stored = (remote.store / "config/config.yaml").read_bytes()
        assert stored == CONFIG.replace(b"request-retry: 3", b"request-retry: 4")
        remote.write("config/config.yaml", CONFIG.replace(b"8317", b"1234"))
        standin.wait_until(lambda belief: "port: 1234" in belief.config_text, LONG)
        believed(standin, here)
    assert here.config.stat().st_ino == inode
    assert here.status()["warnings"] == []


def test_a_config_that_vanished_stays_over_a_restart(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here", start=False)
    with here:
        remote.delete("config/config.yaml")
        until(lambda: "vanished" in str(here.status()["warnings"]), "status says so", LONG)
    with here:
        assert "request-retry: 3" in here.config.read_text()
        assert "vanished" in str(here.status()["warnings"])
        assert not remote.has("config/config.yaml")
        remote.write("config/config.yaml", CONFIG)
        until(lambda: here.status()["warnings"] == [], "it is back", LONG)
    assert here.commits() == []
