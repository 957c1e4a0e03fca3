"""Carrying changes of one document to the backend: flush, fsync, release, unlink.

Each takes the path lock, commits on the revision this machine saw last, and resolves what the
backend answers. Nothing here waits for an event or an invalidate.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from storefs.backends.contract import Delete, Put
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
)
from storefs.kept import Kept, Place
from storefs.mirror import digest_of
from storefs.outgoing import TRIES, Outgoing, considered, finished
from storefs.paths import CONFIG
from storefs.pending import PENDING
from storefs.resolve import Stands, resolve

if TYPE_CHECKING:
    from concurrent.futures import Future

    from storefs.backends.contract import Blob, Entry
    from storefs.documents import Documents
    from storefs.inodes import Edit, Inode

log = logging.getLogger(__name__)

_MOST_TRIES = 100
"""Within the deadline: over Git who merges is always later than one that saves without a pause."""

_GRACE = 0.5
"""Seconds that a copy may take though the deadline has passed, so that a message can name it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a program wrote, at one moment: shown bytes, and what they are in stored form."""

    edit: Edit
    sequence: int
    shown: bytes
    stored: bytes
    base: bytes | None
    """The stored bytes it was written over; the path lock keeps them what they are."""
    wrote: bytes
    """In stored form what the program wrote, and has in memory: `stored` may be merged already."""


@dataclass(slots=True)
class Committer:
    """Commits of single documents."""

    outgoing: Outgoing
    documents: Documents
    kept: Kept
    keep_config: bool = False
    """A rename made programs deaf: what their next rewrite of config.yaml replaces is kept."""

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
        wrote = stored = self.documents.config_view.stored(path, data, base)
        if base is not None:
            stored = await self._settled(path, edit.base, base, stored, deadline)
        written = Written(edit, sequence, data, stored, base, wrote)
        record = self.documents.mirror.records.get(path)
        expect = self.documents.expect(path)
        if record is not None and expect is not None and record.digest == digest_of(stored):
            self.documents.mirror.touch(path, edit.mtime_ns)
            self.documents.settling.deliver(path, wrote, stored)
            self.documents.finish(inode, edit, sequence)
            return
        try:
            entries = await self.outgoing.apply([Put(path, stored, expect)], deadline)
        except Conflict as conflict:
            await self._resolve(inode, written, conflict.current[path], deadline)
        except StoreError as error:
            raise await self._refused(inode, written, error, deadline) from error
        else:
            if path == CONFIG and base is not None:
                self._keep_config(base)
            self._accept(inode, written, stored, entries[path])

    async def _settled(
        self, path: str, known: tuple[bytes, ...], present: bytes, stored: bytes, deadline: float
    ) -> bytes:
        """What to send for a write by a program that may not have read the present version."""
        check = partial(self.documents.settling.check, path, known, present, stored)
        checked = await considered(check, len(stored))
        if checked.lost is not None:
            copy = await self.keep(path, checked.lost, deadline)
            why = "its tokens were superseded" if checked.old_tokens else "it was not read"
            log.warning("%s: merged with what changed elsewhere, for %s; see %s", path, why, copy)
        return checked.data

    @property
    def _identity(self) -> str:
        return self.outgoing.store.backend.identity

    def _keep_config(self, replaced: bytes) -> None:
        if self.keep_config:
            self.keep_config = False
            self.kept.submit(Place.CONFLICTS, CONFIG, replaced)

    def _accept(self, inode: Inode, written: Written, stored: bytes, entry: Entry) -> None:
        if written.base is not None:
            self.documents.settling.supersede(inode.path, written.base, stored)
        # Before it is raised: the next write may come first.
        self.documents.settling.deliver(inode.path, written.wrote, stored)
        self.documents.mirror.install(inode.path, stored, entry, written.edit.mtime_ns)
        self.documents.generations.advance(inode.path)
        self.documents.finish(inode, written.edit, written.sequence)

    async def _resolve(
        self, inode: Inode, written: Written, current: Blob | None, deadline: float
    ) -> None:
        """The conflict rules. Raises Stale where the backend's version stands, as `_commit`."""
        path, ours = inode.path, written.stored
        for attempt in range(_MOST_TRIES):
            if attempt >= TRIES and trio.current_time() >= deadline:
                break
            settle = partial(resolve, path, written.base, ours, current, now=time.time())
            step = await considered(settle, len(ours))
            if isinstance(step, Stands):
                await self._stands(inode, written, current, step, deadline)
                return
            assert step.data is not None  # a put stays one
            try:
                entries = await self.outgoing.apply([Put(path, step.data, step.expect)], deadline)
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
            if written.base is not None:
                self.documents.settling.supersede(path, written.base, current.data)
                self.documents.settling.deliver(path, written.base, current.data)
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
            return InvalidDocument(f"{path}: not sent: {self._identity}: {error}")
        written.edit.told = True
        copy = await self.keep(path, written.shown, deadline)
        self.documents.generations.advance(path)
        self.documents.marks.mark([path])
        self.documents.finish(inode, written.edit, written.sequence)
        said = f"{path}: not sent: {self._identity}: {error}; a copy is in {copy}"
        return Denied(said) if isinstance(error, AccessDenied) else BackendFailed(said)

    async def keep(self, path: str, data: bytes, deadline: float) -> str:
        """Keep a conflict copy and wait until it is on disk, hardly longer than `deadline`.

        Returns its place, for a message. Raises OSError. It does not wait for the mirror's
        writer, which a flood of changes in the backend keeps busy for many deadlines.
        """
        copy = self.kept.submit(Place.CONFLICTS, path, data)
        with trio.move_on_at(max(deadline, trio.current_time() + _GRACE)):
            await finished(copy)
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
            await self.outgoing.apply([Delete(path, expect or PENDING)], deadline)
        except StoreError as error:
            raise self.name_error(path, error) from error

    def name_error(self, path: str, error: StoreError) -> FileError:
        """What unlink and rename answer when the backend refuses; the path is looked at again."""
        self.documents.marks.mark([path])
        if isinstance(error, Conflict):
            return Busy(f"{path}: changed elsewhere; that change stands, try again")
        said = f"{path}: {self._identity}: {error}; nothing was changed here"
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


def _report(copy: Future[str]) -> None:
    """What became of a copy that nobody waits for any more."""
    if error := copy.exception():
        log.error("a conflict copy is lost: %s", error)
