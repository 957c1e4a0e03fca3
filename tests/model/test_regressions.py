"""Orders of events that once went wrong, each in its shortest form."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from storefs.errors import BackendFailed, Busy, Stale
from tests.machines import CONFIG, remote, stored
from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.faults import Faults

A, B = "auths/a.json", "auths/b.json"
ODD = "auths/odd"
ONE, TWO = b'{"n": 1}', b'{"n": 2}'


def _cut(faults: Faults) -> None:
    """The backend is away."""
    faults.always("commit", "fail-before")
    faults.always("read", "fail-before")
    faults.always("snapshot", "fail-before")


async def test_regression_a_rename_of_equal_bytes_asks_for_the_target_too(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Only the delete of the old name was sent: the content was then nowhere any more."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        await machine.put(B, ONE)
        remote(it.memory, B, TWO)
        with pytest.raises(Busy):
            await machine.rename(A, B)
        assert stored(it.memory)[A] == machine.content(A) == ONE
        await machine.settle()
        assert machine.content(B) == TWO


async def test_regression_scratch_of_a_name_that_never_was_goes_away(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A name removed a moment ago, made again and refused: its removal has to wait."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine(offline="refuse")
        await machine.put(A, ONE)
        await machine.unlink(A)
        it.faults(machine).at("commit", it.faults(machine).calls["commit"] + 1, "fail-before")
        with pytest.raises(BackendFailed):
            await machine.put(A, TWO)
        for _ in range(5):
            it.clock.jump(1.2)
            await machine.settle()
        assert machine.tree() == stored(it.memory)
        assert machine.content(A) is None
        assert machine.kept("conflicts") == [TWO]


async def test_regression_a_truncated_document_is_committed_though_the_mount_ends(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The commit a second later had not begun yet."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE + b"   ")
        await machine.truncate(A, len(ONE))
        await it.stop(machine)
        assert stored(it.memory)[A] == ONE


async def test_regression_an_unflushed_write_is_committed_though_the_mount_ends(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Released without a flush, as after mmap."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        fh = machine.open(A, os.O_RDWR)
        machine.vfs.write(fh, 0, TWO)
        machine.vfs.release(fh)
        await it.stop(machine)
        assert stored(it.memory)[A] == TWO


async def test_what_no_flush_saw_is_committed_in_the_background(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        fh = machine.open(A, os.O_RDWR)
        machine.vfs.write(fh, 0, TWO)
        machine.vfs.release(fh)
        assert stored(it.memory)[A] == ONE
        await machine.tick()
        assert stored(it.memory)[A] == TWO


async def test_regression_a_conflict_copy_does_not_wait_for_the_mirrors_writer(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Under a flood of changes in the store a close took 9.7 s with a deadline of 5 s."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        remote(it.memory, A, TWO)
        flooded = threading.Event()
        machine.mirror.submit(lambda: flooded.wait(60))
        with pytest.raises(Stale):
            await machine.put(A, b'{"n": 3}')
        assert not flooded.is_set()
        flooded.set()
        assert machine.kept("conflicts") == [b'{"n": 3}']


async def test_regression_a_start_brings_no_config_back_whose_delete_is_pending(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        _cut(it.faults(machine))
        await machine.unlink(CONFIG)
        it.kill(machine)
        machine = await it.machine()
        assert machine.content(CONFIG) is None
        assert CONFIG in machine.documents.pending
        await machine.mount.stack.sending.drain()
        assert CONFIG not in stored(it.memory)


async def test_regression_a_create_in_doubt_is_no_base(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Made in doubt, removed and made again with the same bytes while the backend was away: it
    counted as unchanged when another machine had made the document meanwhile, and was lost."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        _cut(it.faults(machine))
        await machine.put(B, TWO)
        await machine.unlink(B)
        remote(it.memory, B, ONE)
        await machine.put(B, TWO)
        it.faults(machine).clear()
        await machine.settle()
        await machine.tick()
        assert stored(it.memory)[B] == TWO or TWO in machine.kept("conflicts")


@pytest.mark.parametrize("first", [ONE, None], ids=["a change", "a delete"])
async def test_regression_a_later_change_goes_over_ones_own_in_doubt(
    tmp_path: Path, mock_clock: MockClock, first: bytes | None
) -> None:
    """The backend held what this machine had sent without an answer: it took that for a change
    by another machine, and the later one of its own became a conflict copy."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, b'{"n": 0, "expired": "2026-01-01T00:00:00Z"}')
        faults = it.faults(machine)
        faults.always("read", "fail-before")
        faults.always("snapshot", "fail-before")
        faults.at("commit", faults.calls["commit"] + 1, "fail-after")
        if first is None:
            await machine.unlink(A)
        else:
            await machine.put(A, first)
        assert stored(it.memory).get(A) == first
        later = b'{"n": 0, "expired": "2026-01-02T00:00:00Z"}' if first is None else TWO
        await machine.put(A, later)
        faults.clear()
        await machine.settle()
        await machine.tick()
        assert stored(it.memory)[A] == machine.content(A) == later
        assert machine.kept("conflicts") == []


async def test_regression_the_same_where_it_was_sent_when_the_backend_answered_again(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Sent from the disk, again without an answer, and written once more before the next try."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, b'{"n": 0}')
        faults = it.faults(machine)
        _cut(faults)
        await machine.put(A, ONE)
        faults.clear()
        faults.at("commit", faults.calls["commit"] + 1, "fail-after")
        await machine.settle()
        await machine.tick()
        assert stored(it.memory)[A] == ONE
        assert A in machine.documents.pending
        it.kill(machine)
        machine = await it.machine()
        _cut(it.faults(machine))
        await machine.put(A, TWO)
        it.faults(machine).clear()
        await machine.settle()
        await machine.tick()
        assert stored(it.memory)[A] == machine.content(A) == TWO
        assert machine.kept("conflicts") == []


async def test_regression_a_local_file_takes_the_name_of_a_document_just_removed(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The mirror's writer had not removed the old file yet: EEXIST, or it took the new one."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, ODD, b"theirs")
        await machine.settle()
        busy = threading.Event()
        machine.mirror.submit(lambda: busy.wait(60))
        await machine.unlink(ODD)
        threading.Timer(0.05, busy.set).start()
        await machine.put(ODD, b"mine")
        machine.mirror.submit(lambda: None).result()
        assert machine.content(ODD) == b"mine"
        assert (machine.root.path / ODD).read_bytes() == b"mine"


async def test_regression_a_name_held_back_returns_as_the_document_it_was(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Its name alone makes no document: it was made as a local file, which failed with EEXIST."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, ODD, b"theirs")
        await machine.settle()
        await machine.rename(ODD, "auths/odd.bak")
        await machine.put(ODD, b"mine")
        assert stored(it.memory)[ODD] == machine.content(ODD) == b"mine"


async def test_regression_a_read_right_after_a_refusal_shows_the_version_that_stands(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """It showed the loser's bytes until the event of the other version was raised."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        fh = machine.open(A, os.O_RDWR)
        machine.vfs.write(fh, 0, TWO)
        remote(it.memory, A, b'{"n": 3}')
        with pytest.raises(Stale):
            await machine.vfs.fsync(fh)
        assert machine.content(A) == b'{"n": 3}'
        assert machine.kept("conflicts") == [TWO]
        machine.vfs.release(fh)
