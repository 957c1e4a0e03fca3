"""A change made elsewhere arrives as the right event, with the right bytes behind it."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Watch, until
from tests.mount.remote import CONFIG, LONG, Remote, believed, credential, settled
from tests.mount.standin_client import StandIn
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

NAMES = ("a.json", "b.json", "c.json", "d.json", "e.json")


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    remote = Remote(tmp_path / "store")
    remote.seed(*NAMES)
    return remote


def test_each_kind_of_remote_change_raises_its_event(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        remote.write("auths/new.json", credential(10))
        watch.expect("CREATE", "new.json")
        assert (here.auths / "new.json").read_bytes() == credential(10)
        remote.write("auths/a.json", credential(11))
        watch.expect("MODIFY", "a.json")
        assert (here.auths / "a.json").read_bytes() == credential(11)
        remote.replace("auths/b.json", credential(12, size=9000))
        watch.expect("MODIFY", "b.json")
        assert (here.auths / "b.json").read_bytes() == credential(12, size=9000)
        remote.rename("auths/c.json", "auths/moved.json")
        watch.expect("CREATE", "moved.json")
        assert (here.auths / "moved.json").read_bytes() == credential(2)
        watch.expect("DELETE", "c.json")
        assert not (here.auths / "c.json").exists()
        remote.delete("auths/d.json")
        watch.expect("DELETE", "d.json")
        belief = believed(standin, here)
    assert {belief.first_reads[name] for name in ("new.json", "moved.json")} == {"complete"}
    assert belief.incomplete == 0
    assert here.commits() == []


def test_a_change_through_another_mount_raises_the_same(mounts: Mounts, remote: Remote) -> None:
    here, there = mounts("here"), mounts("there")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        (there.auths / "new.json").write_bytes(credential(10))
        watch.expect("CREATE", "new.json")
        (there.auths / "a.json").write_bytes(credential(11))
        watch.expect("MODIFY", "a.json")
        (there.auths / ".b.tmp").write_bytes(credential(12))
        (there.auths / ".b.tmp").rename(there.auths / "b.json")
        watch.expect("MODIFY", "b.json")
        (there.auths / "c.json").rename(there.auths / "moved.json")
        watch.expect("CREATE", "moved.json")
        watch.expect("DELETE", "c.json")
        (there.auths / "d.json").unlink()
        watch.expect("DELETE", "d.json")
        believed(standin, here)
    settled(there)
    assert here.commits() == []


def test_new_documents_are_whole_at_their_event(mounts: Mounts, remote: Remote) -> None:
    """Other events of that name, or of no name at all, would be as good as none."""
    here = mounts("here")
    with Watch(here.auths) as watch:
        for serial in range(scaled(300)):
            name = f"n{serial}.json"
            data = credential(serial, size=serial * 37 % 20_000)
            remote.replace(f"auths/{name}", data)
            assert next(watch.events(LONG)) == ("CREATE", name)
            assert (here.auths / name).read_bytes() == data
        assert watch.drain() == []


def reloaded(standin: StandIn, line: str) -> None:
    standin.wait_until(lambda belief: line in belief.config_text, LONG)


def test_the_config_keeps_its_inode_and_its_watch(mounts: Mounts, remote: Remote) -> None:
    here, there = mounts("here"), mounts("there")
    inode = here.config.stat().st_ino
    chance = random.Random(SEED)
    with StandIn(here.config, here.auths) as standin:
        for turn in range(scaled(100)):
            text = CONFIG + b"# line\n" * chance.randrange(900) + b"turn: %d\n" % turn
            how = turn % 3
            if how == 0:
                remote.write("config/config.yaml", text)
            elif how == 1:
                remote.replace("config/config.yaml", text)
            else:
                # As this machine's proxy would, with the auth-dir of its own.
                settled(there)
                there.config.write_bytes(text)
            reloaded(standin, f"turn: {turn}\n")
            assert here.config.stat().st_ino == inode
        belief = believed(standin, here)
    assert belief.counts.keys() <= {"config.MODIFY", "auths.MODIFY"}
    settled(here)
    assert here.commits() == []


def quickly(*calls: Callable[[], object]) -> bool:
    """Make the calls; whether they took less than a deletion takes to be believed."""
    began = time.monotonic()
    for call in calls:
        call()
    return time.monotonic() - began < 0.9


def changed_at_once(remote: Remote, there: Mount, serial: int) -> bool:
    """Delete and make three documents; whether each was back in time."""
    mine, theirs = there.auths / "b.json", credential(20 + serial)
    ways: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: remote.delete("auths/a.json"), lambda: remote.write("auths/a.json", theirs)),
        (mine.unlink, lambda: mine.write_bytes(theirs)),
        (  # with the bytes it had
            lambda: remote.delete("auths/c.json"),
            lambda: remote.replace("auths/c.json", credential(2)),
        ),
    ]
    in_time = [quickly(*way) for way in ways]
    return all(in_time)


def test_a_delete_and_a_create_within_a_second_are_one_change(
    mounts: Mounts, remote: Remote
) -> None:
    here, there = mounts("here"), mounts("there")
    for serial in range(5):  # again where the machine was too slow to do it within a second
        inodes = {name: (here.auths / name).stat().st_ino for name in NAMES}
        last = f"last{serial}.json"
        with Watch(here.auths) as watch:
            quick = changed_at_once(remote, there, serial)
            settled(here)
            remote.write(f"auths/{last}", credential(40))
            seen = []
            for event in watch.events(LONG):
                seen.append(event)
                if event == ("CREATE", last):
                    break
            late = list(watch.events(1.5))  # longer than a deletion takes to be believed
        if quick:
            break
        settled(there)
    assert quick
    assert set(seen) == {("MODIFY", "a.json"), ("MODIFY", "b.json"), ("CREATE", last)}
    assert late == []
    assert {name: (here.auths / name).stat().st_ino for name in NAMES} == inodes


def test_an_old_handle_reads_the_present_bytes(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    fd = os.open(here.auths / "a.json", os.O_RDONLY)
    try:
        for turn in range(scaled(100)):
            # Of equal length every other time: then nothing but their invalidation drops the pages.
            data = credential(turn + 100, size=turn // 2 * 997 % 20_000)
            assert len(os.pread(fd, 100_000, 0)) == os.fstat(fd).st_size
            with Watch(here.auths / "a.json") as watch:
                remote.replace("auths/a.json", data)
                watch.expect("MODIFY")
            assert os.fstat(fd).st_size == len(data)
            assert os.stat(here.auths / "a.json").st_size == len(data)
            assert (here.auths / "a.json").read_bytes() == data
            assert os.pread(fd, 100_000, 0) == data
            assert os.pread(fd, 100_000, len(data) - 2) == data[-2:]
    finally:
        os.close(fd)


def test_a_handle_of_a_removed_document_still_reads_it(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with open(here.auths / "a.json", "rb") as file, Watch(here.auths) as watch:
        remote.delete("auths/a.json")
        watch.expect("DELETE", "a.json")
        remote.write("auths/a.json", credential(31))
        watch.expect("CREATE", "a.json")
        assert file.read() == credential(0)
        assert (here.auths / "a.json").read_bytes() == credential(31)


def test_a_refresh_that_changes_nothing_raises_nothing(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with Watch(here.auths) as watch:
        remote.write("auths/a.json", credential(0))
        remote.replace("auths/b.json", credential(1))
        (remote.store / "auths/c.json").touch()
        here.sync()
        remote.write("auths/last.json", credential(40))
        assert next(watch.events(LONG)) == ("CREATE", "last.json")


def test_own_changes_are_not_told_again(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with Watch(here.auths) as watch:
        (here.auths / "a.json").write_bytes(credential(50))
        (here.auths / "b.json").unlink()
        (here.auths / "own.json").write_bytes(credential(51))
        here.sync()
        remote.write("auths/last.json", credential(52))
        watch.expect("CREATE", "last.json")
        assert watch.drain() == []
    until(lambda: here.status()["raised"] == 1, "one event was raised")
    assert len(here.commits()) == 3
