"""Signals, stopping and restarting: what programs wrote is kept, and the mount goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Watch, until
from tests.mount.processes import launched, mounted, put, token, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

WRITER = """\
import itertools, sys
for number in itertools.count():
    with open(sys.argv[1] % (number % 20), "w") as file:
        file.write("{}")
"""


@contextmanager
def left_open(file: Path, flags: int) -> Iterator[int]:
    """A descriptor that a program still has when its mount ends; closing it tells it so."""
    fd = os.open(file, flags)
    try:
        yield fd
    finally:
        with suppress(OSError):
            os.close(fd)


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal; see proc(5), SigCgt."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def stored(machine: Mount, path: str = "auths/a.json") -> bytes:
    return (machine.store / path).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_mount_cleanly(mount: Mount, number: signal.Signals) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    (mount.auths / "local.txt").write_bytes(b"mine")
    assert mount.stop(number) == 0
    assert not mounted(mount.path)
    assert f"{number.name}: ending the mount" in mount.log()
    mount.start()
    assert tree_of(mount.path)["auths/a.json"] == token(1)
    assert tree_of(mount.path)["auths/local.txt"] == b"mine"


def test_sighup_reconciles_now(mounts: Mounts, tmp_path: Path) -> None:
    put(tmp_path / "store", "auths/a.json", token(1) + b"          ")
    machine = mounts("a", "--snapshot-interval", "3600")
    assert machine.process is not None
    with Watch(machine.auths) as watch:
        # It opens nothing, so the store's watcher cannot see it.
        os.truncate(machine.store / "auths/a.json", len(token(1)))
        machine.process.send_signal(signal.SIGHUP)
        watch.expect("MODIFY", "a.json")
    assert (machine.auths / "a.json").read_bytes() == token(1)
    assert machine.process.poll() is None


def test_a_change_without_a_hint_waits_for_the_interval(mounts: Mounts, tmp_path: Path) -> None:
    put(tmp_path / "store", "auths/a.json", token(1) + b"          ")
    machine = mounts("a", "--snapshot-interval", "0.5")
    with Watch(machine.auths) as watch:
        os.truncate(machine.store / "auths/a.json", len(token(1)))
        watch.expect("MODIFY", "a.json")


def test_stopping_commits_what_an_open_file_holds(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    with left_open(mount.auths / "a.json", os.O_RDWR) as fd:
        os.write(fd, token(2))
        assert stored(mount) == token(1)
        assert mount.stop() == 0
    assert stored(mount) == token(2)
    assert mount.kept("conflicts") == {}


def test_stopping_keeps_a_copy_of_what_is_not_valid(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    with left_open(mount.auths / "a.json", os.O_RDWR) as fd:
        os.write(fd, b'{"half')
        os.ftruncate(fd, 6)
        assert mount.stop() == 0
    assert stored(mount) == token(1)
    assert [*mount.kept("conflicts").values()] == [b'{"half']
    mount.start()
    assert (mount.auths / "a.json").read_bytes() == token(1)


def test_stopping_between_a_truncate_and_its_write_changes_nothing(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    with left_open(mount.auths / "a.json", os.O_WRONLY | os.O_TRUNC):
        assert (mount.auths / "a.json").stat().st_size == 0
        assert mount.stop() == 0
    assert stored(mount) == token(1)
    assert mount.kept("conflicts") == {}


def test_stopping_keeps_closed_scratch(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    with open(mount.auths / "a.json", "wb", buffering=0) as file:
        file.write(b"no document")
        with pytest.raises(OSError, match="Invalid"):
            file.close()
    assert mount.stop() == 0
    assert stored(mount) == token(1)
    assert [*mount.kept("conflicts").values()] == [b"no document"]


def test_stopping_without_a_backend_keeps_the_change_for_the_next_start(mounts: Mounts) -> None:
    machine = mounts("a", "--deadline", "5")
    (machine.auths / "a.json").write_bytes(token(1))
    machine.fault("commit.fail-before")
    with left_open(machine.auths / "a.json", os.O_RDWR) as fd:
        os.write(fd, token(2))
        assert machine.stop() == 0
    assert stored(machine) == token(1)
    assert "1 changes are not sent" in machine.log()
    (machine.control / "commit.fail-before").unlink()
    machine.start()
    until(lambda: stored(machine) == token(2), "it is sent")


def test_stopping_while_the_backend_hangs_does_not_hang(mounts: Mounts) -> None:
    machine = mounts("a", "--deadline", "5", "--stop-timeout", "3")
    (machine.auths / "a.json").write_bytes(token(1))
    machine.fault("commit.hang")
    with left_open(machine.auths / "a.json", os.O_RDWR) as fd:
        os.write(fd, token(2))
        assert machine.stop() == 0
    assert not mounted(machine.path)
    assert [*machine.kept("conflicts").values()] == [token(2)]


def test_an_impatient_second_signal_harms_nothing(mounts: Mounts) -> None:
    machine = mounts("a", "--deadline", "20")
    (machine.auths / "a.json").write_bytes(token(1))
    hang = machine.fault("commit.hang")
    sent = len(machine.commits())
    with left_open(machine.auths / "a.json", os.O_RDWR) as fd:
        os.write(fd, token(2))
        process = machine.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        until(lambda: len(machine.commits()) > sent, "the change is on its way")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            process.send_signal(number)
        hang.unlink()
        assert process.wait(30) == 0
        machine.process = None
    assert not mounted(machine.path)
    assert stored(machine) == token(2)


def test_stopping_commits_a_delete_that_was_held_back(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    (mount.auths / "a.json").rename(mount.auths / "a.json~")
    assert mount.stop() == 0
    assert not (mount.store / "auths/a.json").exists()
    mount.start()
    assert tree_of(mount.path).keys() == {"auths/a.json~", "config/config.yaml"}


def test_a_crash_undoes_a_delete_that_was_held_back(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    (mount.auths / "a.json").rename(mount.auths / "a.json~")
    mount.kill()
    mount.start()
    assert (mount.auths / "a.json").read_bytes() == token(1)
    assert (mount.auths / "a.json~").read_bytes() == token(1)


def test_unmounting_from_outside_ends_the_daemon(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    (mount.auths / "b.json").write_bytes(token(2))
    (mount.auths / "b.json").rename(mount.auths / "b.json~")
    subprocess.run(["fusermount3", "-u", mount.path], check=True)
    assert mount.process is not None
    assert mount.process.wait(30) == 0
    mount.process = None
    assert tree_of(mount.store).keys() == {"auths/a.json", "config/config.yaml"}
    assert "Traceback" not in mount.log()


def test_an_open_file_outlives_a_lazy_unmount(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(token(1))
    with open(mount.auths / "a.json", "r+b", buffering=0) as file:
        subprocess.run(["fusermount3", "-uz", mount.path], check=True)
        file.write(token(2))
    assert stored(mount) == token(2)
    assert mount.process is not None
    assert mount.process.wait(30) == 0
    mount.process = None


def test_a_signal_while_the_backend_hangs_at_the_start(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    put(machine.root, "auths/a.json", token(1))
    hang = machine.fault("snapshot.hang")
    with launched(machine) as process:
        until(lambda: handles(process.pid, signal.SIGTERM), "the first look has begun", 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
        assert not mounted(machine.path)
    hang.unlink()
    with machine:  # still its first start: what lies in the root is taken in
        assert stored(machine) == token(1)


def test_stopping_in_the_middle_of_many_events(mounts: Mounts, tmp_path: Path) -> None:
    machine = mounts("a")
    names = {f"{number}.json" for number in range(3000)}
    for name in names:
        put(tmp_path / "store", f"auths/{name}", token(name))
    until(lambda: len(os.listdir(machine.auths)) > 100, "events are being raised")
    assert machine.stop() == 0
    machine.start()
    assert {*os.listdir(machine.auths)} == names
    assert machine.status()["found"] == 0


def test_stopping_while_programs_write(mount: Mount) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(mount.auths / f"{number}-%d.json")],
            stderr=subprocess.DEVNULL,
        )
        for number in range(3)
    ]
    try:
        until(lambda: len(os.listdir(mount.auths)) == 60, "they write")
        assert mount.stop() == 0
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert "Traceback" not in mount.log()
    assert {*tree_of(mount.store).values()} >= {b"{}"}
