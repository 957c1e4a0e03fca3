"""Sending what is pending, once the backend answers again.

Each change is checked against what happened meanwhile, by the same rules as a change made while
the backend answers; nobody waits for the outcome, so it is logged and counted. Of a change in
doubt the revision it expects tells whether it was applied; a later change of the same path goes
over it, wherever the backend holds what this machine itself had sent.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from storefs.backends.contract import Delete, Put
from storefs.errors import BackendFailed, Conflict, StoreError, Unavailable
from storefs.kept import Place
from storefs.outgoing import TRIES, considered, finished
from storefs.resolve import Stands, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Blob, Change, Entry, Revision
    from storefs.commit import Committer
    from storefs.pending import Pending

log = logging.getLogger(__name__)

TOO_OLD = 7 * 86400.0
"""Seconds after which a pending change never goes over what changed meanwhile."""

_AT_ONCE = 64
_GATHER = 0.01
"""Seconds in which more may come to be sent together. With `--commit behind` a close would
otherwise share the processor with the sending of the one before (1.2 x local, with it 0.8)."""

_PAUSE = 1.0
"""Seconds between two passes over what could not be sent."""


@dataclass(slots=True)
class Sending:
    """Carries pending changes to the backend. `run` is a task of the mount."""

    committer: Committer
    deadline: float
    """Seconds one change may wait for the backend."""
    _woken: trio.Event = field(default_factory=trio.Event)

    def wake(self) -> None:
        """There is something to send, or the backend answers again."""
        self._woken.set()

    async def run(self) -> None:
        """Send whatever is pending whenever the backend answers, until cancelled."""
        pending, store = self.committer.documents.pending, self.committer.outgoing.store
        while True:
            if store.online and pending.waiting():
                await self.once()
            with trio.move_on_after(_PAUSE if pending.waiting() else math.inf):
                await self._woken.wait()
            self._woken = trio.Event()
            await trio.sleep(_GATHER)

    async def once(self) -> None:
        """One attempt at everything that waits."""
        groups: dict[int, list[Pending]] = {}
        for change in self.committer.documents.pending.waiting():
            groups.setdefault(change.group or -change.order, []).append(change)
        limit = trio.Semaphore(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for changes in groups.values():
                await nursery.start(self._send_within, limit, [change.path for change in changes])

    async def _send_within(
        self,
        limit: trio.Semaphore,
        paths: list[str],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Started when its changes are next in line for the backend, so that order holds."""
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                task_status.started()

        async with limit:
            if any(self.committer.documents.locks.held(path) for path in paths):
                begin()  # the others do not wait for a change under way
            if self.committer.outgoing.store.online:
                await self._send(paths, begun=begin)
            begin()

    async def drain(self) -> None:
        """Attempt until nothing waits or the backend does not answer."""
        pending, store = self.committer.documents.pending, self.committer.outgoing.store
        while pending.waiting() and store.online:
            before = len(pending.waiting())
            await self.once()
            if len(pending.waiting()) >= before:
                return

    async def attempt(self, path: str, deadline: float) -> None:
        """Send one path's change now, if there is one. Raises BackendFailed if it still waits."""
        documents = self.committer.documents
        if path in documents.pending and self.committer.outgoing.store.online:
            await self._send([path], deadline)
        if change := documents.pending.get(path):
            why = change.refused or self.committer.outgoing.store.error or "no answer"
            raise BackendFailed(
                f"{path}: not in {self.committer.outgoing.store.backend.identity}: {why}; "
                "it is safe on this machine's disk, and pending"
            )

    async def _send(
        self,
        paths: list[str],
        deadline: float | None = None,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """`begun` is told in the step that hands the changes over, or when there is nothing."""
        documents = self.committer.documents
        deadline = deadline or trio.current_time() + self.deadline
        try:
            async with documents.locks.hold(paths, deadline):
                begun()
                changes = [change for path in paths if (change := documents.pending.get(path))]
                changes = [change for change in changes if not change.refused]
                if len(changes) < 2 or not await self._together(changes, deadline):
                    for change in sorted(changes, key=lambda change: change.data is None):
                        await self._settle(change, deadline)
                # A crash behind the next change of a path must not bring this one back.
                await finished(documents.pending.written())
        except BackendFailed as error:  # the lock: another change of this path is on its way
            log.debug("%s", error)
        finally:
            for path in paths:
                documents.marks.over(path)

    async def _together(self, changes: list[Pending], deadline: float) -> bool:
        """The changes of one rename in one batch, if nothing stands in the way of any."""
        batch = [made for change in changes if (made := _change_of(change)) is not None]
        if len(batch) != len(changes):
            return False
        try:
            entries = await self.committer.outgoing.store.commit(batch, deadline)
        except Unavailable:
            for change in changes:
                self.committer.documents.pending.doubt(change.path)
            return True  # nothing is known; each waits on
        except StoreError:
            return False
        for change in changes:
            self._sent(change, change.data, entries.get(change.path))
        return True

    async def _settle(self, change: Pending, deadline: float) -> None:
        """Bring one change to its end, unless the backend does not answer."""
        path = change.path
        base, data, expect = change.base, change.data, change.expect
        lost: bytes | None = None
        unknown = data is None and expect is None  # a delete of what may have arrived
        for _ in range(TRIES):
            try:
                entry = None
                if unknown:
                    raise Conflict(path, "look first")
                entry = await self._commit(path, data, expect, deadline)
            except Conflict as conflict:
                unknown = False
                try:
                    current = (await self.committer.outgoing.present([path], conflict))[path]
                except StoreError:
                    return
                too_old = time.time() - change.since > TOO_OLD
                own = change.may_have_made(current.data if current else None)
                settle = partial(
                    resolve, path, base, data, current,
                    now=time.time(), too_old=too_old, own=own,
                )  # fmt: skip
                step = await considered(settle, len(data or b""))
                if isinstance(step, Stands):
                    if await self._kept(path, step.lost, deadline):
                        self._stands(change, current, step)
                    return
                if step.data is not None and step.data != data and current is not None:
                    base = current.data
                data, expect = step.data, step.expect
                lost = step.lost if step.lost is not None else lost
            except Unavailable:
                self.committer.documents.pending.doubt(path)
                return
            except StoreError as error:
                self._refused(change, error)
                return
            else:
                if await self._kept(path, lost, deadline):
                    self._sent(change, data, entry)
                return

    async def _commit(
        self, path: str, data: bytes | None, expect: Revision | None, deadline: float
    ) -> Entry | None:
        change = _change(path, data, expect)
        entries = await self.committer.outgoing.store.commit([change], deadline)
        return entries.get(path)

    def _sent(self, change: Pending, data: bytes | None, entry: Entry | None) -> None:
        """The backend has it: the mirror gets the revision, and what a merge added."""
        documents, path = self.committer.documents, change.path
        documents.pending.drop(path)
        self.committer.outgoing.last = time.time()
        record = documents.mirror.records.get(path)
        if data is None or entry is None or record is None:
            documents.marks.mark([path])
        elif data == change.data:
            documents.mirror.touch(path, record.mtime_ns, entry.revision)
        else:
            documents.marks.mark([path])  # merged: reconcile fetches and shows it
        documents.generations.advance(path)

    def _stands(self, change: Pending, current: Blob | None, step: Stands) -> None:
        """The backend's version wins; reconcile brings it here."""
        documents, path = self.committer.documents, change.path
        if step.lost is not None:
            log.warning(
                "%s: changed elsewhere while it was pending; that version stands, this one is in "
                "%s", path, Place.CONFLICTS.value,
            )  # fmt: skip
        elif change.data is None and current is not None:
            log.warning("%s: changed elsewhere while its delete was pending; it stays", path)
        documents.pending.drop(path)
        documents.generations.advance(path)
        documents.marks.mark([path])

    async def _kept(self, path: str, lost: bytes | None, deadline: float) -> bool:
        """Keep what lost, before the pending change, which holds it too, is forgotten."""
        try:
            if lost is not None:
                await self.committer.keep(path, lost, deadline)
        except OSError as error:
            log.error("%s: stays pending, for what lost cannot be kept: %s", path, error)
            return False
        return True

    def _refused(self, change: Pending, error: StoreError) -> None:
        identity = self.committer.outgoing.store.backend.identity
        log.error("%s: refused by %s: %s; it stays on this machine", change.path, identity, error)
        self.committer.documents.pending.refuse(change.path, error.cause)


def _change_of(change: Pending) -> Change | None:
    if change.data is None and change.expect is None:
        return None
    return _change(change.path, change.data, change.expect)


def _change(path: str, data: bytes | None, expect: Revision | None) -> Change:
    if data is not None:
        return Put(path, data, expect)
    assert expect is not None
    return Delete(path, expect)
