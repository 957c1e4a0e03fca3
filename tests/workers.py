"""The raises of a machine without a kernel: recorded, and made when the test says so."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from storefs.errors import EntryExists, StorefsError
from storefs.paths import ancestors
from storefs.raising import Event, Raise, Raiser

if TYPE_CHECKING:
    from tests.machines import Machine


class Workers(Raiser):
    """Keeps the raises that were asked for; `perform` makes one, as a worker would."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), "", lambda ino: None)
        self.wanted: dict[tuple[Event, str], Raise] = {}
        self.log: list[tuple[Event, str]] = []
        """What arose as an event."""
        self._tids = count(1000)
        self._current: Raise | None = None

    def request(self, wanted: Raise) -> None:
        if not self._stop.is_set():
            self.wanted[wanted.event, wanted.path] = wanted

    def wants(self, event: Event, path: str) -> bool:
        now = self._current
        return (event, path) in self.wanted or (
            now is not None and (now.event, now.path) == (event, path)
        )

    async def perform(self, machine: Machine, wanted: Raise) -> bool:
        """Make the call; whether the event arose."""
        tid = next(self._tids)
        self._expected[tid] = self._current = wanted
        try:
            event = await self._made(machine, wanted, tid)
        except (StorefsError, OSError):
            return False
        finally:
            del self._expected[tid]
            self._current = None
        self.log.append((event, wanted.path))
        return True

    async def _made(self, machine: Machine, wanted: Raise, tid: int) -> Event:
        path = wanted.path
        if wanted.event is Event.MODIFIED:
            machine.documents.former.pop(wanted.ino, None)  # as the worker's `invalidate` does
            await machine.touch(path, tid)
        elif wanted.event is Event.REMOVED:
            await machine.unlink(path, tid)
        else:
            for directory in ancestors(path):
                with suppress(EntryExists):
                    await machine.mkdir(directory, tid)
            parent, name = machine.resolve(path)
            try:
                machine.vfs.remember(machine.vfs.names.mknod(parent, name, 0o100600, tid))
            except EntryExists:
                ino = machine.vfs.names.existing(parent, name).ino
                self._expected[tid] = Raise(Event.MODIFIED, path, wanted.generation, ino)
                await machine.touch(path, tid)
                return Event.MODIFIED
            machine.forget(path)
        return wanted.event
