"""Carrying changes of one document to the backend: flush, fsync, release, unlink.

Each takes the path lock, commits on the revision this machine saw last, and resolves what the
backend answers. Nothing here waits for an event or an invalidate.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs.backends.contract import Delete, Put
from storefs.content import problem, same_value
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
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.contract import Blob, Change, Entry
    from storefs.documents import Documents
    from storefs.inodes import Edit, Inode
    from storefs.store import Store

log = logging.getLogger(__name__)

_TRIES = 5


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
    last_out: float | None = None
    """When a change of this machine last reached the backend (unix seconds)."""
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
        stored = self.documents.config_view.stored(path, data, base)
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
            await self._lost(inode, written, conflict.current[path])
        except StoreError as error:
            raise await self._refused(inode, written, error) from error
        else:
            if path == CONFIG and base is not None:
                self._keep_config(base)
            self._accept(inode, written, stored, entries[path])

    def _keep_config(self, replaced: bytes) -> None:
        if self.keep_config:
            self.keep_config = False
            self.documents.mirror.submit(lambda: self.kept.keep(Place.CONFLICTS, CONFIG, replaced))

    async def apply(self, changes: list[Change], deadline: float) -> Mapping[str, Entry]:
        """Commit one batch, again on the new revision while the backend holds the base (rule 0).

        Raises StoreError; a Conflict then tells the present content of every path in it.
        """
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
        self.documents.mirror.install(inode.path, stored, entry, written.edit.mtime_ns)
        self.documents.generations.advance(inode.path)
        self.documents.finish(inode, written.edit, written.sequence)

    async def _lost(self, inode: Inode, written: Written, current: Blob | None) -> None:
        """Conflict rules 1 and 4. Raises Stale unless both sides wrote the same value."""
        path = inode.path
        if current is not None and same_value(path, written.stored, current.data):
            self._accept(inode, written, current.data, current.entry)
            return
        sequence = written.edit.sequence
        copy = await self.keep(Place.CONFLICTS, path, bytes(written.edit.data))
        if current is None or len(current.data) > self.documents.max_size:  # which is not shown
            self.documents.marks.mark([path])
        else:
            self.documents.mirror.install(path, current.data, current.entry, time.time_ns())
        inode.installed = self.documents.generations.advance(path)
        self.documents.finish(inode, written.edit, sequence)
        raise Stale(f"{path}: changed elsewhere; that version stands, this one is in {copy}")

    async def _refused(self, inode: Inode, written: Written, error: StoreError) -> FileError:
        """The backend did not take it: keep a copy, show the old version again."""
        path = inode.path
        if isinstance(error, Invalid):
            written.edit.refused = written.sequence
            return InvalidDocument(f"{path}: not sent: {self.store.backend.identity}: {error}")
        copy = await self.keep(Place.CONFLICTS, path, written.shown)
        self.documents.generations.advance(path)
        self.documents.marks.mark([path])
        self.documents.finish(inode, written.edit, written.sequence)
        said = f"{path}: not sent: {self.store.backend.identity}: {error}; a copy is in {copy}"
        return Denied(said) if isinstance(error, AccessDenied) else BackendFailed(said)

    async def keep(self, place: Place, path: str, data: bytes) -> str:
        """Keep a copy and wait until it is on disk; returns its place. Raises OSError."""
        done = self.documents.mirror.submit(lambda: self.kept.keep(place, path, data))
        copy = await trio.to_thread.run_sync(done.result)
        return str(copy)

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
        if expect is None:
            return
        try:
            await self.apply([Delete(path, expect)], deadline)
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
        documents.generations.advance(path)
        documents.marks.removed(path)
