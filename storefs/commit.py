"""Carrying changes of one document to the backend: flush, fsync, release, unlink.

Each takes the path lock, commits on the revision this machine saw last, and resolves what the
backend answers. Nothing here waits for an event or an invalidate.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from storefs.backends.contract import Delete, Entry, Put
from storefs.content import problem
from storefs.errors import (
    AccessDenied,
    BackendFailed,
    Busy,
    Conflict,
    Denied,
    FileError,
    Invalid,
    InvalidDocument,
    Stale,
    StoreError,
    Unavailable,
)
from storefs.kept import Kept, Place
from storefs.mirror import digest_of
from storefs.paths import CONFIG
from storefs.pending import PENDING
from storefs.resolve import Stands, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from storefs.backends.contract import Blob, Change
    from storefs.documents import Documents
    from storefs.inodes import Edit, Inode
    from storefs.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = 5

_WAITING = 64
"""Handlers that wait for the backend at once; the next one's change goes on as pending."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a program wrote, at one moment: shown bytes, and what they are in stored form."""

    edit: Edit
    sequence: int
    shown: bytes
    stored: bytes


@dataclass(slots=True)
class Committer:
    """Commits of single documents."""

    store: Store
    documents: Documents
    kept: Kept
    refuse: bool = False
    """An outage makes every change fail, instead of letting it wait on this machine's disk."""
    behind: bool = False
    """Calls return when this machine's disk has the change; it is sent in the background."""
    wake: Callable[[], None] = lambda: None
    """Told when something became pending."""
    last_out: float | None = None
    """When a change of this machine last reached the backend (unix seconds)."""
    keep_config: bool = False
    """A rename made programs deaf: what their next rewrite of config.yaml replaces is kept."""
    _waiting: int = 0

    async def flush(self, inode: Inode, deadline: float) -> None:
        """Commit the document's present bytes; done when it returns.

        Raises InvalidDocument, Stale, Denied, BackendFailed. Empty bytes are left alone.
        """
        while inode.edit is not None and inode.edit.changed and inode.linked:
            path = inode.path
            async with self.documents.locks.hold([path], deadline):
                if inode.path != path:  # renamed while this waited
                    continue
                if inode.edit is not None and inode.edit.changed and inode.linked:
                    await self._commit(inode, inode.edit, deadline)
            break
        self.documents.marks.over(inode.path)

    async def _commit(self, inode: Inode, edit: Edit, deadline: float) -> None:
        data, sequence, path = bytes(edit.data), edit.sequence, inode.path
        if not data:
            edit.refused = sequence
            return
        if reason := problem(path, data):
            edit.refused = sequence
            raise InvalidDocument(f"{path}: not sent: {reason}; the last valid version stands")
        base = self.documents.stored(path)
        stored = self.documents.config_view.stored(path, data, base)
        if base is not None:
            stored = await self._settled(path, edit.base, base, stored, deadline)
        written = Written(edit, sequence, data, stored)
        record = self.documents.mirror.records.get(path)
        expect = self.documents.expect(path)
        if record is not None and expect is not None and record.digest == digest_of(stored):
            self.documents.mirror.touch(path, edit.mtime_ns)
            self.documents.finish(inode, edit, sequence)
            return
        try:
            entries = await self.apply([Put(path, stored, expect)], deadline)
        except Conflict as conflict:
            await self._resolve(inode, written, base, conflict.current[path], deadline)
        except StoreError as error:
            raise await self._refused(inode, written, error, deadline) from error
        else:
            if path == CONFIG and base is not None:
                self._keep_config(base)
            self._accept(inode, written, stored, entries[path])

    async def _settled(
        self, path: str, known: bytes | None, present: bytes, stored: bytes, deadline: float
    ) -> bytes:
        """What to send for a write by a program that may not have read the present version."""
        checked = self.documents.settling.check(path, known, present, stored)
        if checked.lost is not None:
            copy = await self.keep(path, checked.lost, deadline)
            why = "its tokens were superseded" if checked.old_tokens else "it was not read"
            log.warning("%s: merged with what changed elsewhere, for %s; see %s", path, why, copy)
        return checked.data

    def _keep_config(self, replaced: bytes) -> None:
        if self.keep_config:
            self.keep_config = False
            self.kept.submit(Place.CONFLICTS, CONFIG, replaced)

    async def apply(self, changes: list[Change], deadline: float) -> Mapping[str, Entry]:
        """Commit one batch; where the backend does not answer, leave it on this machine's disk.

        The entries of what is pending have the revision PENDING. Raises StoreError; a Conflict
        then tells the present content of every path in it. OSError where this disk has no room.
        """
        if self._goes_pending(changes):
            return await self._pend(changes, doubt=False)
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
        if any(change.path in self.documents.pending for change in changes):
            return True
        return not self.refuse and (
            self.behind or not self.store.online or self._waiting >= _WAITING
        )

    async def _pend(self, changes: list[Change], *, doubt: bool) -> dict[str, Entry]:
        """Bring changes to this machine's disk, to be sent later. Raises OSError."""
        pending = self.documents.pending
        group = pending.number() if len(changes) > 1 else 0
        new = [change.path for change in changes if change.path not in pending]
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
            for path in new:
                pending.drop(path)
            raise
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
        await _finished(done)
        done.result()

    async def _send(self, changes: list[Change], deadline: float) -> Mapping[str, Entry]:
        """Commit, again on the new revision while the backend holds the base (rule 0)."""
        for _ in range(_TRIES):
            try:
                entries = await self.store.commit(changes, deadline)
            except Conflict as conflict:
                current = await self._present(changes, conflict)
                again = [self._rebased(change, current[change.path]) for change in changes]
                if None in again:
                    raise Conflict(conflict.path, conflict.cause, current=current) from conflict
                changes = [change for change in again if change is not None]
            else:
                self.last_out = time.time()
                return entries
        raise Conflict(changes[0].path, "it changes too fast elsewhere", current=current)

    async def _present(self, changes: list[Change], conflict: Conflict) -> dict[str, Blob | None]:
        current = dict(conflict.current)
        missing = [change.path for change in changes if change.path not in current]
        if missing:
            current.update(await self.store.read(missing))
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

    def _accept(self, inode: Inode, written: Written, stored: bytes, entry: Entry) -> None:
        if (before := self._base(inode.path)) is not None:
            self.documents.settling.supersede(inode.path, before, stored)
        self.documents.mirror.install(inode.path, stored, entry, written.edit.mtime_ns)
        self.documents.generations.advance(inode.path)
        self.documents.finish(inode, written.edit, written.sequence)

    async def _resolve(
        self, inode: Inode, written: Written, base: bytes | None, current: Blob | None,
        deadline: float,
    ) -> None:  # fmt: skip
        """The conflict rules. Raises Stale where the backend's version stands, as `_commit`."""
        path, ours = inode.path, written.stored
        for _ in range(_TRIES):
            step = resolve(path, base, ours, current, now=time.time())
            if isinstance(step, Stands):
                await self._stands(inode, written, current, step, deadline)
                return
            assert step.data is not None  # a put stays one
            try:
                entries = await self.apply([Put(path, step.data, step.expect)], deadline)
            except Conflict as conflict:
                current = conflict.current[path]
                continue
            except StoreError as error:
                raise await self._refused(inode, written, error, deadline) from error
            if step.lost is not None:
                await self.keep(path, step.lost, deadline)
            self._accept(inode, written, step.data, entries[path])
            return
        await self._lost(inode, written, current, deadline)

    async def _stands(
        self, inode: Inode, written: Written, current: Blob | None, step: Stands, deadline: float
    ) -> None:
        """The backend's version stands: the writer is told, except of tokens grown old."""
        if step.refused or current is None:
            await self._lost(inode, written, current, deadline)
            return
        if step.lost is not None:
            copy = await self.keep(inode.path, step.lost, deadline)
            log.warning("%s: newer tokens stand; those written here are in %s", inode.path, copy)
        self._accept(inode, written, current.data, current.entry)

    async def _lost(
        self, inode: Inode, written: Written, current: Blob | None, deadline: float
    ) -> None:
        """Conflict rule 4. Raises Stale."""
        path = inode.path
        sequence, written.edit.told = written.edit.sequence, True
        copy = await self.keep(path, bytes(written.edit.data), deadline)
        if current is None or len(current.data) > self.documents.max_size:  # which is not shown
            self.documents.marks.mark([path])
        else:
            if (before := self._base(path)) is not None:
                self.documents.settling.supersede(path, before, current.data)
                self.documents.settling.deliver(path, before, current.data)
            self.documents.mirror.install(path, current.data, current.entry, time.time_ns())
        inode.installed = self.documents.generations.advance(path)
        self.documents.finish(inode, written.edit, sequence)
        raise Stale(f"{path}: changed elsewhere; that version stands, this one is in {copy}")

    async def _refused(
        self, inode: Inode, written: Written, error: StoreError, deadline: float
    ) -> FileError:
        """The backend did not take it: keep a copy, show the old version again."""
        path = inode.path
        if isinstance(error, Invalid):
            written.edit.refused = written.sequence
            return InvalidDocument(f"{path}: not sent: {self.store.backend.identity}: {error}")
        written.edit.told = True
        copy = await self.keep(path, written.shown, deadline)
        self.documents.generations.advance(path)
        self.documents.marks.mark([path])
        self.documents.finish(inode, written.edit, written.sequence)
        said = f"{path}: not sent: {self.store.backend.identity}: {error}; a copy is in {copy}"
        return Denied(said) if isinstance(error, AccessDenied) else BackendFailed(said)

    async def keep(self, path: str, data: bytes, deadline: float) -> str:
        """Keep a conflict copy and wait until it is on disk, until `deadline` at most.

        Returns its place, for a message. Raises OSError. It does not wait for the mirror's
        writer, which a flood of changes in the backend keeps busy for many deadlines.
        """
        copy = self.kept.submit(Place.CONFLICTS, path, data)
        with trio.move_on_at(deadline):
            await _finished(copy)
        if copy.done():
            return copy.result()
        copy.add_done_callback(_report)
        return f"{Place.CONFLICTS.value} as soon as this disk takes it"

    async def unlink(self, inode: Inode, deadline: float) -> None:
        """Commit the delete, then take the name away. Raises Busy, Denied, BackendFailed."""
        path = inode.path
        async with self.documents.locks.hold([path], deadline):
            if not inode.linked or inode.path != path:
                raise Busy(f"{path}: renamed or removed meanwhile")
            await self.delete(path, deadline)
            self.forget(inode)
        self.documents.marks.over(path)

    async def delete(self, path: str, deadline: float) -> None:
        """Commit the delete of what this machine saw last. Raises Busy, Denied, BackendFailed."""
        expect = self.documents.expect(path)
        if expect is None and path not in self.documents.pending:
            return
        try:
            await self.apply([Delete(path, expect or PENDING)], deadline)
        except StoreError as error:
            raise self.name_error(path, error) from error

    def name_error(self, path: str, error: StoreError) -> FileError:
        """What unlink and rename answer when the backend refuses; the path is looked at again."""
        self.documents.marks.mark([path])
        if isinstance(error, Conflict):
            return Busy(f"{path}: changed elsewhere; that change stands, try again")
        said = f"{path}: {self.store.backend.identity}: {error}; nothing was changed here"
        if isinstance(error, AccessDenied):
            return Denied(said)
        return InvalidDocument(said) if isinstance(error, Invalid) else BackendFailed(said)

    def forget(self, inode: Inode) -> None:
        """Drop name, record and mirror file of a document that is deleted."""
        documents, path = self.documents, inode.path
        documents.freeze(inode)
        if path in documents.mirror.records:
            documents.mirror.drop(path)
        documents.inodes.unlink(inode)
        documents.settling.forget(path)
        documents.generations.advance(path)
        documents.marks.removed(path)


async def _finished(work: Future[T]) -> None:
    """Wait until a thread is done with it, well or not."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    def tell(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    work.add_done_callback(tell)
    await done.wait()


def _report(copy: Future[str]) -> None:
    """What became of a copy that nobody waits for any more."""
    if error := copy.exception():
        log.error("a conflict copy is lost: %s", error)
