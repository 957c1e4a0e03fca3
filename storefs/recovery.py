"""What a person does with a kept copy: take one that lost, adopt one that nobody accounted for.

Asked through `.storefs/sync`, so every refusal is an error of that file's close, and a line in
the log. Holds the path lock; while the backend is away, what is sent becomes pending.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs.backends.contract import Put
from storefs.content import problem, same_value
from storefs.errors import (
    Busy,
    Conflict,
    DocumentTooLarge,
    EntryExists,
    InvalidArgument,
    InvalidDocument,
    ReadOnly,
    StoreError,
)
from storefs.inodes import Kind
from storefs.kept import Place, path_in
from storefs.outgoing import TRIES
from storefs.paths import ancestors, is_document
from storefs.pending import PENDING
from storefs.raising import Event, Raise

if TYPE_CHECKING:
    from storefs.backends.contract import Blob, Entry
    from storefs.commit import Committer
    from storefs.raising import Raiser


@dataclass(slots=True)
class Recovery:
    """Kept copies become documents again. `path` empty: the copy's name tells it."""

    committer: Committer
    raiser: Raiser
    deadline: float
    """Seconds that one of them may wait for the backend."""
    read_only: bool = False

    async def take(self, name: str, path: str = "", *, place: Place = Place.CONFLICTS) -> None:
        """A copy becomes the document, whatever its tokens; what it replaces is kept.

        Raises FileError, and OSError where there is no such copy or this disk is full.
        """
        data, path = self._copy(place, name, path)
        until = trio.current_time() + self.deadline
        async with self.committer.documents.locks.hold([path], until):
            await self._check_free(path, until)
            base = self.committer.documents.stored(path)
            data = self.committer.documents.config_view.stored(path, data, base)
            await self._replace(path, data, base, until)
            self.committer.kept.remove(place, name)
        self.committer.documents.marks.over(path)

    async def bring(self, path: str, data: bytes) -> None:
        """These stored bytes become the document, whatever its tokens; what they replace is kept.

        Raises as `take`.
        """
        if self.read_only:
            raise ReadOnly(f"{path}: the mount is read-only")
        self._check_document(path, data, "that version")
        until = trio.current_time() + self.deadline
        async with self.committer.documents.locks.hold([path], until):
            await self._check_free(path, until)
            base = self.committer.documents.stored(path)
            if base != data:
                await self._replace(path, data, base, until)
        self.committer.documents.marks.over(path)

    async def bring_back(self, path: str, data: bytes) -> None:
        """A document that the backend lacks has these stored bytes again; never goes pending.

        Raises as `take`, and EntryExists where the backend has it after all.
        """
        if self.read_only:
            raise ReadOnly(f"{path}: the mount is read-only")
        self._check_document(path, data, "the backup copy")
        documents = self.committer.documents
        until = trio.current_time() + self.deadline
        async with documents.locks.hold([path], until):
            await self._check_free(path, until)
            if path in documents.pending:
                raise Busy(f"{path}: a change of it waits to be sent")
            shown = documents.stored(path)  # its deletion may be held, or not believed yet
            try:
                # Not by `outgoing`: that would go over a version which came back meanwhile.
                entries = await self.committer.outgoing.store.commit([Put(path, data, None)], until)
            except Conflict as conflict:
                documents.marks.mark([path])
                raise EntryExists(f"{path}: the store has it; nothing was changed") from conflict
            except StoreError as error:
                raise self.committer.name_error(path, error) from error
            if shown is not None and shown != data:
                await self.committer.keep(path, shown, until)
            self._install(path, data, shown, entries[path])
        documents.marks.over(path)

    async def adopt(self, name: str, path: str = "") -> None:
        """A found file is sent as the document; it leaves `found/` when the backend has it.

        Raises as `take`, and EntryExists where the document has other bytes.
        """
        data, path = self._copy(Place.FOUND, name, path)
        documents = self.committer.documents
        until = trio.current_time() + self.deadline
        async with documents.locks.hold([path], until):
            await self._check_free(path, until)
            base = documents.stored(path)
            data = documents.config_view.stored(path, data, base)
            if base is None:
                await self._create(path, name, data, until)
            elif not same_value(path, data, base):
                raise _exists(path, name)
            if path not in documents.pending:
                self.committer.kept.remove(Place.FOUND, name)
        documents.marks.over(path)

    def _copy(self, place: Place, name: str, path: str) -> tuple[bytes, str]:
        """The bytes of a copy and the document they are for, both checked."""
        if self.read_only:
            raise ReadOnly(f"{name}: the mount is read-only")
        documents = self.committer.documents
        known = {*documents.mirror.records, *(change.path for change in documents.pending)}
        path = path or path_in(name, known) or ""
        if not path:
            raise InvalidArgument(f"{name}: its name is cut and tells no path: give it by --as")
        data = self.committer.kept.read(place, name)
        self._check_document(path, data, f"{place.value}/{name}")
        return data, path

    def _check_document(self, path: str, data: bytes, origin: str) -> None:
        """Raises FileError unless the path is one of this mount's and may hold these bytes."""
        documents = self.committer.documents
        known = path in documents.mirror.records or path in documents.pending
        prefix = f"{documents.inodes.top}/" if documents.inodes.top else ""
        if not (is_document(path) or known) or not path.startswith(prefix):
            raise InvalidArgument(f"{path}: not the path of a document of this mount")
        if len(data) > documents.max_size:
            raise DocumentTooLarge(f"{path}: longer than {documents.max_size} bytes")
        if reason := problem(path, data):
            raise InvalidDocument(f"{path}: not sent: {origin} {reason}")

    async def _check_free(self, path: str, deadline: float) -> None:
        """Raises Busy, EntryExists. Scratch that stands in the way is kept and given up."""
        documents = self.committer.documents
        for above in ancestors(path):
            directory = documents.inodes.find(above)
            if directory is not None and directory.children is None:
                raise EntryExists(f"{path}: {above} is a file")
        inode = documents.inodes.find(path)
        if path in documents.held_back:
            raise Busy(f"{path}: it is being renamed; try again")
        if inode is None:
            return
        if inode.kind is not Kind.DOCUMENT:
            raise EntryExists(f"{path}: a local file or directory has that name; move it away")
        edit = inode.edit
        if edit is None or not edit.changed:
            if documents.changing(inode):
                raise Busy(f"{path}: a program is about to write it; try again")
            return
        sequence = edit.sequence
        if edit.data:
            await self.committer.keep(path, bytes(edit.data), deadline)
        if documents.changing(inode) or edit.sequence != sequence:
            raise Busy(f"{path}: a program is writing it; try again")
        inode.edit = None
        documents.scratch.pop(inode, None)

    async def _replace(
        self, path: str, data: bytes, replaced: bytes | None, deadline: float
    ) -> None:
        """Send `data` over whatever the backend holds, which is kept first."""
        expect = self.committer.documents.expect(path)
        for _ in range(TRIES):
            if replaced is not None and replaced != data:
                await self.committer.keep(path, replaced, deadline)
            try:
                entries = await self.committer.outgoing.apply([Put(path, data, expect)], deadline)
            except Conflict as conflict:
                current: Blob | None = conflict.current[path]
                replaced = current.data if current else None
                expect = current.entry.revision if current else None
            except StoreError as error:
                await self.committer.keep(path, data, deadline)  # the limits may have taken it
                raise self.committer.name_error(path, error) from error
            else:
                self._install(path, data, replaced, entries[path])
                return
        await self.committer.keep(path, data, deadline)
        raise Busy(f"{path}: it changes too fast elsewhere; try again")

    async def _create(self, path: str, name: str, data: bytes, deadline: float) -> None:
        """Send `data` as a document that nobody has. Raises EntryExists."""
        expect = self.committer.documents.expect(path)
        try:
            entries = await self.committer.outgoing.apply([Put(path, data, expect)], deadline)
        except Conflict as conflict:
            self.committer.documents.marks.mark([path])
            current = conflict.current[path]
            if current is None or not same_value(path, data, current.data):
                raise _exists(path, name) from conflict
        except StoreError as error:
            raise self.committer.name_error(path, error) from error
        else:
            self._install(path, data, None, entries[path])

    def _install(self, path: str, data: bytes, replaced: bytes | None, entry: Entry) -> None:
        """Bytes, size and mtime in one step; then the event, pending or not. No await in here."""
        documents = self.committer.documents
        inode = documents.inodes.find(path)
        if replaced is not None:
            documents.settling.supersede(path, replaced, data)
            documents.settling.deliver(path, replaced, data)
        documents.mirror.install(path, data, entry, time.time_ns())
        generation = documents.generations.advance(path)
        if inode is None:
            self.raiser.request(Raise(Event.CREATED, path, generation))
        else:
            if inode.edit is not None and not inode.edit.changed:
                inode.edit = None
            inode.installed = generation
            self.raiser.request(Raise(Event.MODIFIED, path, generation, inode.ino))
        if entry.revision == PENDING:
            # If it is sent before the event has arisen, the event is superseded: show it then.
            documents.marks.show(path)


def _exists(path: str, name: str) -> EntryExists:
    return EntryExists(
        f"{path}: exists with other bytes than {Place.FOUND.value}/{name}: compare them, then "
        "copy it over the document, or unlink it"
    )
