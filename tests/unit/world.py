"""One store in memory and machines over it, for tests without a kernel."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.backends.memory import Memory
from tests.faults import Faults
from tests.machines import Machine, follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock


class World:
    """The store, and whoever is started; time is the clock's."""

    def __init__(self, place: Path, clock: MockClock, nursery: trio.Nursery) -> None:
        self.place, self.clock, self.nursery = place, clock, nursery
        self.memory = Memory()
        self.started: list[Machine] = []

    async def machine(self, name: str = "a", **settings: object) -> Machine:
        """Start one; `fresh` roots by name, so a second one of a name is the next start."""
        machine = Machine(self.place / name, Faults(self.memory.session()), **settings)
        self.started.append(machine)
        return await machine.start(self.nursery)

    def faults(self, machine: Machine) -> Faults:
        """What spoils the calls of one machine."""
        assert isinstance(machine.backend, Faults)
        return machine.backend

    def kill(self, machine: Machine) -> None:
        """No stop; its root is free again."""
        self.started.remove(machine)
        machine.kill()

    async def stop(self, machine: Machine) -> None:
        """As SIGTERM does it."""
        self.started.remove(machine)
        await machine.stop()


async def later(it: World, machine: Machine, seconds: float) -> None:
    """Time passes, then everything that is due happens."""
    it.clock.jump(seconds)
    await machine.tick()
    await machine.settle()


@asynccontextmanager
async def world(place: Path, clock: MockClock) -> AsyncIterator[World]:
    """A world that ends with the test."""
    with pytest.MonkeyPatch.context() as patch:
        follow(clock, patch)
        async with trio.open_nursery() as nursery:
            made = World(place, clock, nursery)
            try:
                yield made
            finally:
                for machine in made.started:
                    machine.kill()
            nursery.cancel_scope.cancel()
