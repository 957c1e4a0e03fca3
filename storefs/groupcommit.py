"""Group commit: what waits while the backend is busy goes out together, in one call.

Calls under way share no path. Knows trio, and nothing of backends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from storefs.backends.contract import Batch, Outcome

GATHER = 0.005
"""Seconds that a commit waits for the call before it to end, before it is a call of its own: what
came meanwhile then goes together, which is half the processor time and a quarter more of 8
programs' changes a second (PostgreSQL on the same machine). Far stores take longer; they pay this
much of it."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One batch on its way."""

    batch: Batch
    deadline: float
    """A trio time."""
    paths: frozenset[str]
    done: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome | None = None
    handed: bool = False
    abandoned: bool = False
    """Whoever asked for it has given up."""


class GroupCommit:
    """What waits, and the calls it goes out in. `run` must be running while anything waits."""

    def __init__(
        self,
        send: Callable[[list[Waiting]], Awaitable[Sequence[Outcome]]],
        limiter: trio.CapacityLimiter,
        on_outcome: Callable[[Waiting, Outcome], None],
    ) -> None:
        """`send` makes one call of the backend, of those that `limiter` allows; raises nothing.
        `on_outcome` is told what became of each batch."""
        self._send, self._limiter, self._on_outcome = send, limiter, on_outcome
        self._waiting: list[Waiting] = []
        self._running: set[str] = set()
        self._starting = False
        """A call has been begun that has not chosen its batches yet."""
        self._calls = 0
        self._ended = trio.Event()
        """Set at the end of the next call."""
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the calls under way until cancelled; their threads are then abandoned."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def outcome(self, batch: Batch, deadline: float) -> Outcome | None:
        """Have it committed. None: not by the deadline, so it was withdrawn, or nobody knows."""
        waiting = Waiting(batch, deadline, frozenset(change.path for change in batch))
        self._waiting.append(waiting)
        self._dispatch()
        try:
            with trio.move_on_at(deadline):
                await waiting.done.wait()
        finally:
            if waiting.outcome is None:
                waiting.abandoned = True
                if not waiting.handed:
                    self._waiting.remove(waiting)
        return waiting.outcome

    def _dispatch(self) -> None:
        """See that what waits goes out as soon as the backend bears one more call."""
        if self._ready() and not self._starting:
            self._starting = True
            assert self._nursery is not None
            self._nursery.start_soon(self._call)

    def _ready(self) -> list[Waiting]:
        """Everything that waits and shares no path with a running call, or among itself."""
        ready: list[Waiting] = []
        taken = set(self._running)
        for waiting in self._waiting:
            if taken.isdisjoint(waiting.paths):
                ready.append(waiting)
                taken |= waiting.paths
        return ready

    async def _call(self) -> None:
        if self._calls:
            with trio.move_on_after(GATHER):
                await self._ended.wait()
        async with self._limiter:
            self._starting = False
            # Chosen only now: whoever gave up while the backend was busy has withdrawn.
            chosen = self._ready()
            if not chosen:
                return
            for waiting in chosen:
                waiting.handed = True
                self._waiting.remove(waiting)
                self._running |= waiting.paths
            self._calls += 1
            self._dispatch()
            outcomes = await self._send(chosen)
            self._calls -= 1
        self._ended.set()
        self._ended = trio.Event()
        for waiting in chosen:
            self._running -= waiting.paths
        for waiting, outcome in zip(chosen, outcomes, strict=True):
            waiting.outcome = outcome
            waiting.done.set()
            self._on_outcome(waiting, outcome)
        self._dispatch()
