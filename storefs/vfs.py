"""The semantics of open files and attributes; knows no FUSE and no backend.

`fuse` drives it for the kernel, tests drive it directly. Between two awaits a call owns
everything. No call waits for a raise or an invalidate, whatever the way.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from storefs import xattrs
from storefs.control import MODES
from storefs.errors import (
    BadHandle,
    FileError,
    Gone,
    NotPermitted,
    NotSupported,
    ReadOnly,
)
from storefs.handles import Handle, Listing
from storefs.inodes import Kind
from storefs.paths import CONFIG
from storefs.raising import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.commit import Committer
    from storefs.control import Control
    from storefs.documents import Documents
    from storefs.handles import Handles
    from storefs.inodes import Inode, Inodes
    from storefs.localfiles import LocalFiles
    from storefs.names import Names
    from storefs.scratch import Scratch
    from storefs.sending import Sending

log = logging.getLogger(__name__)

TRUNCATE_SECONDS = 1.0
"""A truncate without a handle is committed this much later, if what is left is valid."""

_AT_A_TIME = 256
"""Names of a listing looked at together; the kernel asks for some 180."""

_DOCUMENT_MODE = stat.S_IFREG | 0o600


class Attributes(NamedTuple):
    """What stat shows. `cacheable` False: the kernel must ask each time."""

    ino: int
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int
    cacheable: bool
    disk: os.stat_result | None = None
    """Of a local file: what its disk says, for the access time and the blocks."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a SETATTR asks for; None leaves a thing as it is. Times in nanoseconds."""

    size: int | None = None
    mode: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclass(slots=True)
