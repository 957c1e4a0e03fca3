"""This is a protocol adapter only: it translates pyfuse3 requests into calls of the VFS.

It decides nothing. It alone imports pyfuse3, and it alone maps errors to errnos, in one table;
what is not in the table is logged with a traceback and becomes EIO, and the mount lives on.
"""

from __future__ import annotations

import errno
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import pyfuse3
from pyfuse3 import FUSEError

from storefs import errors, spin
from storefs.entries import Entries
from storefs.inodes import Kind
from storefs.vfs import Change

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from pyfuse3 import (
        EntryAttributes,
        FileHandleT,
        FileInfo,
        FileNameT,
        FlagT,
        InodeT,
        ModeT,
        ReaddirToken,
        RequestContext,
        SetattrFields,
        StatvfsData,
        XAttrNameT,
    )

    from storefs.inodes import Inode
    from storefs.vfs import Vfs

log = logging.getLogger(__name__)

_DOCUMENT = Kind.DOCUMENT
"""Looked up once: finding a member of an Enum costs as much as filling half an entry."""

# The errno of each error, and how loudly it is told: what a person must know is a warning,
# what programs meet every day is not.
ERRNOS: dict[type[errors.FileError], tuple[int, int]] = {
    errors.NoEntry: (errno.ENOENT, logging.DEBUG),
    errors.EntryExists: (errno.EEXIST, logging.DEBUG),
    errors.NotADirectory: (errno.ENOTDIR, logging.DEBUG),
    errors.IsADirectory: (errno.EISDIR, logging.DEBUG),
    errors.DirectoryNotEmpty: (errno.ENOTEMPTY, logging.DEBUG),
    errors.NotPermitted: (errno.EPERM, logging.WARNING),
    errors.InvalidName: (errno.EINVAL, logging.WARNING),
    errors.InvalidDocument: (errno.EINVAL, logging.WARNING),
    errors.InvalidArgument: (errno.EINVAL, logging.WARNING),
    errors.NameTooLong: (errno.ENAMETOOLONG, logging.WARNING),
    errors.DocumentTooLarge: (errno.EFBIG, logging.WARNING),
    errors.Gone: (errno.ESTALE, logging.DEBUG),  # the kernel then looks the name up and goes on
    errors.Stale: (errno.ESTALE, logging.WARNING),
    errors.Busy: (errno.EBUSY, logging.WARNING),
    errors.Denied: (errno.EACCES, logging.WARNING),
    errors.ReadOnly: (errno.EROFS, logging.DEBUG),
    errors.CrossDevice: (errno.EXDEV, logging.INFO),
    errors.NoAttribute: (errno.ENODATA, logging.DEBUG),
    errors.NotSupported: (errno.EOPNOTSUPP, logging.DEBUG),
    errors.BadHandle: (errno.EBADF, logging.WARNING),
    errors.BackendFailed: (errno.EIO, logging.ERROR),
    errors.Superseded: (errno.ECANCELED, logging.DEBUG),
}

_F = TypeVar("_F", bound="Callable[..., Awaitable[Any]]")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _answering(handler: _F) -> _F:
    """Turn every exception into an errno: anything but FUSEError would end the mount."""

    @functools.wraps(handler)
    async def answer(*args: Any) -> Any:
        try:
            return await handler(*args)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(_errno(handler.__name__, error)) from None

    return cast("_F", answer)


