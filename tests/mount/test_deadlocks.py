"""What once hung, or could: each with the order of events that does it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.apart import Apart, answer
from tests.mount.calls import refused, write
from tests.mount.harness import Mount, Watch, until
from tests.mount.remote import Remote, credential, settled
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

ENDS = 60.0
"""Seconds within which a mount with a deadline of a few seconds has ended, on a busy machine."""


def _seeded(mounts: Mounts, *options: str) -> Mount:
    mount = mounts("a", start=False)
    Remote(mount.store).seed("a.json", "b.json")
    mount.options = (*options, "--snapshot-interval", "3600")
    return mount


def test_fsync_of_what_must_be_shown_otherwise(mounts: Mounts) -> None:
    """The event waits for the kernel's lock that the fsync holds, so nobody may wait for it."""
    with _seeded(mounts, "--deadline", "90") as mount:
        text = mount.config.read_bytes()
        foreign = text.replace(str(mount.auths).encode(), b"/somewhere/else") + b"debug: true\n"
        for _ in range(scaled(100)):
            with Watch(mount.config) as watch:
                assert answer("fsync", mount.config, foreign.decode()) == "done"
                watch.expect("MODIFY")
            until(
                lambda: mount.config.read_bytes() == text + b"debug: true\n",
                "this machine's auth-dir shows again",
            )


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_stop_while_an_event_waits_for_a_blocked_call(mounts: Mounts, call: str) -> None:
    with _seeded(mounts, "--deadline", "5", "--dir-wait", "5", "--stop-timeout", "2") as mount:
        (mount.auths / "a.json").stat()
        (mount.auths / "b.json").stat()
        mount.fault("commit.hang")
        words = [mount.auths / "a.json"] + [mount.auths / "c.json"] * (call == "rename")
        with Apart(call, *words) as stuck:
            until(mount.commits, "the call is in the backend and holds the directory")
            Remote(mount.store).write("auths/new.json", credential(7))
            Remote(mount.store).write("auths/b.json", credential(8))
            until(lambda: _events_under_way(mount, 4), "the events wait for the directory")
            assert mount.stop(deadline=ENDS) == 0
            assert stuck.answer() in ("done", "ENOTCONN", "ECONNABORTED")  # done: it is pending
    assert (mount.store / "auths/a.json").exists()