class Vfs:
    """Open files and attributes of one mount; `names` holds the rest."""

    inodes: Inodes
    handles: Handles
    documents: Documents
    committer: Committer
    sending: Sending
    local: LocalFiles
    control: Control
    names: Names
    scratch: Scratch
    deadline: float
    """Seconds a call may wait for the backend."""

    def lookup(self, parent: int, raw: bytes) -> Attributes:
        """The attributes of a name; the kernel holds one more reference. Raises NoEntry."""
        return self.remember(self.names.existing(parent, raw))

    def remember(self, inode: Inode) -> Attributes:
        """The attributes to reply for a name; the kernel holds one more reference."""
        attributes = self.attributes(inode)
        inode.lookups += 1
        return attributes

    def of_documents(self) -> Attributes:
        """What stat shows of every document that has a name; number, size and times aside."""
        return Attributes(0, _DOCUMENT_MODE, 0, 0, 0, 1, True)

    def attributes(self, inode: Inode) -> Attributes:
        """What stat shows of an inode. Raises Gone, OSError."""
        _check_there(inode)
        if inode.kind is Kind.DOCUMENT:
            size, mtime = self.documents.measures(inode)
            links = 1 if inode.linked else 0
            return Attributes(inode.ino, _DOCUMENT_MODE, size, mtime, mtime, links, True)
        if inode.kind is Kind.LOCAL:
            info = self.local.stat(inode)
            mtime, ctime = info.st_mtime_ns, info.st_ctime_ns
            cacheable = not inode.path.startswith(".storefs/")
            size, links = info.st_size, info.st_nlink
            return Attributes(inode.ino, info.st_mode, size, mtime, ctime, links, cacheable, info)
        if inode.kind is Kind.CONTROL:
            now = time.time_ns()
            mode = stat.S_IFREG | MODES[inode.name]
            return Attributes(inode.ino, mode, 0, now, now, 1, False)
        mtime = inode.changed_ns
        return Attributes(inode.ino, stat.S_IFDIR | 0o700, 0, mtime, mtime, 2, True)

    async def setattr(self, ino: int, change: Change, fh: int | None, tid: int) -> Attributes:
        """Change attributes, or recognise a worker's raise. Raises Superseded, FileError."""
        inode = self.inodes.get(ino)
        if change.mtime_ns is not None and self.names.confirm_modified(inode, tid):
            return self.attributes(inode)
        _check_there(inode)
        self._check_writable(inode)
        if inode.kind is Kind.CONTROL:  # `echo 1 > sync` truncates it first
            return self.attributes(inode)
        if change.size is not None:
            self._resize(inode, change.size, None if fh is None else self.handles.get(fh))
        if inode.kind is Kind.LOCAL:
            if change.mode is not None:
                self.local.chmod(inode, change.mode)
            if change.atime_ns is not None or change.mtime_ns is not None:
                self.local.utime(inode, change.atime_ns, change.mtime_ns)
        return self.attributes(inode)

    def _check_writable(self, inode: Inode) -> None:
        if self.names.read_only and inode.kind is not Kind.CONTROL:
            raise ReadOnly(f"{inode.path}: the mount is read-only")
        if inode.kind is Kind.LOCAL and inode.path.startswith(".storefs/"):
            raise NotPermitted(f"{inode.path}: a kept copy is never changed; copy it elsewhere")

    def _resize(self, inode: Inode, size: int, handle: Handle | None) -> None:
        if inode.kind is Kind.LOCAL:
            self.local.resize(inode, size)
        elif inode.kind is Kind.DOCUMENT:
            self.documents.resize(inode, size, handle)
            if handle is None and inode.edit is not None:
                inode.edit.scheduled = True
                self.scratch.background(inode, TRUNCATE_SECONDS)

    def open(self, ino: int, flags: int) -> int:
        """Open a file; returns the handle's number. Raises FileError, OSError."""
        inode = self.inodes.get(ino)
        _check_there(inode)
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if writable or flags & os.O_TRUNC:
            self._check_writable(inode)
            if inode.kind is Kind.DOCUMENT and not inode.linked:
                # What is written there would reach nobody; a writer must find the new file.
                raise Gone(f"{inode.path}: its name is gone")
        if inode.kind is Kind.LOCAL:
            self.local.open(inode)
        handle = Handle(inode, writable, self.documents.generations.now)
        if inode.kind is Kind.CONTROL:
            handle.frozen = self.control.content(inode)
        fh = self.handles.open(handle)
        if flags & os.O_TRUNC:
            self._resize(inode, 0, handle)
        return fh

    def create(self, parent: int, raw: bytes, mode: int, flags: int, tid: int) -> tuple[int, Inode]:
        """Make a file, or open the one that is there (unless O_EXCL), and open it."""
        exclusive = bool(flags & os.O_EXCL)
        inode = self.names.make(parent, raw, mode, tid, exclusive=exclusive)
        return self.open(inode.ino, flags & ~(os.O_CREAT | os.O_EXCL)), inode

    def direct(self, fh: int) -> bool:
        """Whether reads must bypass the kernel's cache, because it knows the wrong size.

        It knows none of a control file, and an old one of a document whose change is not raised.
        """
        handle = self.handles.get(fh)
        inode = handle.inode
        if inode.kind is Kind.DOCUMENT and inode.installed and not handle.writable:
            waits = self.names.raiser.wants(Event.MODIFIED, inode.path)
            return waits or self.documents.outvoted(inode)
        return inode.kind is Kind.CONTROL

    def read(self, fh: int, offset: int, size: int) -> bytes:
        """Present bytes; of a change whose event is on its way, the ones before it."""
        handle = self.handles.get(fh)
        if handle.inode.kind is Kind.DOCUMENT:
            return bytes(self.documents.read(handle)[offset : offset + size])
        if handle.inode.kind is Kind.CONTROL:
            return handle.frozen[offset : offset + size]
        return os.pread(handle.inode.fd, size, offset)

    def write(self, fh: int, offset: int, data: bytes) -> int:
        """Change what every process of this machine reads."""
        handle = self.handles.get(fh)
        if not handle.writable:
            raise BadHandle(f"{handle.inode.path}: not open for writing")
        if handle.inode.kind is Kind.DOCUMENT:
            return self.documents.write(handle, offset, data)
        if handle.inode.kind is Kind.CONTROL:
            handle.frozen = handle.frozen + data if handle.wrote else data
            handle.wrote = True
            return len(data)
        return self.local.write(handle.inode, offset, data)

    async def flush(self, fh: int) -> None:
        """A descriptor is closed: commit what was written through it."""
        handle = self.handles.get(fh)
        if not handle.wrote:
            return
        deadline = trio.current_time() + self.deadline
        if handle.inode.kind is Kind.DOCUMENT:
            await self.committer.flush(handle.inode, deadline)
        elif handle.inode.kind is Kind.CONTROL:
            handle.wrote, data = False, handle.frozen
            handle.frozen = b""
            await self.control.write(handle.inode, data)

    async def fsync(self, fh: int) -> None:
        """Durable when it returns: in the backend, or on this machine's disk."""
        handle = self.handles.get(fh)
        if handle.inode.kind is Kind.DOCUMENT:
            deadline = trio.current_time() + self.deadline
            await self.committer.flush(handle.inode, deadline)
            await self.sending.attempt(handle.inode.path, deadline)
        elif handle.inode.kind is Kind.LOCAL:
            await trio.to_thread.run_sync(os.fsync, handle.inode.fd)
        elif handle.wrote:
            await self._answer(handle)

    async def _answer(self, handle: Handle) -> None:
        """Carry out the order that was written; the handle then reads as what came of it."""
        order, handle.frozen, handle.wrote = handle.frozen, b"", False
        try:
            handle.frozen = await self.control.answer(handle.inode, order)
        except (FileError, OSError) as refusal:
            handle.frozen = str(refusal).encode(errors="surrogateescape")
            raise

    def release(self, fh: int) -> None:
        """The last descriptor of a handle is gone: commit what no flush saw."""
        handle = self.handles.close(fh)
        inode = handle.inode
        if inode.kind is Kind.LOCAL and inode.opens == 0 and inode.linked:
            self.local.close(inode)
        if inode.kind is Kind.DOCUMENT and handle.writable:
            self.scratch.after_release(inode, wrote=handle.wrote)
        self.inodes.settle(inode)

    def opendir(self, ino: int) -> int:
        """Take a snapshot of a directory's names; returns its number."""
        inode = self.inodes.get(ino)
        self.control.refresh(inode)
        children = inode.children or {}
        if inode is self.inodes.root and inode.path:  # --subdir: .storefs answers, unlisted
            hidden = self.control.directory
            children = {name: child for name, child in children.items() if child is not hidden}
        return self.handles.open_listing(Listing(inode, [*children], [*children.values()]))

    def listing(self, fh: int, start: int) -> Iterator[tuple[int, bytes, Inode, int, int]]:
        """From the snapshot what is still there under its name: the position behind it, name,
        inode, size and mtime (ns). For what is no document the last two mean nothing.

        On the path of every name of a listing: `documents.measures` is asked only where the
        mirror's record does not tell.
        """
        directory, names, inodes = self.handles.listing(fh)
        assert directory.children is not None
        now, position, measures = directory.children.get, start, self.documents.measures
        known, document = self.documents.mirror.records.get, Kind.DOCUMENT
        for first in range(start, len(names), _AT_A_TIME):
            last = first + _AT_A_TIME
            for name, inode in zip(names[first:last], inodes[first:last], strict=True):
                position += 1
                if now(name) is not inode:
                    continue
                if inode.kind is not document:
                    yield position, name.encode(), inode, 0, 0
                elif inode.edit is None and inode.path != CONFIG and (record := known(inode.path)):
                    yield position, name.encode(), inode, record.size, record.mtime_ns
                else:
                    yield position, name.encode(), inode, *measures(inode)

    def xattrs(self, ino: int) -> tuple[str, ...]:
        """The names of the extended attributes."""
        return xattrs.names(self.inodes.get(ino))

    def xattr(self, ino: int, name: str) -> bytes:
        """The value of one extended attribute. Raises NoAttribute."""
        store = self.committer.outgoing.store
        return xattrs.value(self.inodes.get(ino), name, self.documents, store.error)

    def refuse_xattr(self, ino: int, name: str) -> NotSupported:
        """What setting an extended attribute answers: they are not kept."""
        return NotSupported(f"{self.inodes.get(ino).path}: extended attribute {name}")

    async def fsync_directory(self) -> None:
        """Names of documents are in the backend already; local ones follow the disk's rules."""
        await self.names.in_order(lambda: None)

    def statfs(self) -> os.statvfs_result:
        """The room on this machine's disk."""
        return os.statvfs(self.local.dir_fd)


def _check_there(inode: Inode) -> None:
    """Raises Gone for a file that lost its name and whose bytes nobody holds any more.

    The kernel found the inode under the name just before a rename or unlink was answered. It
    looks the name up again, but once only: so what a rename replaces is held until it is forgotten.
    """
    if inode.linked:
        return
    held = inode.edit is not None if inode.kind is Kind.DOCUMENT else inode.fd >= 0
    if not held and inode.kind in (Kind.DOCUMENT, Kind.LOCAL):
        raise Gone(f"{inode.path}: its name is gone")
