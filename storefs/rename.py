"""Rename, in its four cases: local or document, to a local or a document name.

A rename onto a document name is one commit. A document renamed to a local name (vim's backup)
is a delete held back for a moment: if the name returns, both become one put.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs import disk
from storefs.backends.contract import Delete, Put
from storefs.content import problem, same_value
from storefs.errors import (
    Conflict,
    CrossDevice,
    DocumentTooLarge,
    FileError,
    InvalidDocument,
    StoreError,
)
from storefs.inodes import Edit, Kind
from storefs.mirror import digest_of
from storefs.paths import CONFIG, is_document
from storefs.pending import PENDING

if TYPE_CHECKING:
    from storefs.backends.contract import Change, Entry
    from storefs.commit import Committer
    from storefs.inodes import Inode
    from storefs.localfiles import LocalFiles

log = logging.getLogger(__name__)

HELD_BACK = 2.0
"""Seconds for which the delete of a document renamed to a local name waits for the name."""


@dataclass(slots=True)
class Renames:
    """Renames within one mount."""

    committer: Committer
    local: LocalFiles
    config_replaced: bool = False
    """A program renamed a file onto config.yaml: watchers of the old file are deaf."""

    def is_document_name(self, path: str) -> bool:
        """Whether a file of this name is, or would be, a document."""
        documents = self.committer.documents
        inode = documents.inodes.find(path)
        if inode is not None and inode.kind is Kind.DOCUMENT:
            return True
        return is_document(path) or documents.arriving(path)

    async def file(
        self, source: Inode, directory: Inode, name: str, target: Inode | None, deadline: float
    ) -> None:
        """Rename a file over `target`, or to a free name. Raises FileError, OSError."""
        path = self.committer.documents.inodes.join(directory, name)
        if self.is_document_name(path):
            await self._onto_document(source, directory, name, deadline)
        elif source.kind is Kind.DOCUMENT:
            await self._hold_back(source, directory, name, target)
        else:
            self._hold_open(target)
            self.committer.documents.mirror.vacate(path)
            self.local.rename(source.path, path)
            self._take_place(source, directory, name, target)

    def _hold_open(self, target: Inode | None) -> None:
        """Let a program that looked the name up a moment ago still open what is replaced."""
        if target is not None and target.kind is Kind.LOCAL and target.lookups:
            self.local.open(target)

    def _take_place(self, source: Inode, directory: Inode, name: str, target: Inode | None) -> None:
        inodes = self.committer.documents.inodes
        if target is not None:
            inodes.unlink(target)
        inodes.move(source, directory, name)

    async def _onto_document(
        self, source: Inode, directory: Inode, name: str, deadline: float
    ) -> None:
        documents, old = self.committer.documents, source.path
        path = documents.inodes.join(directory, name)
        paths = [old, path] if source.kind is Kind.DOCUMENT else [path]
        async with documents.locks.hold(paths, deadline):
            data = self._held_by(source)
            if reason := "is empty" if not data else problem(path, data):
                raise InvalidDocument(f"{old} -> {path}: not renamed: the file {reason}")
            base = documents.stored(path)
            stored = documents.config_view.stored(path, data, base)
            entry = await self._commit(source, path, stored, deadline)
            self._installed(source, directory, name, data, stored, entry)
            if path == CONFIG and base is not None:
                self._warn_replaced()
        for changed in paths:
            documents.marks.over(changed)

    def _held_by(self, source: Inode) -> bytes:
        documents = self.committer.documents
        if source.kind is Kind.DOCUMENT:
            return bytes(documents.data(source))
        data = self.local.content(source, documents.max_size + 1)
        if len(data) > documents.max_size:
            raise DocumentTooLarge(f"{source.path}: longer than {documents.max_size} bytes")
        return data

    async def _commit(
        self, source: Inode, path: str, stored: bytes, deadline: float
    ) -> tuple[bytes, Entry] | None:
        """Send what must be sent; returns what the backend now holds, None if it held it before."""
        documents = self.committer.documents
        record, expect = documents.mirror.records.get(path), documents.expect(path)
        changes: list[Change] = []
        same = record is not None and record.digest == digest_of(stored)
        revision = None
        if source.kind is Kind.DOCUMENT:
            waits = PENDING if source.path in documents.pending else None
            revision = documents.expect(source.path) or waits
        # With a delete the put goes along though the bytes are the same: unless the target still
        # is what it was here, the content would be gone under both names.
        if expect is None or not same or revision:
            changes.append(Put(path, stored, expect))
        if revision:
            changes.append(Delete(source.path, revision))
        if not changes:
            return None
        try:
            entries = await self.committer.outgoing.apply(changes, deadline)
        except Conflict as conflict:
            documents.marks.mark(change.path for change in changes)
            current = conflict.current.get(path)
            if current is None or not same_value(path, stored, current.data):
                raise self.committer.name_error(path, conflict) from conflict
            if source.kind is Kind.DOCUMENT:
                await self.committer.delete(source.path, deadline)
            return current.data, current.entry
        except StoreError as error:
            documents.marks.mark([source.path])
            raise self.committer.name_error(path, error) from error
        return (stored, entries[path]) if path in entries else None

    def _installed(
        self,
        source: Inode,
        directory: Inode,
        name: str,
        data: bytes,
        stored: bytes,
        entry: tuple[bytes, Entry] | None,
    ) -> None:
        """The commit is done: the source inode is the document now, in one step."""
        documents, old = self.committer.documents, source.path
        target = documents.inodes.find(documents.inodes.join(directory, name))
        mtime_ns = self._mtime_ns(source)
        if source.kind is Kind.DOCUMENT:
            if old in documents.mirror.records:
                documents.mirror.drop(old)
        else:
            self.local.close(source)
            self.local.unlink(old)
        if target is not None:
            documents.freeze(target, replaced=True)
        self._take_place(source, directory, name, target)
        source.kind = Kind.DOCUMENT
        path = source.path
        documents.held_back.pop(path, None)
        if entry is None:
            documents.mirror.touch(path, mtime_ns)
        else:
            documents.mirror.install(path, entry[0], entry[1], mtime_ns)
        documents.generations.advance(path)
        documents.generations.advance(old)
        documents.marks.removed(old)
        edit = source.edit = Edit(bytearray(data), mtime_ns)
        documents.finish(source, edit, edit.sequence)

    def _mtime_ns(self, source: Inode) -> int:
        if source.kind is Kind.DOCUMENT:
            return self.committer.documents.mtime_ns(source)
        return self.local.stat(source).st_mtime_ns

    def _warn_replaced(self) -> None:
        if not self.config_replaced:
            log.warning(
                "%s was replaced by a rename: programs that watch the old file no longer see "
                "changes of it; restart them, and edit in place from now on",
                CONFIG,
            )
        self.config_replaced = True
        self.committer.keep_config = True

    async def _hold_back(
        self, source: Inode, directory: Inode, name: str, target: Inode | None
    ) -> None:
        """The document becomes a local file; its delete waits for the name to return."""
        documents, old = self.committer.documents, source.path
        path = documents.inodes.join(directory, name)
        async with documents.locks.hold([old], trio.current_time() + HELD_BACK):
            data, mtime_ns = bytes(documents.data(source)), documents.mtime_ns(source)
            self._hold_open(target)
            documents.mirror.vacate(path)
            disk.replace(self.local.dir_fd, path, data, mtime_ns=mtime_ns)
            self._take_place(source, directory, name, target)
            source.kind, source.edit = Kind.LOCAL, None
            documents.scratch.pop(source, None)
            if source.opens:
                self.local.open(source)
            if old in documents.mirror.records:
                documents.hold_back(old, HELD_BACK)
            documents.generations.advance(old)
            documents.marks.removed(old)

    def due(self) -> list[str]:
        """Documents whose delete was held back long enough; each is told once."""
        held = self.committer.documents.held_back
        now = time.monotonic()
        paths = [path for path, at in held.items() if at <= now]
        held.update(dict.fromkeys(paths, math.inf))
        return paths

    async def let_go(self, path: str, seconds: float) -> None:
        """The name did not return: commit the delete that was held back, within `seconds`."""
        documents = self.committer.documents
        deadline = trio.current_time() + seconds
        try:
            async with documents.locks.hold([path], deadline):
                if path in documents.held_back:
                    await self.committer.delete(path, deadline)
                    documents.mirror.drop(path)
        except FileError as error:
            log.warning("%s; the document shows again", error)
            documents.marks.show(path)
        finally:
            documents.held_back.pop(path, None)
            documents.generations.advance(path)
        documents.marks.over(path)

    async def directory(
        self, source: Inode, directory: Inode, name: str, target: Inode | None
    ) -> None:
        """Rename a directory of local files. Raises CrossDevice where documents are concerned."""
        documents = self.committer.documents
        path = documents.inodes.join(directory, name)
        prefix = f"{source.path}/"
        if any(known.startswith(prefix) for known in documents.mirror.records) or (
            _becomes_shared(source, path)
        ):
            raise CrossDevice(f"{source.path}: holds documents; move them one by one")
        old = source.path
        done = documents.mirror.submit(lambda: self.local.rename(old, path))
        await trio.to_thread.run_sync(done.result)
        self._take_place(source, directory, name, target)


def _becomes_shared(inode: Inode, path: str) -> bool:
    """Whether a file at or below `inode` is a document, or would be one at `path`."""
    if inode.children is None:
        return inode.kind is Kind.DOCUMENT or is_document(path)
    return any(_becomes_shared(child, f"{path}/{name}") for name, child in inode.children.items())