def _waits_in_the_kernel(pid: int) -> bool:
    """Whether a thread of the process is in a call that no signal ends."""
    states = [
        file.read_text().rpartition(")")[2] for file in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return any(state.split()[0] == "D" for state in states)


def _events_under_way(mount: Mount, documents: int) -> bool:
    status = mount.status()
    return bool(status["documents"] == documents and status["raises_waiting"] <= 1)


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_a_kill_while_an_event_waits_for_a_blocked_call(mounts: Mounts, call: str) -> None:
    """The event's thread cannot be killed while it waits; the program's call waits for a mount
    that the kernel ends only when that thread holds no file of it.
    """
    mount = _seeded(mounts, "--deadline", "60", "--dir-wait", "60")
    mount.start()
    mount.fault("commit.hang")
    words = [mount.auths / "a.json"] + [mount.auths / "c.json"] * (call == "rename")
    with Apart(call, *words) as stuck:
        until(mount.commits, "the call is in the backend and holds the directory")
        Remote(mount.store).write("auths/new.json", credential(7))
        assert mount.process is not None
        until(partial(_waits_in_the_kernel, mount.process.pid), "the event waits as well")
        mount.process.kill()
        mount.process.wait(ENDS)
        assert stuck.answer() in ("ENOTCONN", "ECONNABORTED")
    mount.process = None
    mount.clear()
    (mount.control / "commit.hang").unlink()
    with mount:
        assert (mount.auths / "new.json").read_bytes() == credential(7)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_stop_while_a_change_is_stuck_keeps_its_bytes(mounts: Mounts, call: str) -> None:
    with _seeded(mounts, "--deadline", "5", "--stop-timeout", "1") as mount:
        mount.fault("commit.hang")
        with Apart(call, mount.auths / "a.json", credential(7).decode()) as stuck:
            until(mount.commits, "the change is in the backend")
            assert mount.stop(deadline=ENDS) == 0
            assert stuck.answer() != "done" or call == "write"  # done: it is pending
        assert list(mount.kept("conflicts").values()) == [credential(7)]


def test_stop_keeps_what_nobody_closed_in_time(mounts: Mounts) -> None:
    """More documents than can be sent, one after the other, before the time is over."""
    with _seeded(mounts, "--deadline", "5", "--stop-timeout", "1") as mount:
        mount.fault("commit.hang")
        opened = []
        for number, name in enumerate("abcd"):
            opened.append(
                os.open(mount.auths / f"{name}.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            )
            os.write(opened[-1], credential(10 + number))
        assert mount.stop(deadline=ENDS) == 0
        for fd in opened:
            with suppress(OSError):  # the mount is gone
                os.close(fd)
        copies = set(mount.kept("conflicts").values())
    assert copies == {credential(10 + number) for number in range(4)}


def test_stop_sends_what_was_to_be_sent_later(mounts: Mounts) -> None:
    """A truncate without a handle is committed a second later."""
    with _seeded(mounts) as mount:
        write(mount.auths / "a.json", b'{"type": "x"}' + b" " * 1000)
        os.truncate(mount.auths / "a.json", 13)
        assert mount.stop() == 0
    assert (mount.store / "auths/a.json").read_bytes() == b'{"type": "x"}'


def test_a_listing_brings_no_deleted_name_back(mounts: Mounts) -> None:
    """Names are deleted, moved and replaced between two READDIRs of one listing."""
    mount = _seeded(mounts)
    count = scaled(100_000, least=3_000)
    (mount.root / "auths" / "there").mkdir(parents=True)
    for number in range(count):
        (mount.root / f"auths/{number:06}.tmp").touch()
    for number in range(0, count, 300):
        (mount.store / f"auths/{number:06}.json").write_bytes(credential(number))
    with mount:
        gone = set()
        with os.scandir(mount.auths) as lister:
            listed = {next(lister).name for _ in range(count // 10)}
            for number in range(0, count, 7):
                name = f"{number:06}.tmp"
                os.unlink(mount.auths / name)
                gone.add(name)
            for number in range(1, count, 70):
                name = f"{number:06}.tmp"
                os.rename(mount.auths / name, mount.auths / "there" / name)
                gone.add(name)
            for number in range(0, count, 300):
                name = f"{number:06}.json"
                os.unlink(mount.auths / name)
                gone.add(name)
            late = {entry.name for entry in lister}
        assert len(gone - listed) > 100, "names that the listing had not reached"
        assert [name for name in sorted(gone) if os.path.lexists(mount.auths / name)] == []
        left = {"a.json", "b.json", "there", *(f"{number:06}.tmp" for number in range(count))}
        assert listed | late >= left - gone, "nothing else is missing"
        assert set(os.listdir(mount.auths)) == left - gone


def test_blocked_closes_hold_up_no_listing(mounts: Mounts) -> None:
    with _seeded(mounts, "--deadline", "300") as mount:
        fault = mount.fault("commit.hang")
        with Apart("closes", mount.auths, 110) as closes:
            until(lambda: mount.status()["open_files"] >= 64, "so many wait for the backend")
            until(lambda: mount.status()["pending"] == 110 - 64, "the others wait on this disk")
            for _ in range(10):
                assert answer("listdir", mount.auths) == "done 112"
            assert answer("look", mount.path).startswith("done ")
            assert closes.waits
            fault.unlink()
            assert closes.answer() == "done 0 failed"
            until(lambda: not mount.status()["pending"], "everything is sent")
        assert len(list((mount.store / "auths").iterdir())) == 112


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_a_conflict_over_a_name_is_handled_once(mounts: Mounts, call: str) -> None:
    """ESTALE would make the kernel look the name up and call a second time."""
    with _seeded(mounts) as mount:
        fault = mount.fault("read.hang")
        Remote(mount.store).write("auths/a.json", credential(7))
        before = len(mount.commits())
        with refused(errno.EBUSY):
            if call == "unlink":
                os.unlink(mount.auths / "a.json")
            else:
                os.rename(mount.auths / "a.json", mount.auths / "c.json")
        assert mount.log().count(f"{call}: ") == 1
        assert len(mount.commits()) == before + 1
        assert (mount.auths / "a.json").read_bytes() == credential(0)
        fault.unlink()
        settled(mount)
        write(mount.auths / "a.json", b'{"type": "another"}')
        assert (mount.store / "auths/a.json").read_bytes() != credential(7)
