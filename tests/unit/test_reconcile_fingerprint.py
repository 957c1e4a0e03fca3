"""Backends that can tell that nothing has changed are not listed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from storefs.backends.contract import Watcher
from storefs.backends.memory import Memory
from storefs.reconcile import _PASSES
from tests.machines import remote
from tests.unit.world import later, world

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from trio.testing import MockClock

    from storefs.backends.contract import Entry
    from tests.machines import Machine
    from tests.unit.world import World

A, B = "auths/a.json", "auths/b.json"
ONE, TWO = b'{"n": 1}', b'{"n": 2}'
INTERVAL = 61.0


class Marked(Memory):
    """Memory with a fingerprint, which `blank` takes away."""

    blank = False

    def fingerprint(self) -> str:
        """See Fingerprinted.fingerprint."""
        return "" if Marked.blank else str(sorted(self._listed().items()))

    def _listed(self) -> dict[str, Entry]:
        return dict(super().snapshot())


async def begun(it: World) -> Machine:
    """A machine that has listed everything once since its start."""
    it.memory = Marked()
    remote(it.memory, A, ONE)
    machine = await it.machine()
    await later(it, machine, INTERVAL)
    return machine


async def listed(it: World, machine: Machine, seconds: float = INTERVAL) -> int:
    """How many listings there are when so much time has passed."""
    before = it.faults(machine).calls["snapshot"]
    await later(it, machine, seconds)
    return it.faults(machine).calls["snapshot"] - before


def lose_hint(it: World, machine: Machine) -> None:
    """Nobody hears what the backend has just said."""
    watcher = it.faults(machine)
    assert isinstance(watcher, Watcher)
    assert watcher.wait(0)


async def test_what_is_as_it_was_is_not_listed(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await begun(it)
        assert await listed(it, machine) == 0
        remote(it.memory, B, TWO)
        lose_hint(it, machine)
        assert await listed(it, machine) == 1
        assert machine.content(B) == TWO
        assert await listed(it, machine) == 0


async def test_not_for_ever(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await begun(it)
        assert [await listed(it, machine) for _ in range(_PASSES + 2)] == [0] * _PASSES + [1, 0]


async def test_a_store_that_cannot_tell_is_listed(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await begun(it)
        monkeypatch.setattr(Marked, "blank", True)
        assert [await listed(it, machine) for _ in range(2)] == [1, 1]


async def test_after_a_failure_it_is_listed(tmp_path: Path, mock_clock: MockClock) -> None:
    """What the failed pass has seen is not taken in."""
    async with world(tmp_path, mock_clock) as it:
        machine = await begun(it)
        remote(it.memory, A, TWO)
        lose_hint(it, machine)
        it.faults(machine).at("read", it.faults(machine).calls["read"] + 1, "fail-before")
        assert await listed(it, machine) == 1
        assert machine.content(A) == ONE
        assert await listed(it, machine) == 1
        assert machine.content(A) == TWO


async def test_who_asks_for_a_sync_gets_a_listing(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await begun(it)
        it.nursery.start_soon(machine.reconcile.run)
        await trio.testing.wait_all_tasks_blocked()
        before = it.faults(machine).calls["snapshot"]
        await machine.reconcile.sync(accept_deletions=False)
        assert it.faults(machine).calls["snapshot"] == before + 1


async def test_a_deletion_that_is_not_believed_yet_is_looked_at_again(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = Marked()
        for number in range(10):
            remote(it.memory, f"auths/{number}.json", ONE)
        machine = await it.machine()
        await later(it, machine, INTERVAL)
        for number in range(9):
            remote(it.memory, f"auths/{number}.json", None)
        await machine.settle()
        assert [await listed(it, machine) for _ in range(2)] == [1, 1]
        await machine.raise_all()
        assert machine.listing("auths") == ["9.json"]
