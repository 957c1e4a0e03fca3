"""What hangs while other steps go on: a commit, or an answer that reconcile waits for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults import Faults
    from tests.model.world import Loop, Recorded

_LOOK = 0.005
"""Seconds between two looks at whether it hangs already."""


@dataclass
class Flight:
    """A close or fsync that was begun, and the bytes it was begun with."""

    path: str
    data: bytes | None
    faults: Faults
    loop: Loop
    ended: bool = False
    error: BaseException | None = None
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def start(self, step: Callable[[int], Awaitable[None]], fh: int) -> bool:
        """Begin; whether it now hangs in a commit. It ends at once if it sends nothing."""
        nth = self.faults.calls["commit"] + 1
        self.faults.at("commit", nth, "hang")
        self.loop.now(self.loop.nursery.start_soon, self._fly, step, fh)
        while not self.ended and not self.faults.reached("commit", nth, _LOOK):
            pass
        if self.ended:
            self.faults.forget()
        return not self.ended

    async def _fly(self, step: Callable[[int], Awaitable[None]], fh: int) -> None:
        with self._scope:
            try:
                await step(fh)
            except Exception as error:
                self.error = error
        self.ended = True

    def land(self) -> None:
        """Let the backend answer, and wait for the end."""
        self.faults.release()
        self.loop.call(self._until_ended)

    async def _until_ended(self) -> None:
        while not self.ended:
            await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """The machine dies first."""
        self.loop.now(self._scope.cancel)


@dataclass
class Pass:
    """A pass of reconcile whose answer is on its way, and growing old."""

    session: Recorded
    loop: Loop
    ended: bool = False
    error: BaseException | None = None
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def start(self, once: Callable[[], Awaitable[None]]) -> None:
        """Begin; returns when an answer is on its way, or the pass over because none is needed."""
        self.session.on_its_way, self.session.deliver = threading.Event(), threading.Event()
        self.session.delay_next.set()
        self.loop.now(self.loop.nursery.start_soon, self._run, once)
        while not self.ended and not self.session.on_its_way.wait(_LOOK):
            pass
        self.session.delay_next.clear()

    async def _run(self, once: Callable[[], Awaitable[None]]) -> None:
        with self._scope:
            try:
                await once()
            except Exception as error:
                self.error = error
        self.ended = True

    def land(self) -> None:
        """Deliver the answer, and let the pass end."""
        self.session.deliver.set()
        self.loop.call(self._until_ended)
        if self.error is not None:
            raise self.error

    async def _until_ended(self) -> None:
        while not self.ended:
            await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """The machine dies first."""
        self.loop.now(self._scope.cancel)
        self.session.deliver.set()
