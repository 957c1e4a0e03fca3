"""Where a change goes: to the backend, or to this machine's disk while nobody answers.

Rule 0 is applied here, the other conflict rules by whoever asked. The caller holds the path lock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from storefs.backends.contract import Delete, Entry, Put
from storefs.errors import BackendFailed, Conflict, Corrupt, Unavailable
from storefs.mirror import digest_of
from storefs.paths import CONFIG
from storefs.pending import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from storefs.backends.contract import Blob, Change
    from storefs.documents import Documents
    from storefs.store import Store

T = TypeVar("T")

TRIES = 5

_WAITING = 64
"""Handlers that wait for the backend at once; the next one's change goes on as pending."""

_AT_ONCE = 16 << 10
"""Bytes that are merged within a few milliseconds."""


@dataclass(slots=True)
class Outgoing:
    """The way out of one mount."""

    store: Store
    documents: Documents
    refuse: bool = False
    """An outage makes every change fail, instead of letting it wait on this machine's disk."""
    behind: bool = False
    """Calls return when this machine's disk has the change; it is sent in the background."""
    wake: Callable[[], None] = lambda: None
    """Told when something became pending."""
    last: float | None = None
    """When a change of this machine last reached the backend (unix seconds)."""
    _waiting: int = 0

    async def apply(self, changes: list[Change], deadline: float) -> Mapping[str, Entry]:
        """Commit one batch; where the backend does not answer, leave it on this machine's disk.

        The entries of what is pending have the revision PENDING. Raises StoreError; a Conflict
        then tells the present content of every path in it. OSError where this disk has no room.
        """
        if self._goes_pending(changes):
            try:
                return await self._pend(changes, doubt=False)
            except OSError:  # a full disk: perhaps the backend is back, and takes it
                if self._waits(changes):
                    raise
        self._waiting += 1
        try:
            return await self._send(changes, deadline)
        except Unavailable:
            if self.refuse:
                raise
        finally:
            self._waiting -= 1
        return await self._pend(changes, doubt=True)

    def _goes_pending(self, changes: list[Change]) -> bool:
        away = self.behind or not self.store.online or self._waiting >= _WAITING
        return self._waits(changes) or (away and not self.refuse)

    def _waits(self, changes: list[Change]) -> bool:
        return any(change.path in self.documents.pending for change in changes)

    async def _pend(self, changes: list[Change], *, doubt: bool) -> dict[str, Entry]:
        """Bring changes to this machine's disk, to be sent later. Raises OSError."""
        pending = self.documents.pending
        # Nobody else can tell a next start what the backend took just before it went away.
        earlier = None if self.store.online else self.documents.mirror.written()
        group = pending.number() if len(changes) > 1 else 0
        before = {change.path: pending.get(change.path) for change in changes}
        try:
            for change in changes:
                data = change.data if isinstance(change, Put) else None
                expect = None if change.expect == PENDING else change.expect
                await self._saved(
                    pending.add(
                        change.path, data, expect, self._base(change.path),
                        group=group, doubt=doubt,
                    )
                )  # fmt: skip
        except OSError:
            for path, waited in before.items():
                pending.restore(path, waited)
            raise
        if earlier is not None:
            await finished(earlier)
        self.wake()
        return {
            change.path: Entry(PENDING, len(change.data), 0)
            for change in changes
            if isinstance(change, Put)
        }

    def _base(self, path: str) -> bytes | None:
        try:
            return self.documents.stored(path)
        except BackendFailed:  # torn, and nobody to fetch it from
            return None

    async def _saved(self, done: Future[None]) -> None:
        await finished(done)
        done.result()

    async def _send(self, changes: list[Change], deadline: float) -> Mapping[str, Entry]:
        """Commit, again on the new revision while the backend holds the base (rule 0)."""
        for _ in range(TRIES):
            try:
                entries = await self.store.commit(changes, deadline)
            except Conflict as conflict:
                current = await self.present([change.path for change in changes], conflict)
                again = [self._rebased(change, current[change.path]) for change in changes]
                if None in again:
                    raise Conflict(conflict.path, conflict.cause, current=current) from conflict
                changes = [change for change in again if change is not None]
            else:
                self.last = time.time()
                return entries
        raise Conflict(changes[0].path, "it changes too fast elsewhere", current=current)

    async def present(self, paths: list[str], conflict: Conflict) -> dict[str, Blob | None]:
        """What the backend holds for `paths`, asked where `conflict` does not tell.

        Raises StoreError.
        """
        current = dict(conflict.current)
        missing = [path for path in paths if path not in current]
        if missing:
            current.update(await self.store.read(missing))
        for path in missing:
            if path not in current:
                raise Corrupt(path, "is there, and cannot be read")
        return current

    def _rebased(self, change: Change, current: Blob | None) -> Change | None:
        """The same change on the backend's present revision, None where that is no base of it."""
        path = change.path
        record = self.documents.mirror.records.get(path)
        if current is None:
            # config.yaml that vanished is restored by the next save; a delete is done already.
            if change.expect is None or isinstance(change, Delete):
                return change
            return Put(path, change.data, None) if path == CONFIG else None
        if record is None or digest_of(current.data) != record.digest:
            return change if change.expect == current.entry.revision else None
        if isinstance(change, Put):
            return Put(path, change.data, current.entry.revision)
        return Delete(path, current.entry.revision)


async def considered(judge: Callable[[], T], size: int) -> T:
    """The verdict of the pure function `judge`; a merge of `size` bytes may take seconds."""
    return judge() if size <= _AT_ONCE else await trio.to_thread.run_sync(judge)


async def finished(work: Future[T]) -> None:
    """Wait until a thread is done with it, well or not."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    def tell(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    work.add_done_callback(tell)
    await done.wait()
