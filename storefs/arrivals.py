"""Taking in what the backend holds: bytes, size and mtime in one step, then the event.

The arrivals part of reconcile, which has seen that no program of this machine is changing the
path. Nothing here awaits: between the look and the install nothing else can happen.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.errors import BackendFailed
from storefs.inodes import Kind
from storefs.kept import Place
from storefs.mirror import VANISHED, Torn
from storefs.paths import ancestors
from storefs.raising import Event, Raise

if TYPE_CHECKING:
    from storefs.admission import Admission
    from storefs.backends.contract import Blob
    from storefs.documents import Documents
    from storefs.inodes import Inode
    from storefs.kept import Kept
    from storefs.localfiles import LocalFiles
    from storefs.raising import Raiser
    from storefs.removals import Removals

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Arrivals:
    """Documents that come from elsewhere."""

    documents: Documents
    kept: Kept
    admission: Admission
    raiser: Raiser
    removals: Removals
    local: LocalFiles
    last: float | None = None
    """When a change from elsewhere last arrived (unix seconds)."""

    def take(self, path: str, blob: Blob | None) -> None:
        """What the backend holds of a path, None for nothing, becomes what programs see."""
        record = self.documents.mirror.records.get(path)
        if blob is None:
            if record is not None and record.revision != VANISHED:
                self.removals.vanishing.note([path], time.monotonic())
            return
        self.removals.returned(path)
        unchanged = record is not None and record.revision == blob.entry.revision
        if unchanged and path not in self.documents.mirror.torn:
            self.announce(path)
            return
        if self.admission.admits(path, len(blob.data)) and self._has_place(path):
            self._install(path, blob)

    def announce(self, path: str) -> None:
        """Raise once more what stayed hidden: its raise failed, or came too late."""
        if self.documents.arriving(path) and not self.raiser.wants(Event.CREATED, path):
            generation = self.documents.generations.of(path)
            self.raiser.request(Raise(Event.CREATED, path, generation))

    def _has_place(self, path: str) -> bool:
        """Whether the tree has room for the name: a file wins over deeper names."""
        inodes = self.documents.inodes
        here = inodes.find(path)
        if here is not None and here.kind is Kind.DIRECTORY:
            self.admission.skip(path, "a directory of this machine has that name")
            return False
        for directory in ancestors(path):
            above = inodes.find(directory)
            arriving = directory in self.documents.mirror.records
            if arriving or (above is not None and above.kind is not Kind.DIRECTORY):
                self.admission.skip(path, f"{directory} is a file")
                return False
        self.admission.skipped.pop(path, None)
        return True

    def _install(self, path: str, blob: Blob) -> None:
        """Bytes, size and a new mtime in one step; then the event."""
        documents = self.documents
        inode = documents.inodes.find(path)
        if inode is not None and inode.kind is Kind.DOCUMENT:
            documents.keep_former(inode)
        replaced = self._set_aside(path, inode)
        if replaced is not None:
            documents.settling.supersede(path, replaced, blob.data)
            documents.settling.deliver(path, replaced, blob.data)
        documents.mirror.install(path, blob.data, blob.entry, time.time_ns())
        generation = documents.generations.advance(path)
        self.last = time.time()
        if inode is None:
            self.raiser.request(Raise(Event.CREATED, path, generation))
        else:
            inode.installed = generation
            self.raiser.request(Raise(Event.MODIFIED, path, generation, inode.ino))

    def _set_aside(self, path: str, inode: Inode | None) -> bytes | None:
        """Keep what an install replaces: the last version, scratch, a local file of that name.

        Returns the last version, in stored form.
        """
        mirror, kept = self.documents.mirror, self.kept
        if inode is not None and inode.kind is Kind.LOCAL:
            log.warning("%s exists in the backend: the local file moved to found/", path)
            mirror.later(lambda: kept.take_in(path), f"taking in {path}", hurry=True)
            self.local.close(inode)
            inode.kind = Kind.DOCUMENT
        edit = inode.edit if inode is not None else None
        if inode is not None and edit is not None:
            if edit.changed and edit.data:
                scratch = bytes(edit.data)
                mirror.later(
                    lambda: kept.keep(Place.CONFLICTS, path, scratch),
                    f"a copy of {path}",
                    hurry=True,
                )
            inode.edit = None
            self.documents.scratch.pop(inode, None)
        if path in mirror.records:
            with suppress(Torn, OSError):
                old = mirror.content(path)
                mirror.later(lambda: kept.keep(Place.TRASH, path, old), f"a copy of {path}")
                return old
        return None

    def show(self, path: str) -> None:
        """Replace bytes that were written, but are not what the mirror holds."""
        documents = self.documents
        if documents.busy(path):
            return
        documents.marks.shows.discard(path)
        inode = documents.inodes.find(path)
        if inode is None:
            if documents.arriving(path):
                generation = documents.generations.advance(path)
                self.raiser.request(Raise(Event.CREATED, path, generation))
            return
        if inode.kind is not Kind.DOCUMENT or (inode.edit is not None and inode.edit.changed):
            return
        if path not in documents.mirror.records:
            self.removals.remove(path, time.monotonic())
            return
        if inode.edit is not None and not inode.edit.told:
            self._deliver_instead(path, bytes(inode.edit.data))
        documents.keep_former(inode)
        inode.edit = None
        documents.mirror.touch(path, time.time_ns())
        inode.installed = documents.generations.advance(path)
        self.raiser.request(Raise(Event.MODIFIED, path, inode.installed, inode.ino))

    def _deliver_instead(self, path: str, written: bytes) -> None:
        """Whoever wrote is about to be told of what was stored instead of it."""
        documents = self.documents
        with suppress(BackendFailed):
            if (stored := documents.stored(path)) is not None:
                known = documents.config_view.stored(path, written, stored)
                documents.settling.deliver(path, known, stored)
