"""A quicker way to wait for messages: look for the next one for a moment before going to sleep.

Waking a sleeping CPU costs more than answering most messages (measured: open, read and close
take half the time). pyfuse3 finds trio as an attribute of its own module, so `Waiting` can stand
in its place there: it is trio, but for the wait and for the lock around it.
"""

from __future__ import annotations

import os
import select
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TURN = 8
"""Messages in a row after which every other task that can run has its turn."""


def worthwhile() -> bool:
    """Whether this process may use more than one CPU; on one it would take it from programs."""
    return len(os.sched_getaffinity(0)) > 1


class Waiting:
    """What pyfuse3 shall take for the module `trio`. One for one session."""

    def __init__(self, seconds: float, busy: Callable[[], bool] = lambda: False) -> None:
        """`seconds`: how long to look for a message before sleeping. Not while `busy`: threads of
        this process are at work, and who looks takes the interpreter from them."""
        self.lowlevel = _LowLevel(_Looking(seconds, busy).wait_readable)

    def Lock(self) -> ReadLock:
        """Who holds it reads the next message."""
        return ReadLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)


class _LowLevel:
    """`trio.lowlevel` with another wait."""

    def __init__(self, wait_readable: Callable[[int], Awaitable[None]]) -> None:
        self.wait_readable = wait_readable

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)


class ReadLock:
    """Excludes like trio.Lock, but who releases it may take it again before those who wait.

    So one task answers message after message without a change of tasks, as long as no handler
    has to wait; only when one does, the next task takes over. `TURN` keeps it fair.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._left = TURN

    async def __aenter__(self) -> None:
        # Here and not in the wait: between the two pyfuse3 looks whether it shall end.
        self._left -= 1
        if self._left <= 0:
            self._left = TURN
            await trio.lowlevel.checkpoint()
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        self._waiting.unpark()


class _Looking:
    """Polls one descriptor for some time, then leaves it to trio."""

    def __init__(self, seconds: float, busy: Callable[[], bool]) -> None:
        self._seconds, self._busy = seconds, busy
        self._fd = -1
        self._poller = select.poll()

    async def wait_readable(self, fd: int) -> None:
        """Return when `fd` is readable. A checkpoint only if it is not within the time."""
        if fd != self._fd:
            self._fd, self._poller = fd, select.poll()
            self._poller.register(fd, select.POLLIN)
        poll = self._poller.poll
        if poll(0):
            return
        end = 0.0 if self._busy() else perf_counter() + self._seconds
        while perf_counter() < end:
            if poll(0):
                return
        await trio.lowlevel.wait_readable(fd)
