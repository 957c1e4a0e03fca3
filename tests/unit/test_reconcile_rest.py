"""A machine that has more to take in than it can does so less often, and each change once."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import trio
import trio.testing

from storefs.backends.contract import Put
from storefs.backends.memory import Memory
from tests.machines import remote
from tests.unit.test_mirror import writer_held
from tests.unit.world import world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from storefs.backends.contract import Blob
    from tests.machines import Machine
    from tests.unit.world import World

A, B = "auths/a.json", "auths/b.json"
ONE, TWO, THREE = b'{"n": 1}', b'{"n": 2}', b'{"n": 3}'
PATIENCE = 20.0


class Slow(Memory):
    """Memory whose every read takes a tenth of a second."""

    clock: MockClock

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read."""
        Slow.clock.jump(0.1)
        return super().read(paths)


async def followed(it: World) -> Machine:
    """A machine that hears of changes, with a slow backend."""
    Slow.clock = it.clock
    it.memory = Slow()
    machine = await it.machine()
    await machine.settle()  # of the config that the start has made
    it.nursery.start_soon(machine.reconcile.run)
    it.nursery.start_soon(machine.reconcile.watch)
    assert await trio.to_thread.run_sync(it.faults(machine).reached, "wait", 1, PATIENCE)
    return machine


async def holds(machine: Machine, path: str, data: bytes) -> None:
    """Wait until the mirror has it, and whoever brought it waits for more."""
    end = perf_counter() + PATIENCE  # of real time
    while path not in machine.mirror.records or machine.mirror.content(path) != data:
        assert perf_counter() < end, f"{path} did not arrive"
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()


async def written(machine: Machine) -> None:
    """Wait until the mirror's disk has it, and whoever waited for that rests."""
    machine.mirror.written().result(PATIENCE)
    await trio.testing.wait_all_tasks_blocked(0.05)


async def test_after_several_slow_changes_it_rests(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await followed(it)
        it.memory.commit([[Put(A, ONE, None), Put(B, ONE, None)]], 5.0)
        await holds(machine, B, ONE)
        await written(machine)
        reads = it.faults(machine).calls["read"]
        for data in (TWO, THREE, ONE, THREE):
            it.memory.commit([[Put(A, data, it.memory.snapshot()[A].revision)]], 5.0)
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert it.faults(machine).calls["read"] == reads
        it.clock.jump(0.5)
        await holds(machine, A, THREE)
        # One hint may have come before the rest began, and those of the others after it.
        assert it.faults(machine).calls["read"] <= reads + 2


async def test_it_waits_for_its_own_disk(tmp_path: Path, mock_clock: MockClock) -> None:
    """Or what the disk does not bear would pile up in memory, and hold up the end of the mount."""
    async with world(tmp_path, mock_clock) as it:
        machine = await followed(it)
        with writer_held(machine.mirror):
            it.memory.commit([[Put(A, ONE, None), Put(B, ONE, None)]], 5.0)
            await holds(machine, B, ONE)
            reads = it.faults(machine).calls["read"]
            it.memory.commit([[Put(A, TWO, it.memory.snapshot()[A].revision)]], 5.0)
            it.clock.jump(1.0)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert it.faults(machine).calls["read"] == reads
        await written(machine)
        it.clock.jump(0.5)
        await holds(machine, A, TWO)


async def test_one_slow_change_is_followed_by_the_next(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await followed(it)
        for data in (ONE, TWO, THREE):
            remote(it.memory, A, data)
            await holds(machine, A, data)


async def test_a_sync_asked_for_meanwhile_does_not_wait(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await followed(it)
        hanging = it.faults(machine).calls["read"] + 1
        it.faults(machine).at("read", hanging, "hang")
        it.memory.commit([[Put(A, ONE, None), Put(B, ONE, None)]], 5.0)
        assert await trio.to_thread.run_sync(it.faults(machine).reached, "read", hanging, PATIENCE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.reconcile.sync, False)
            await trio.testing.wait_all_tasks_blocked()
            it.clock.jump(0.1)
            it.faults(machine).release()
        assert machine.mirror.content(B) == ONE


async def test_who_asks_for_a_sync_does_not_wait(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await followed(it)
        it.memory.commit([[Put(A, ONE, None), Put(B, ONE, None)]], 5.0)
        await holds(machine, B, ONE)
        remote(it.memory, A, TWO)
        await machine.reconcile.sync(accept_deletions=False)
        assert machine.mirror.content(A) == TWO