def _at_once(handler: Callable[_P, _R]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """The same for a handler that never waits: one coroutine less on the way."""

    call = cast("Callable[..., _R]", handler)

    @functools.wraps(handler)
    async def answer(*args: Any) -> _R:
        try:
            return call(*args)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(_errno(handler.__name__, error)) from None

    return cast("Callable[_P, Coroutine[Any, Any, _R]]", answer)


def _errno(call: str, error: Exception) -> int:
    """Log once, here at the boundary, and say which errno the program gets."""
    if isinstance(error, errors.FileError):
        code, level = ERRNOS[type(error)]
        log.log(level, "%s: %s (%s)", call, error, errno.errorcode[code])
        return code
    if isinstance(error, OSError) and error.errno:
        # Of the local disk: the program gets what it would get there.
        level = logging.DEBUG if error.errno == errno.ENOENT else logging.WARNING
        log.log(level, "%s: %s", call, error)
        return error.errno
    log.error("%s failed unexpectedly", call, exc_info=error)
    return errno.EIO


def versions() -> str:
    """Of the library and the C library below it, for a person."""
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        _, found, number = line.rpartition("/libfuse3.so.")
        if found:
            return f"pyfuse3 {pyfuse3.__version__}, libfuse {number}"
    return f"pyfuse3 {pyfuse3.__version__}"


def mount(operations: Operations, mountpoint: Path, *, allow_other: bool) -> None:
    """Make the kernel mount; it checks modes, so that the daemon need not. Raises RuntimeError."""
    options = {"fsname=storefs", "subtype=storefs", "default_permissions"}
    if allow_other:
        options.add("allow_other")
    pyfuse3.init(operations, str(mountpoint), options)


async def serve(handlers: int, spin_seconds: float, busy: Callable[[], bool]) -> None:
    """Answer requests, that many at once, until terminated or unmounted.

    `spin_seconds`: how long to look for the next request before sleeping, unless `busy`.
    """
    if spin_seconds and spin.worthwhile():
        if hasattr(pyfuse3, "trio"):
            pyfuse3.trio = spin.Waiting(spin_seconds, busy)
        else:
            log.info("this pyfuse3 waits in its own way: --spin has no effect")
    await pyfuse3.main(max_tasks=handlers)


def terminate() -> None:
    """Make `serve` return; the mount stays and its calls wait."""
    pyfuse3.terminate()


def unmount() -> None:
    """Take the kernel mount away, if it is still there."""
    pyfuse3.close(unmount=True)


def invalidate(ino: int) -> None:
    """Make the kernel forget the inode's pages and attributes. May block. Raises OSError."""
    pyfuse3.invalidate_inode(ino)


class Operations(pyfuse3.Operations):
    """One handler per request; each awaits one call of the VFS."""

    enable_writeback_cache = False

    def __init__(self, vfs: Vfs, uid: int, gid: int) -> None:
        super().__init__()
        self._vfs = vfs
        self._entries = Entries(pyfuse3.EntryAttributes, uid, gid, vfs.of_documents())
        self._entry = self._entries.of

    def _new(self, inode: Inode) -> EntryAttributes:
        return self._entry(self._vfs.remember(inode))

    @_at_once
    def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        return self._entry(self._vfs.lookup(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        try:
            for ino, lookups in inode_list:
                self._vfs.inodes.forget(ino, lookups)
                self._entries.forget(ino)
        except Exception as error:  # nobody is answered: pyfuse3 takes no FUSEError here
            _errno("forget", error)

    @_at_once
    def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._entry(self._vfs.attributes(self._vfs.inodes.get(inode)))

    @_answering
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        change = Change(
            size=attr.st_size if fields.update_size else None,
            mode=attr.st_mode if fields.update_mode else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._entry(await self._vfs.setattr(inode, change, fh, ctx.pid))

    @_at_once
    def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._new(self._vfs.names.mknod(parent_inode, name, mode, ctx.pid))

    @_answering
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        return self._new(await self._vfs.names.mkdir(parent_inode, name, ctx.pid))

    @_answering
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._vfs.names.unlink(parent_inode, name, ctx.pid)

    @_answering
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._vfs.names.rmdir(parent_inode, name, ctx.pid)

    @_answering
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._vfs.names.rename(
            parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx.pid
        )

    @_at_once
    def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        raise self._vfs.names.refuse_link(parent_inode, name)

    @_at_once
    def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        raise self._vfs.names.refuse_link(new_parent_inode, new_name)

    @_at_once
    def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        return self._opened(self._vfs.open(inode, flags))

    def _opened(self, fh: int) -> FileInfo:
        direct = self._vfs.direct(fh)
        return pyfuse3.FileInfo(fh=fh, direct_io=direct, keep_cache=not direct)

    @_at_once
    def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        fh, inode = self._vfs.create(parent_inode, name, mode, flags, ctx.pid)
        return self._opened(fh), self._new(inode)

    @_at_once
    def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return self._vfs.read(fh, off, size)

    @_at_once
    def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return self._vfs.write(fh, off, buf)

    @_answering
    async def flush(self, fh: FileHandleT) -> None:
        await self._vfs.flush(fh)

    @_answering
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._vfs.fsync(fh)

    @_at_once
    def release(self, fh: FileHandleT) -> None:
        self._vfs.release(fh)

    @_at_once
    def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return self._vfs.opendir(inode)

    @_at_once
    def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        vfs, reply, entries = self._vfs, pyfuse3.readdir_reply, self._entries
        known, listed = entries.known.get, entries.listed
        for position, name, inode, size, mtime_ns in vfs.listing(fh, start_id):
            if inode.kind is _DOCUMENT:
                # A third of what a name costs would be to fill in an entry anew.
                kept = known(inode.ino)
                if kept is None or kept[0] != size or kept[1] != mtime_ns:
                    kept = listed(inode.ino, size, mtime_ns)
                entry = kept[2]
            else:
                entry = entries.of(vfs.attributes(inode))
            if not reply(token, name, entry, position):
                return
            inode.lookups += 1

    @_at_once
    def releasedir(self, fh: FileHandleT) -> None:
        self._vfs.handles.close_listing(fh)

    @_answering
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._vfs.fsync_directory()

    @_at_once
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = self._vfs.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize, data.f_frsize = disk.f_bsize, disk.f_frsize
        data.f_blocks, data.f_bfree, data.f_bavail = disk.f_blocks, disk.f_bfree, disk.f_bavail
        data.f_files, data.f_ffree, data.f_favail = disk.f_files, disk.f_ffree, disk.f_favail
        data.f_namemax = disk.f_namemax
        return data

    @_at_once
    def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return self._vfs.xattr(inode, name.decode("utf-8", "surrogateescape"))

    @_at_once
    def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [name.encode() for name in self._vfs.xattrs(inode)]

    @_at_once
    def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        raise self._vfs.refuse_xattr(inode, name.decode("utf-8", "surrogateescape"))

    @_at_once
    def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        raise self._vfs.refuse_xattr(inode, name.decode("utf-8", "surrogateescape"))
