"""Changes made elsewhere: what is installed, what is raised, and when a name goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs.errors import BackendFailed
from storefs.inodes import Kind
from storefs.raising import Event
from tests.machines import CONFIG, remote, stored
from tests.unit.world import later, world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


A, B = "auths/a.json", "auths/d/b.json"
ONE, TWO = b'{"n": 1}', b'{"n": 2}'
CREATED, MODIFIED, REMOVED = Event.CREATED, Event.MODIFIED, Event.REMOVED


async def test_a_new_document_appears_by_its_raise(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, B, ONE)
        machine.hear()
        await machine.reconcile.once()
        assert machine.content("auths/d") is None
        assert machine.listing("auths") == []
        assert list(machine.workers.wanted) == [(CREATED, B)]
        await machine.raise_all()
        assert machine.workers.log == [(CREATED, B)]
        assert machine.content(B) == ONE
        assert machine.stat(B).size == len(ONE)


async def test_a_change_is_there_before_its_event_with_the_same_inode(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        before = machine.stat(A)
        remote(it.memory, A, TWO + b"  ")
        machine.hear()
        await machine.reconcile.once()
        now = machine.stat(A)
        assert machine.content(A) == TWO + b"  "
        assert (now.ino, now.size) == (before.ino, len(TWO) + 2)
        assert now.mtime_ns > before.mtime_ns
        await machine.raise_all()
        assert machine.workers.log == [(MODIFIED, A)]
        assert machine.kept("trash") == [ONE]


async def test_an_own_commit_raises_nothing(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        await machine.settle()
        await machine.unlink(A)
        await later(it, machine, 2)
        assert machine.workers.log == []


async def test_a_deletion_is_believed_a_second_later(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        remote(it.memory, A, None)
        await machine.settle()
        await later(it, machine, 0.9)
        assert machine.content(A) == ONE
        assert not machine.workers.log
        await later(it, machine, 0.2)
        assert machine.workers.log == [(REMOVED, A)]
        assert machine.content(A) is None
        assert machine.kept("trash") == [ONE]


async def test_deleted_and_made_again_is_modified(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        ino = machine.stat(A).ino
        remote(it.memory, A, None)
        await machine.settle()
        it.clock.jump(0.9)
        remote(it.memory, A, TWO)
        await later(it, machine, 0.5)
        await later(it, machine, 5)
        assert machine.workers.log == [(MODIFIED, A)]
        assert (machine.stat(A).ino, machine.content(A)) == (ino, TWO)


async def test_two_removals_of_a_name_are_1_1_seconds_apart(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, ONE)
        remote(it.memory, A, None)
        await machine.settle()
        it.clock.jump(0.8)
        await machine.unlink(A)  # the program's own IN_DELETE
        remote(it.memory, A, TWO)
        await machine.settle()
        assert machine.workers.log == [(CREATED, A)]
        remote(it.memory, A, None)
        machine.hear()
        await machine.reconcile.once()
        machine.reconcile.removals.vanishing.absent[A] -= 1  # believed at once
        await later(it, machine, 0.2)
        assert machine.content(A) == TWO
        for _ in range(4):
            await later(it, machine, 0.6)
        assert machine.workers.log == [(CREATED, A), (REMOVED, A)]


async def test_regression_a_document_deleted_on_both_sides(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The belief in the remote deletion came when there was nothing left to remove."""
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, A, ONE)
        machine = await it.machine()
        remote(it.memory, A, None)
        await machine.settle()
        await machine.unlink(A)
        await later(it, machine, 2)
        assert machine.workers.log == []
        assert not machine.reconcile.removals.vanishing.absent


async def test_a_local_file_makes_room(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put("auths/odd", b"mine")
        remote(it.memory, "auths/odd", b"theirs")
        await machine.settle()
        assert machine.content("auths/odd") == b"theirs"
        assert machine.kept("found") == [b"mine"]
        assert machine.workers.log == [(MODIFIED, "auths/odd")]
        assert "auths/odd" not in machine.tree(Kind.LOCAL)


async def test_a_file_wins_over_deeper_names(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, A, ONE)
        remote(it.memory, f"{A}/c.json", TWO)
        for _ in range(3):
            machine.documents.marks.mark_everything()
            await machine.settle()
        assert machine.tree().keys() == {CONFIG, A}
        assert list(machine.reconcile.admission.skipped) == [f"{A}/c.json"]
        assert caplog.text.count("is not shown") == 1


async def test_the_config_is_never_unlinked(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        for path in (A, "auths/b.json"):
            await machine.put(path, ONE)
        before = machine.content(CONFIG)
        remote(it.memory, CONFIG, None)
        await machine.settle()
        await later(it, machine, 1.2)
        assert machine.content(CONFIG) == before
        assert "the next save restores it" in caplog.text
        assert machine.workers.log == []
        await machine.put(CONFIG, b"port: 1\n")
        assert stored(it.memory)[CONFIG] == b"port: 1\n"


async def test_a_backend_that_fails_is_asked_again(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, A, ONE)
        it.faults(machine).at("read", it.faults(machine).calls["read"] + 1, "fail-before")
        await machine.settle()
        assert machine.content(A) is None
        await machine.settle()  # not before a second has passed
        assert machine.content(A) is None
        await later(it, machine, 1.1)
        assert machine.content(A) == ONE


async def test_sync_returns_when_everything_is_taken_in(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        it.nursery.start_soon(machine.reconcile.run)
        await trio.testing.wait_all_tasks_blocked()
        remote(it.memory, A, ONE)
        await machine.reconcile.sync(accept_deletions=False)
        assert (CREATED, A) in machine.workers.wanted


async def test_regression_a_sync_does_not_outlive_the_mount(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A stop took as long as the sync would have waited: four deadlines."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        faults, said = it.faults(machine), list[str]()

        async def ask() -> None:
            with pytest.raises(BackendFailed) as refusal:
                await machine.reconcile.sync(accept_deletions=False)
            said.append(str(refusal.value))

        hung = faults.calls["snapshot"] + 1
        faults.at("snapshot", hung, "hang")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.reconcile.run)
            await trio.testing.wait_all_tasks_blocked()
            it.nursery.start_soon(ask)
            assert await trio.to_thread.run_sync(faults.reached, "snapshot", hung, 30.0)
            it.nursery.start_soon(ask)  # too late for this look
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await ask()
        await trio.testing.wait_all_tasks_blocked()
        faults.release()
        assert said == ["memory:memory: the mount is ending"] * 3


async def test_a_sync_that_meets_a_fault_is_told_so(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the mount is ending: it goes on, and so does the next sync."""

    async def fail() -> None:
        raise RuntimeError("broken on purpose")

    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        said: list[str] = []

        async def ask() -> None:
            with pytest.raises(BackendFailed) as refusal:
                await machine.reconcile.sync(accept_deletions=False)
            said.append(str(refusal.value))

        with monkeypatch.context() as broken:
            broken.setattr(type(machine.reconcile.removals), "settle", lambda _: fail())
            it.nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError):
                await machine.reconcile.run()
        await ask()  # until it is begun again
        await trio.testing.wait_all_tasks_blocked()
        assert said == ["memory:memory: a fault nobody expected; see this machine's log"] * 2
        it.nursery.start_soon(machine.reconcile.run)
        await trio.testing.wait_all_tasks_blocked()
        await machine.reconcile.sync(accept_deletions=False)
