"""The mirror's disk is full: local files say so, documents go on, nothing is torn. Needs root."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import storefs, until
from tests.mount.processes import put, token, tree_of
from tests.mount.tools import Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")

BIG = "x" * 60_000


@pytest.fixture
def machine(mounts: Mounts, tmp_path: Path) -> Iterator[Mount]:
    """One whose root is a disk of 1 MiB."""
    machine = mounts("a", "--deadline", "3", start=False)
    machine.root = tmp_path / "disk"
    machine.root.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "storefs-test", str(machine.root)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        with machine:
            yield machine
    finally:
        subprocess.run(["umount", "--lazy", machine.root], check=True)


def fill(machine: Mount) -> int:
    """Write a local file until the disk is full; returns the errno that said so."""
    fd = os.open(machine.auths / "big.tmp", os.O_WRONLY | os.O_CREAT, 0o600)
    code = 0
    try:
        for size in (4096, 1):
            code = _write_until_refused(fd, bytes(size))
    finally:
        os.close(fd)
    return code


def _write_until_refused(fd: int, piece: bytes) -> int:
    for _ in range(10_000):
        try:
            os.write(fd, piece)
        except OSError as error:
            return error.errno or 0
    raise AssertionError("the disk is never full")


def test_a_local_file_is_told_that_the_disk_is_full(machine: Mount) -> None:
    log = Log(machine)
    assert fill(machine) == errno.ENOSPC
    log.expect("WARNING", "write", "No space left on device", "auths/big.tmp")
    (machine.auths / "big.tmp").unlink()
    (machine.auths / "small.tmp").write_bytes(b"there is room again")
    assert (machine.root / "auths/small.tmp").read_bytes() == b"there is room again"


def test_documents_still_reach_the_store(machine: Mount) -> None:
    log = Log(machine)
    (machine.auths / "old.json").write_bytes(token("old" + BIG))
    fill(machine)
    (machine.auths / "new.json").write_bytes(token("new" + BIG))
    (machine.auths / "old.json").write_bytes(token("newer" + BIG))
    machine.config.write_bytes(b"port: 7\n")
    assert json.loads((machine.store / "auths/new.json").read_bytes())["access_token"][:3] == "new"
    assert (machine.auths / "new.json").read_bytes() == token("new" + BIG)
    assert (machine.auths / "old.json").read_bytes() == token("newer" + BIG)
    put(machine.store, "auths/theirs.json", token("theirs" + BIG))
    until((machine.auths / "theirs.json").exists, "what others write arrives")
    assert (machine.auths / "theirs.json").read_bytes() == token("theirs" + BIG)
    until(lambda: "disk" in str(machine.status()["warnings"]), "the status says so")
    log.expect("ERROR", "storefs.mirror", "free some space")
    assert "rollback" not in log.text(), "the cause is told, not what came of it"
    assert "the mirror's disk" in storefs(machine.home, "status", str(machine.path)).stdout
    (machine.auths / "old.json").unlink()
    assert not (machine.store / "auths/old.json").exists()


def test_what_no_disk_took_is_read_from_memory_whatever_its_size(machine: Mount) -> None:
    assert machine.stop() == 0
    machine.options += ("--cache-size", "1K")
    machine.start()
    fill(machine)
    (machine.auths / "a.json").write_bytes(token("a" + BIG))
    until(lambda: "disk" in str(machine.status()["warnings"]), "the disk did not take it")
    assert uncached(machine.auths / "a.json") == token("a" + BIG)
    (machine.auths / "big.tmp").unlink()
    (machine.auths / "a.json").write_bytes(token("b" + BIG))
    until(lambda: tree_of(machine.root).get("auths/a.json") == token("b" + BIG), "there is room")
    assert uncached(machine.auths / "a.json") == token("b" + BIG)


def uncached(file: Path) -> bytes:
    """What the daemon says, not the kernel."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def test_a_restart_after_a_full_disk_finds_everything_whole(machine: Mount) -> None:
    for number in range(5):
        (machine.auths / f"{number}.json").write_bytes(token(f"{number} old"))
    fill(machine)
    for number in range(5):
        (machine.auths / f"{number}.json").write_bytes(token(f"{number} new" + BIG))
    (machine.auths / "0.json").unlink()
    machine.kill()
    os.truncate(machine.root / "auths/big.tmp", 0)
    before = tree_of(machine.store)
    machine.start()
    assert tree_of(machine.store) == before
    for number in range(1, 5):
        assert (machine.auths / f"{number}.json").read_bytes() == token(f"{number} new" + BIG)
    assert not (machine.auths / "0.json").exists()
    assert machine.kept("found") == {}
    assert machine.status()["warnings"] == []


def test_with_neither_disk_nor_backend_the_writer_is_told_and_the_mount_lives(
    machine: Mount,
) -> None:
    (machine.auths / "a.json").write_bytes(token(1))
    fill(machine)
    fault, log = machine.fault("commit.fail-before"), Log(machine)
    with pytest.raises(OSError, match=r"No space|Input/output"):
        (machine.auths / "a.json").write_bytes(token("2" + BIG))
    log.expect("WARNING", "flush", "auths%2Fa.json", "No space left on device")
    fault.unlink()
    assert (machine.store / "auths/a.json").read_bytes() == token(1)
    (machine.auths / "a.json").write_bytes(token("3" + BIG))
    assert (machine.store / "auths/a.json").read_bytes() == token("3" + BIG)
    assert (machine.auths / "a.json").read_bytes() == token("3" + BIG)


def test_stopping_with_neither_disk_nor_backend_still_unmounts(machine: Mount) -> None:
    (machine.auths / "a.json").write_bytes(token(1))
    fill(machine)
    machine.fault("commit.fail-before")
    fd = os.open(machine.auths / "a.json", os.O_RDWR)
    try:
        os.write(fd, token("2" + BIG))
        assert machine.stop() == 0
    finally:
        with pytest.raises(OSError, match="not connected"):
            os.close(fd)
    assert not os.path.ismount(machine.path)
    assert (machine.store / "auths/a.json").read_bytes() == token(1)
