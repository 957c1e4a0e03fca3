"""The first synchronisation: what lies on disk and what the backend holds become one tree."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.backends.memory import Memory
from storefs.errors import Exit, Quit
from storefs.inodes import Kind
from tests.faults import Faults
from tests.machines import CONFIG, Machine, remote, stored
from tests.unit.world import world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from storefs.backends.contract import Blob
    from tests.unit.world import World

A, B, C = "auths/a.json", "auths/b.json", "auths/d/c.json"
ONE, TWO, THREE = b'{"n": 1}', b'{"n": 2}', b'{"n": 3}'


def lay(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


class Asked(Memory):
    """A Memory that tells which contents were asked for, by whatever session."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        self.asked += paths
        return super().read(paths)


async def seen(it: World, files: dict[str, bytes]) -> Path:
    """A root that has seen these documents, and is closed; returns its path."""
    for path, data in files.items():
        remote(it.memory, path, data)
    machine = await it.machine()
    await it.stop(machine)
    return machine.root.path


async def test_an_empty_backend_gets_a_config(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        one = await it.machine("one")
        two = await it.machine("two")
        assert one.tree() == two.tree() == stored(it.memory)
        assert stored(it.memory).keys() == {CONFIG}


async def test_a_part_or_a_reader_makes_no_config(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        await it.machine("part", subdir="auths")
        await it.machine("reader", read_only=True)
        assert stored(it.memory) == {}


async def test_a_new_root_over_an_empty_backend_takes_its_files_in(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, mock_clock) as it:
        lay(tmp_path / "a/root", {A: ONE, C: b"not json", CONFIG: b"port: 1\n", "auths/x": b"x"})
        machine = await it.machine()
        assert stored(it.memory) == {A: ONE, CONFIG: b"port: 1\n"}
        assert machine.tree() == stored(it.memory)
        assert machine.tree(Kind.LOCAL) == {"auths/x": b"x"}
        assert machine.kept("found") == [b"not json"]
        assert f"{C}: left out" in caplog.text


async def test_a_new_root_over_a_backend_with_documents_sends_nothing(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        for path in (A, CONFIG):
            remote(it.memory, path, ONE)
        before = stored(it.memory)
        lay(tmp_path / "a/root", {A: TWO, B: THREE})
        machine = await it.machine()
        assert stored(it.memory) == before == machine.tree()
        assert sorted(machine.kept("found")) == [TWO, THREE]


async def test_a_file_equal_to_the_document_is_just_that(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        lay(tmp_path / "a/root", {A: ONE})
        machine = await it.machine()
        assert machine.kept("found") == []
        assert machine.content(A) == ONE


async def test_the_next_start_asks_for_what_changed_only(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = Asked()
        await seen(it, {A: ONE, B: ONE})
        remote(it.memory, B, TWO)
        remote(it.memory, C, THREE)
        memory.asked.clear()
        machine = await it.machine()
        assert sorted(memory.asked) == [B, C]
        assert machine.tree() == stored(it.memory)
        assert machine.workers.log == []


async def test_a_torn_copy_is_fetched_again(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        root = await seen(it, {A: ONE, B: TWO, C: THREE})
        (root / A).write_bytes(b"")
        (root / C).unlink()
        machine = await it.machine()
        assert machine.tree() == stored(it.memory)
        assert machine.kept("found") == []


async def test_bytes_the_index_does_not_explain_go_to_found(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        root = await seen(it, {A: ONE})
        lay(root, {A: TWO, B: THREE})
        before = stored(it.memory)
        machine = await it.machine()
        assert stored(it.memory) == before == machine.tree()
        assert sorted(machine.kept("found")) == [TWO, THREE]


async def test_a_crash_before_the_file_was_replaced_is_explained(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Row written, file not yet: the previous bytes are nobody's edit."""
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        remote(it.memory, A, TWO)
        await machine.settle()
        await it.stop(machine)
        (machine.root.path / A).write_bytes(ONE)
        machine = await it.machine()
        assert machine.content(A) == TWO
        assert machine.kept("found") == []


async def test_a_crash_before_the_file_of_a_pending_change_was_replaced(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The bytes that wait are the mirror's too: once they are sent, nobody else has them here."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        machine.mirror.submit(lambda: None).result(20)  # on the disk
        it.faults(machine).always("commit", "fail-before")
        await machine.put(A, TWO)
        it.kill(machine)
        (machine.root.path / A).write_bytes(ONE)
        machine = await it.machine()
        await machine.tick()
        assert stored(it.memory)[A] == TWO
        assert machine.content(A) == TWO
        await machine.put(A, THREE)
        assert stored(it.memory)[A] == THREE
        assert machine.kept("found") == machine.kept("conflicts") == []


async def test_a_crash_while_offline_leaves_what_was_committed_before(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A pending change is acknowledged when the mirror's disk has all that came before it."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        acknowledged = threading.Event()
        too_early = machine.mirror.submit(lambda: acknowledged.wait(0.5))
        await machine.put(A, ONE)
        it.faults(machine).always("commit", "fail-before")
        await machine.put(B, ONE)
        acknowledged.set()
        assert not too_early.result(20)
        assert (machine.root.path / A).read_bytes() == ONE


async def test_a_crash_does_not_bring_back_what_was_sent(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A change of the same path is not acknowledged before the pending one is gone from disk."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        it.faults(machine).always("commit", "fail-before")
        await machine.put(A, TWO)
        it.faults(machine).clear()
        await machine.mount.stack.store.snapshot()  # it answers again
        acknowledged = threading.Event()
        too_early = machine.documents.pending._thread.submit(acknowledged.wait, 0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.tick)
            while stored(it.memory)[A] != TWO:
                await trio.lowlevel.checkpoint()
            await machine.put(A, THREE)
            acknowledged.set()
        assert not too_early.result(20)
        assert stored(it.memory)[A] == THREE
        it.kill(machine)
        machine = await it.machine()
        await machine.tick()
        assert machine.content(A) == stored(it.memory)[A] == THREE
        assert machine.kept("conflicts") == []


async def test_what_vanished_meanwhile_goes_without_an_event(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        root = await seen(it, {A: ONE, B: TWO})
        remote(it.memory, A, None)
        machine = await it.machine()
        assert machine.tree() == stored(it.memory)
        assert machine.kept("trash") == [ONE]
        assert not (root / A).exists()
        assert machine.workers.log == []


async def test_a_lost_index_is_rebuilt_from_the_backend(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        root = await seen(it, {A: ONE, B: TWO})
        for file in (root / ".storefs").glob("index.sqlite*"):
            file.unlink()
        remote(it.memory, B, THREE)
        machine = await it.machine()
        assert machine.tree() == stored(it.memory)
        assert machine.kept("found") == [TWO]  # nobody can say any more what it was


async def test_local_files_and_directories_are_there_again(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.mkdir("auths/empty")
        await machine.put("auths/notes.txt", b"text")
        it.kill(machine)
        machine = await it.machine()
        assert "empty" in machine.listing("auths")
        assert machine.tree(Kind.LOCAL) == {"auths/notes.txt": b"text"}


async def test_a_kill_undoes_scratch_and_a_delete_held_back(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        await machine.put(B, TWO)
        await machine.rename(A, "auths/a.json~")
        await machine.put(B, b"")
        it.kill(machine)
        machine = await it.machine()
        assert machine.tree() == stored(it.memory)
        assert (machine.content(A), machine.content(B)) == (ONE, TWO)
        assert machine.content("auths/a.json~") == ONE


async def test_a_stop_sends_what_was_written_and_not_closed(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        await machine.put(B, TWO)
        await machine.truncate(A, 0)
        await machine.truncate(B, 1)
        fh = machine.open(A, 1)
        machine.vfs.write(fh, 0, THREE)
        await it.stop(machine)
        assert stored(it.memory)[A] == THREE
        machine = await it.machine()
        assert machine.content(B) == TWO
        assert machine.kept("conflicts") == [b"{"]


async def test_an_unreadable_backend_ends_the_start_and_leaves_the_root_fresh(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        lay(tmp_path / "a/root", {A: ONE})
        faults = Faults(it.memory.session())
        faults.always("snapshot", "fail-before")
        machine = Machine(it.place / "a", faults)
        it.started.append(machine)
        with pytest.raises(Quit) as quit_:
            await machine.start(it.nursery)
        assert quit_.value.code is Exit.UNREACHABLE
        it.kill(machine)
        machine = await it.machine()
        assert stored(it.memory)[A] == ONE


async def test_two_first_configs_at_once_are_one(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        made: list[Machine] = []

        async def start(name: str) -> None:
            made.append(await it.machine(name))

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(start, f"m{number}")
        for machine in made:
            await machine.settle()
            assert machine.tree() == stored(it.memory)
