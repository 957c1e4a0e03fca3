"""Many deletions at once, an empty backend, and what `--accept-deletions` lets go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.raising import Event
from tests.machines import CONFIG, remote, stored
from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from trio.testing import MockClock

    from tests.machines import Machine
    from tests.unit.world import World

PATHS = [f"auths/{number}.json" for number in range(9)]


async def filled(it: World, lost: int) -> Machine:
    """A machine that has seen all documents, of which the backend then loses some."""
    for path in PATHS:
        remote(it.memory, path, b"{}")
    machine = await it.machine()
    for path in PATHS[:lost]:
        remote(it.memory, path, None)
    await machine.settle()
    return machine


async def snapshot(it: World, machine: Machine, seconds: float) -> None:
    it.clock.jump(seconds)
    machine.documents.marks.mark_everything()
    await machine.settle()


async def test_three_go_at_once(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await filled(it, 3)
        await snapshot(it, machine, 1.2)
        assert sorted(machine.workers.log) == sorted((Event.REMOVED, path) for path in PATHS[:3])


async def test_most_of_them_go_when_a_second_snapshot_agrees(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await filled(it, 5)
        await snapshot(it, machine, 1.2)
        await snapshot(it, machine, 20)
        assert machine.workers.log == []
        assert machine.mount.stack.vfs.control.status()["held_deletions"] == 5
        assert caplog.text.count("nothing is deleted here") == 1
        remote(it.memory, PATHS[0], b'{"back": 1}')
        await machine.settle()
        await snapshot(it, machine, 12)
        await snapshot(it, machine, 1.2)
        removed = [path for event, path in machine.workers.log if event is Event.REMOVED]
        assert sorted(removed) == PATHS[1:5]
        assert machine.tree() == stored(it.memory)
        assert machine.mount.stack.vfs.control.status()["held_deletions"] == 0


async def test_an_empty_backend_deletes_nothing_until_a_person_says_so(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await filled(it, len(PATHS))
        remote(it.memory, CONFIG, None)
        for seconds in (2, 31, 31, 31):
            await snapshot(it, machine, seconds)
        assert machine.workers.log == []
        assert machine.tree().keys() == {CONFIG, *PATHS}
        machine.documents.marks.accept_deletions = True
        await snapshot(it, machine, 1)
        assert machine.tree().keys() == {CONFIG}


async def test_the_same_holds_at_a_start(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await filled(it, 0)
        await it.stop(machine)
        for path in PATHS[:5]:
            remote(it.memory, path, None)
        machine = await it.machine()
        assert machine.tree().keys() == {CONFIG, *PATHS}
        await snapshot(it, machine, 1.2)
        await snapshot(it, machine, 31)
        await snapshot(it, machine, 1.2)
        assert machine.tree() == stored(it.memory)
