"""Trio above, threads below: deadlines, the limit of concurrent calls.

Every backend call of the daemon goes through here. A call that outlives its caller's deadline
runs on in its thread; what became of it is looked at when it ends.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from storefs.backends.contract import (
    Bulk,
    Copied,
    Described,
    Fingerprinted,
    Historic,
    Inspected,
    Watcher,
)
from storefs.errors import StoreError, Unavailable
from storefs.groupcommit import GroupCommit, Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence

    from storefs.backends.contract import (
        Backend,
        Batch,
        Blob,
        Entry,
        Outcome,
        Revision,
        Version,
    )

log = logging.getLogger(__name__)

T = TypeVar("T")

SNAPSHOT_SECONDS = 60.0
"""How long a complete listing may take; a driver's own time-outs are far shorter."""

BRISK = 0.01
"""Seconds within which a near backend answers, so that the thread that asks needs the interpreter
again and again. Whoever takes longer waits for a network, or for a disk."""

CHUNK = 256
"""Documents read by one call, so that a large fill neither hoards memory nor holds a thread."""


class Store:
    """One backend, asked from trio. `run` must be running while anything is committed."""

    def __init__(self, backend: Backend, deadline: float) -> None:
        self.backend = backend
        self.deadline = deadline
        self.error = ""
        """Why the backend did not answer last, empty while it does."""
        self.refusal = ""
        """Why it answers, but does not tell what it holds: an expired token, a lost right."""
        self.turned = time.time()
        """Unix seconds: since when it answers, or does not."""
        self.commits = 0
        self._asking = 0
        """Calls of the backend under way; waiting for its hints is none."""
        self._asked = -math.inf
        """When the last one was begun, a trio time."""
        self.on_late: Callable[[Collection[str]], None] = lambda paths: None
        """Told the paths of a commit that ended after its caller had given up."""
        self.on_loss: Callable[[], None] = lambda: None
        """Told when it no longer answers: somebody must ask until it does."""
        self.on_return: Callable[[], None] = lambda: None
        """Told when the backend answers again."""
        self._limiter = trio.CapacityLimiter(backend.concurrency)
        self._threads = trio.CapacityLimiter(math.inf)  # of commits, which _limiter bounds
        self._watch_limiter = trio.CapacityLimiter(1)
        self._history_limiter = trio.CapacityLimiter(1)
        """Of a person's questions: a long history must not hold up what programs do."""
        self._group = GroupCommit(self._hand_over, self._limiter, self._note)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the commits under way until cancelled; their threads are then abandoned."""
        await self._group.run(task_status=task_status)

    @property
    def online(self) -> bool:
        """Whether the backend answered when it was last asked."""
        return not self.error

    @property
    def watched(self) -> bool:
        """Whether the backend says by itself that something changed."""
        return isinstance(self.backend, Watcher)

    @property
    def read_only(self) -> bool:
        """Whether the backend's account may only read."""
        return isinstance(self.backend, Described) and self.backend.read_only

    def traits(self) -> dict[str, str]:
        """What a person should know about this backend; asks nobody."""
        if isinstance(self.backend, Described):
            return dict(self.backend.traits())
        return {"writes": "compare-and-swap", "changes": "pushed" if self.watched else "polled"}

    async def snapshot(self) -> Mapping[str, Entry]:
        """The complete listing. Raises StoreError."""
        try:
            entries = await self._ask(self.backend.snapshot, SNAPSHOT_SECONDS)
        except Unavailable:
            raise
        except StoreError as error:
            if not self.refusal:
                log.error("%s cannot be listed: %s", self.backend.identity, error)
            self.refusal = str(error)
            raise
        if self.refusal:
            log.info("%s can be listed again", self.backend.identity)
            self.refusal = ""
        return entries

    async def fingerprint(self) -> str:
        """Equal to an earlier one only if the listing is too; empty: unknown. Raises StoreError."""
        if not isinstance(self.backend, Fingerprinted):
            return ""
        return await self._ask(self.backend.fingerprint, SNAPSHOT_SECONDS)

    async def read(self, paths: Sequence[str]) -> list[tuple[str, Blob | None]]:
        """The contents of at most CHUNK paths. Raises StoreError."""
        return await self._ask(lambda: list(self.backend.read(paths)), self.deadline)

    async def count(self) -> int | None:
        """About how many documents `everything` brings; None: it has to be listed and read.

        Raises StoreError.
        """
        if not isinstance(self.backend, Bulk):
            return None
        return await self._ask(self.backend.count, SNAPSHOT_SECONDS)

    async def everything(self, most: int) -> AsyncGenerator[Sequence[tuple[str, Blob | int]]]:
        """The portions of Bulk.everything. Raises StoreError."""
        assert isinstance(self.backend, Bulk)
        portions = iter(self.backend.everything(most))
        while (
            portion := await self._ask(lambda: next(portions, None), SNAPSHOT_SECONDS)
        ) is not None:
            yield portion

    async def history(self, path: str) -> Sequence[Version] | None:
        """The versions of a document, the newest first; None: this backend keeps none.

        Raises StoreError.
        """
        if not isinstance(self.backend, Historic):
            return None
        call = partial(self.backend.history, path)
        return await self._ask(call, SNAPSHOT_SECONDS, self._history_limiter)

    async def version(self, revision: Revision) -> bytes:
        """The content of a version that `history` named. Raises StoreError."""
        assert isinstance(self.backend, Historic)
        call = partial(self.backend.blob, revision)
        return await self._ask(call, self.deadline, self._history_limiter)

    def only_in_backup(self) -> Sequence[str]:
        """The documents of which only a second copy is left; asks nobody."""
        return (isinstance(self.backend, Copied) and self.backend.only_in_backup()) or ()

    async def find_only_in_backup(self) -> Sequence[str] | None:
        """The same, looked up now; None: this backend keeps no copies. Raises StoreError."""
        if not isinstance(self.backend, Copied):
            return None
        return await self._ask(
            self.backend.find_only_in_backup, SNAPSHOT_SECONDS, self._history_limiter
        )

    async def copy(self, path: str) -> bytes | None:
        """The second copy of a document, None where there is none. Raises StoreError."""
        if not isinstance(self.backend, Copied):
            return None
        return await self._ask(
            partial(self.backend.copy, path), self.deadline, self._history_limiter
        )

    async def _ask(
        self, call: Callable[[], T], seconds: float, limiter: trio.CapacityLimiter | None = None
    ) -> T:
        try:
            with trio.fail_after(seconds), self._under_way():
                answer = await trio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=limiter or self._limiter
                )
        except trio.TooSlowError:
            raise self._no_answer(f"no answer within {seconds:g} s") from None
        except Unavailable as error:
            self._failed(error)
            raise
        except StoreError:
            raise
        except Exception as failure:
            log.exception("%s: a call failed unexpectedly", self.backend.identity)
            raise self._no_answer(repr(failure)) from failure
        self._answered()
        return answer

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._asking += 1
        self._asked = trio.current_time()
        try:
            yield
        finally:
            self._asking -= 1

    @property
    def busy(self) -> bool:
        """Whether a thread is asking the backend, and has not waited for it alone for a while."""
        return self._asking > 0 and trio.current_time() < self._asked + BRISK

    async def inspect(self) -> Mapping[str, object] | None:
        """What the backend says about its store, None where it says nothing. Raises StoreError."""
        if not isinstance(self.backend, Inspected):
            return None
        return await self._ask(self.backend.inspect, SNAPSHOT_SECONDS)

    async def wait(self, seconds: float) -> Collection[str] | None:
        """The backend's next hint; see Watcher. Raises StoreError."""
        assert isinstance(self.backend, Watcher)
        wait = partial(self.backend.wait, seconds)
        return await trio.to_thread.run_sync(
            wait, abandon_on_cancel=True, limiter=self._watch_limiter
        )

    async def commit(self, batch: Batch, deadline: float) -> Mapping[str, Entry]:
        """Apply one batch; returns the new entries. `deadline` is a trio time.

        Raises StoreError; Unavailable also when the deadline passes first, and then the batch
        was either withdrawn or its outcome is unknown.
        """
        outcome = await self._group.outcome(batch, deadline)
        if outcome is None:
            error = Unavailable(batch[0].path, f"{self.backend.identity} did not answer in time")
            self._failed(error)
            raise error
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def _hand_over(self, chosen: list[Waiting]) -> Sequence[Outcome]:
        timeout = max(waiting.deadline for waiting in chosen) - trio.current_time()
        batches = [waiting.batch for waiting in chosen]
        call = partial(self.backend.commit, batches, max(timeout, 0.1))
        try:
            with self._under_way():
                outcomes = await trio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=self._threads
                )
            if len(outcomes) == len(batches):
                return outcomes
            error = f"{len(outcomes)} outcomes of {len(batches)} batches"
        except Exception as failure:
            log.exception("%s: a commit failed unexpectedly", self.backend.identity)
            error = repr(failure)
        return [Unavailable(batch[0].path, error) for batch in batches]

    def _note(self, waiting: Waiting, outcome: Outcome) -> None:
        if isinstance(outcome, Unavailable):
            self._failed(outcome)
        else:
            self.commits += 1
            self._answered()
        if waiting.abandoned:
            self.on_late(waiting.paths)

    def _no_answer(self, cause: str) -> Unavailable:
        error = Unavailable("", cause)
        self._failed(error)
        return error

    def _failed(self, error: StoreError) -> None:
        if not self.error:
            self.turned = time.time()
            log.error("%s is unreachable: %s", self.backend.identity, error)
            self.on_loss()
        self.error = str(error)

    def _answered(self) -> None:
        if self.error:
            log.info("%s answers again", self.backend.identity)
            self.error, self.turned = "", time.time()
            self.on_return()
