"""The names of the mount: making, removing and renaming them, and who may do so where."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs import paths
from storefs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    InvalidArgument,
    InvalidName,
    IsADirectory,
    NameTooLong,
    NoEntry,
    NotADirectory,
    NotPermitted,
    ReadOnly,
    Superseded,
)
from storefs.inodes import Kind
from storefs.kept import Place
from storefs.mirror import Torn
from storefs.raising import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.commit import Committer
    from storefs.control import Control
    from storefs.documents import Documents
    from storefs.inodes import Inode, Inodes
    from storefs.localfiles import LocalFiles
    from storefs.raising import Raise, Raiser
    from storefs.rename import Renames

RENAME_NOREPLACE = 1
"""As in renameat2(2)."""

_PLACES = frozenset(place.value for place in Place)


def decode(name: bytes) -> str:
    """A name as the kernel sends it; bytes that are not UTF-8 stay recognisable."""
    return name.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class Names:
    """Changes of the tree. `tid` is the calling thread: a worker's own calls are raises."""

    inodes: Inodes
    documents: Documents
    committer: Committer
    renames: Renames
    local: LocalFiles
    control: Control
    raiser: Raiser
    read_only: bool
    dir_wait: float
    """Seconds for which unlink and rename may wait: the kernel holds the directory meanwhile."""

    def child(self, parent: int, raw: bytes) -> tuple[Inode, str, Inode | None]:
        """The directory, the name in it, and what the name stands for now."""
        directory, name = self.inodes.get(parent), decode(raw)
        if directory.children is None:
            raise NotADirectory(directory.path)
        if len(raw) > paths.NAME_MAX:
            raise NameTooLong(f"{directory.path}: a name of {len(raw)} bytes")
        self.control.refresh(directory)
        return directory, name, directory.children.get(name)

    def existing(self, parent: int, raw: bytes) -> Inode:
        """What the name stands for. Raises NoEntry."""
        directory, name, inode = self.child(parent, raw)
        if inode is None:
            raise NoEntry(f"{directory.path}/{name!r}")
        return inode

    def _check_place(self, directory: Inode, name: str, tid: int) -> None:
        """Raises unless a program may make, remove or rename this name here."""
        try:
            paths.check_name(name)
        except paths.InvalidPath as error:
            raise InvalidName(f"{directory.path}: {error}") from None
        path = self.inodes.join(directory, name)
        if self.read_only and not self.raiser.is_worker(tid):
            raise ReadOnly(f"{path}: the mount is read-only")
        if not directory.path:
            raise NotPermitted(
                f"{path}: the mount holds config/ and auths/ only; "
                "configuration belongs in config/, tokens in auths/"
            )
        if path == self.control.directory.path or directory.path.startswith(
            self.control.directory.path
        ):
            raise NotPermitted(f"{path}: .storefs/ is made by storefs alone")

    def make(self, parent: int, raw: bytes, mode: int, tid: int, *, exclusive: bool) -> Inode:
        """A regular file under this name: new and empty, or the one that is there already."""
        directory, name, inode = self.child(parent, raw)
        self._check_place(directory, name, tid)
        path = self.inodes.join(directory, name)
        if inode is None and self.documents.arriving(path):
            inode = self.appear(path)
        if inode is not None:
            if exclusive:
                raise EntryExists(path)
            return inode
        if not paths.is_document(path) and path not in self.documents.held_back:
            self.documents.mirror.vacate(path)
            fd = self.local.create(path, mode)
            inode = self.inodes.add(directory, name, Kind.LOCAL)
            inode.fd = fd
            return inode
        inode = self.inodes.add(directory, name, Kind.DOCUMENT)
        self.documents.held_back.pop(path, None)
        self.documents.begin(inode, empty=True)
        return inode

    def appear(self, path: str) -> Inode:
        """Make the name of an arriving document visible."""
        inode = self.inodes.add_path(path, Kind.DOCUMENT)
        inode.installed = self.documents.generations.of(path)
        return inode

    def mknod(self, parent: int, raw: bytes, mode: int, tid: int) -> Inode:
        """A regular file without opening it; a worker's call makes a document appear."""
        directory, name, inode = self.child(parent, raw)
        path = self.inodes.join(directory, name)
        if wanted := self.raiser.claim(tid, Event.CREATED, path):
            if inode is not None:
                raise EntryExists(path)
            self._check_current(wanted, valid=self.documents.arriving(path))
            return self.appear(path)
        if not stat.S_ISREG(mode):
            raise NotPermitted(f"{path}: only regular files and directories live here")
        inode = self.make(parent, raw, mode, tid, exclusive=True)
        if inode.kind is Kind.LOCAL:
            self.local.close(inode)
        else:
            self.documents.keep_scratch(inode)
        return inode

    def _check_current(self, wanted: Raise, *, valid: bool) -> None:
        """Raises Superseded, and marks the path, if it changed since the raise was wanted."""
        path = wanted.path
        if not valid or self.documents.generations.moved(path, wanted.generation):
            self.documents.marks.mark([path])
            raise Superseded(f"{path}: changed before {wanted.event.value} could be raised")

    def confirm_modified(self, inode: Inode, tid: int) -> bool:
        """Whether a SETATTR is a worker's, raising a modification. Raises Superseded."""
        wanted = self.raiser.claim(tid, Event.MODIFIED, inode.path, inode.ino)
        if wanted is None:
            return False
        self._check_current(wanted, valid=inode.linked)
        self.documents.settling.raised(inode.path, self.raiser.undrained())
        return True

    async def mkdir(self, parent: int, raw: bytes, tid: int) -> Inode:
        """A directory; an empty one is local."""
        directory, name, inode = self.child(parent, raw)
        path = self.inodes.join(directory, name)
        if inode is None and self.documents.arriving(path):
            inode = self.appear(path)
        if inode is not None:
            raise EntryExists(path)
        self._check_place(directory, name, tid)
        inode = self.inodes.add(directory, name, Kind.DIRECTORY)
        try:
            await self.in_order(lambda: self.local.mkdir(path))
        except OSError:
            self.inodes.unlink(inode)
            raise
        return inode

    async def in_order(self, job: Callable[[], object]) -> None:
        """Run a change of a directory in the mirror's writer, which may be filling it."""
        done = self.documents.mirror.submit(job)
        await trio.to_thread.run_sync(done.result)

    async def rmdir(self, parent: int, raw: bytes, tid: int) -> None:
        """Remove an empty directory."""
        inode = self.existing(parent, raw)
        if inode.children is None:
            raise NotADirectory(inode.path)
        self._check_place(self.inodes.get(parent), inode.name, tid)
        if inode.children:
            raise DirectoryNotEmpty(inode.path)
        path = inode.path
        await self.in_order(lambda: self.local.rmdir(path))
        self.inodes.unlink(inode)

    async def unlink(self, parent: int, raw: bytes, tid: int) -> None:
        """Remove a file: a document's delete is committed before this returns."""
        inode = self.existing(parent, raw)
        if inode.kind is Kind.DIRECTORY:
            raise IsADirectory(inode.path)
        if wanted := self.raiser.claim(tid, Event.REMOVED, inode.path):
            self._check_removal(wanted)
            self._trash(inode)
            self.committer.forget(inode)
            return
        copy = inode.kind is Kind.LOCAL and self.inodes.get(parent).path in _PLACES
        if not copy or self.read_only:
            self._check_place(self.inodes.get(parent), inode.name, tid)
        if inode.kind is Kind.DOCUMENT:
            await self.committer.unlink(inode, trio.current_time() + self.dir_wait)
        else:
            self.local.unlink(inode.path)
            self.inodes.unlink(inode)

    def _check_removal(self, wanted: Raise) -> None:
        early = self.documents.marks.removable_in(wanted.path) > 0
        busy = self.documents.busy(wanted.path)
        self._check_current(wanted, valid=not early and not busy)

    def _trash(self, inode: Inode) -> None:
        path = inode.path
        if path not in self.documents.mirror.records:
            return
        with suppress(OSError, Torn):
            data = self.documents.mirror.content(path)
            keep = self.committer.kept.keep
            self.documents.mirror.later(lambda: keep(Place.TRASH, path, data), f"a copy of {path}")

    async def rename(
        self, parent: int, raw: bytes, new_parent: int, new_raw: bytes, flags: int, tid: int
    ) -> None:
        """Rename; onto a document's name it is one commit. `flags`: only RENAME_NOREPLACE."""
        source = self.existing(parent, raw)
        directory, name, target = self.child(new_parent, new_raw)
        self._check_place(self.inodes.get(parent), source.name, tid)
        self._check_place(directory, name, tid)
        if flags & ~RENAME_NOREPLACE:
            raise InvalidArgument(f"{source.path}: names are not exchanged here")
        if target is source:
            return
        if flags and target is not None:
            raise EntryExists(target.path)
        if source.children is not None:
            if target is not None and target.children:
                raise DirectoryNotEmpty(target.path)
            await self.renames.directory(source, directory, name, target)
            return
        if target is not None and target.children is not None:
            raise IsADirectory(target.path)
        deadline = trio.current_time() + self.dir_wait
        await self.renames.file(source, directory, name, target, deadline)

    def refuse_link(self, parent: int, raw: bytes) -> NotPermitted:
        """What link and symlink answer."""
        directory = self.inodes.get(parent)
        return NotPermitted(f"{directory.path}/{decode(raw)}: no links here; copy the file")
