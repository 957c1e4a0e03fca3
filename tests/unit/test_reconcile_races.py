"""Remote changes that meet local ones: what is under way is not disturbed, what is old not used."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.backends.memory import Memory
from storefs.errors import Stale
from storefs.raising import Event
from tests.machines import remote, stored
from tests.unit.world import later, world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from storefs.backends.contract import Blob
    from tests.machines import Machine

A, B = "auths/a.json", "auths/d/b.json"
ONE, TWO, THREE, FOUR = (b'{"n": %d}' % number for number in range(1, 5))
MODIFIED = Event.MODIFIED


async def test_a_change_under_way_is_not_disturbed(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        fh = machine.open(A, os.O_WRONLY | os.O_TRUNC)
        remote(it.memory, A, TWO)
        await machine.settle()
        assert machine.content(A) == b""
        assert machine.documents.marks.deferred == {A}
        machine.vfs.write(fh, 0, THREE)
        with pytest.raises(Stale):
            await machine.close(fh)
        assert machine.kept("conflicts") == [THREE]
        await machine.settle()
        assert machine.content(A) == stored(it.memory)[A] == TWO
        assert machine.workers.log == [(MODIFIED, A)]


async def test_a_writer_that_has_not_written_counts_for_ten_seconds(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        fh = machine.open(A, os.O_WRONLY)
        remote(it.memory, A, TWO)
        await later(it, machine, 9)
        assert machine.content(A) == ONE
        await later(it, machine, 1.5)
        assert machine.content(A) == TWO
        with pytest.raises(Stale):
            machine.vfs.write(fh, 0, THREE)
        await machine.close(fh)
        assert stored(it.memory)[A] == TWO


async def test_a_raise_that_came_too_late_makes_no_event(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        remote(it.memory, A, TWO)
        machine.hear()
        await machine.reconcile.once()
        await machine.put(A, THREE)
        await machine.raise_all()
        assert machine.workers.log == []
        assert A in machine.documents.marks.dirty
        await machine.settle()
        assert machine.content(A) == stored(it.memory)[A] == THREE


async def test_regression_a_stale_handle_of_the_name_does_not_hide_the_new_document(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Writing to an unlinked file is no change of the name, which a new document may have."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        fh = machine.open(A, os.O_WRONLY)
        await machine.unlink(A)
        remote(it.memory, A, TWO)
        machine.hear()
        await machine.reconcile.once()
        machine.vfs.write(fh, 0, THREE)
        await machine.raise_all()
        await machine.close(fh)
        await machine.settle()
        await machine.settle()
        assert machine.content(A) == stored(it.memory)[A] == TWO


async def test_regression_a_hidden_document_whose_raise_failed_appears_later(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """As when its directory is removed between the worker's mkdir and its mknod."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, B, ONE)
        machine.hear()
        await machine.reconcile.once()
        machine.workers.wanted.clear()  # the call failed
        machine.documents.marks.mark_everything()
        await machine.settle()
        assert machine.content(B) == ONE


class Late(Memory):
    """A Memory one of whose answers to `read` is on its way until it is delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.delay_next = threading.Event()
        self.on_its_way = threading.Event()
        self.deliver = threading.Event()

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        answers = list(super().read(paths))
        if self.delay_next.is_set():
            self.delay_next.clear()
            self.on_its_way.set()
            self.deliver.wait()
        return iter(answers)


async def pass_with_late_answer(
    memory: Late, machine: Machine, nursery: trio.Nursery
) -> trio.Event:
    """Begin a pass whose answer is on its way; tells when the pass is over."""
    over = trio.Event()

    async def reconcile() -> None:
        await machine.reconcile.once()
        over.set()

    machine.hear()
    memory.delay_next.set()
    nursery.start_soon(reconcile)
    assert await trio.to_thread.run_sync(memory.on_its_way.wait, 30)
    return over


async def test_an_answer_older_than_an_own_commit_is_not_used(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = Late()
        remote(memory, A, ONE)
        machine = await it.machine()
        remote(memory, A, TWO)
        over = await pass_with_late_answer(memory, machine, it.nursery)
        with pytest.raises(Stale):
            await machine.put(A, THREE)
        await machine.put(A, FOUR)
        memory.deliver.set()
        await over.wait()
        assert machine.content(A) == FOUR
        await machine.settle()
        assert machine.content(A) == stored(memory)[A] == FOUR


async def test_an_answer_that_finds_a_program_about_to_write_waits(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = Late()
        remote(memory, A, ONE)
        machine = await it.machine()
        remote(memory, A, TWO)
        over = await pass_with_late_answer(memory, machine, it.nursery)
        fh = machine.open(A, os.O_RDWR)
        memory.deliver.set()
        await over.wait()
        assert machine.vfs.read(fh, 0, 100) == ONE
        assert machine.documents.marks.deferred == {A}
        await machine.close(fh)
        await machine.settle()
        assert machine.content(A) == TWO


async def test_an_answer_that_a_deleted_document_was_there_is_not_used(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = Late()
        remote(memory, A, ONE)
        machine = await it.machine()
        machine.documents.marks.mark([A])
        over = await pass_with_late_answer(memory, machine, it.nursery)
        await machine.unlink(A)
        memory.deliver.set()
        await over.wait()
        await machine.raise_all()
        assert machine.content(A) is None
        assert machine.workers.log == []


async def test_regression_who_read_before_a_conflict_does_not_write_after_it(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The conflict of one program settled the handles of all."""
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        patient = machine.open(A, os.O_RDWR)
        remote(it.memory, A, TWO)
        with pytest.raises(Stale):
            await machine.put(A, THREE)
        with pytest.raises(Stale):
            machine.vfs.write(patient, 0, FOUR)
        await machine.close(patient)
        assert stored(it.memory)[A] == TWO
