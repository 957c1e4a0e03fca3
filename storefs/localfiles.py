"""Local files: passed through to plain files below the root, never to a backend.

Everything here awaits the local disk at most. One descriptor per open inode serves all its
handles, so a file that is renamed or unlinked while open goes on as on any disk.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.inodes import Inode


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Calls on local files below one root. All of them raise OSError."""

    dir_fd: int

    def create(self, path: str, mode: int) -> int:
        """A new file; returns its descriptor, which may read and write whatever `mode` says."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mode = stat.S_IMODE(mode)
        try:
            fd = os.open(path, flags, mode, dir_fd=self.dir_fd)
        except FileNotFoundError:  # the writer thread has not made a delivered directory yet
            disk.make_directory(self.dir_fd, path.rpartition("/")[0])
            fd = os.open(path, flags, mode, dir_fd=self.dir_fd)
        os.fchmod(fd, mode)  # the kernel has applied the program's umask already
        return fd

    def open(self, inode: Inode) -> None:
        """Have a descriptor for an inode that a program opens."""
        if inode.fd >= 0:
            return
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            inode.fd = os.open(inode.path, os.O_RDWR | flags, dir_fd=self.dir_fd)
        except PermissionError:
            # The kernel has checked the program's right against the mode shown; the daemon
            # needs one of its own for the moment of opening.
            mode = stat.S_IMODE(self.stat(inode).st_mode)
            os.chmod(inode.path, mode | 0o600, dir_fd=self.dir_fd)
            try:
                inode.fd = os.open(inode.path, os.O_RDWR | flags, dir_fd=self.dir_fd)
            finally:
                os.chmod(inode.path, mode, dir_fd=self.dir_fd)

    def close(self, inode: Inode) -> None:
        """Drop the descriptor."""
        if inode.fd >= 0:
            os.close(inode.fd)
            inode.fd = -1

    def stat(self, inode: Inode) -> os.stat_result:
        """What the disk says, of an unlinked file too while it is open."""
        if inode.fd >= 0:
            return os.fstat(inode.fd)
        return os.stat(inode.path, dir_fd=self.dir_fd, follow_symlinks=False)

    def content(self, inode: Inode, limit: int) -> bytes:
        """The first `limit` bytes."""
        if inode.fd >= 0:
            return os.pread(inode.fd, limit, 0)
        fd = os.open(inode.path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.dir_fd)
        try:
            return os.pread(fd, limit, 0)
        finally:
            os.close(fd)

    def write(self, inode: Inode, offset: int, data: bytes) -> int:
        """All of `data`, at `offset`."""
        done = 0
        with _naming(inode):
            while done < len(data):
                done += os.pwrite(inode.fd, data[done:], offset + done)
        return done

    def resize(self, inode: Inode, size: int) -> None:
        """Cut or extend with zeros."""
        if inode.fd >= 0:
            with _naming(inode):
                os.ftruncate(inode.fd, size)
            return
        fd = os.open(inode.path, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=self.dir_fd)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def chmod(self, inode: Inode, mode: int) -> None:
        """Permission bits; of a closed or an open file, or a directory."""
        if inode.fd >= 0:
            os.fchmod(inode.fd, stat.S_IMODE(mode))
        else:
            os.chmod(inode.path, stat.S_IMODE(mode), dir_fd=self.dir_fd)

    def utime(self, inode: Inode, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Times in nanoseconds; None leaves one as it is."""
        info = self.stat(inode)
        times = (
            info.st_atime_ns if atime_ns is None else atime_ns,
            info.st_mtime_ns if mtime_ns is None else mtime_ns,
        )
        if inode.fd >= 0:
            os.utime(inode.fd, ns=times)
        else:
            os.utime(inode.path, ns=times, dir_fd=self.dir_fd, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        """Replace `target`, as on any disk."""
        try:
            os.rename(source, target, src_dir_fd=self.dir_fd, dst_dir_fd=self.dir_fd)
        except FileNotFoundError:  # see create
            disk.make_directory(self.dir_fd, target.rpartition("/")[0])
            os.rename(source, target, src_dir_fd=self.dir_fd, dst_dir_fd=self.dir_fd)

    def unlink(self, path: str) -> None:
        """Take the name away."""
        os.unlink(path, dir_fd=self.dir_fd)

    def mkdir(self, path: str) -> None:
        """A directory, 0700."""
        disk.make_directory(self.dir_fd, path)

    def rmdir(self, path: str) -> None:
        """An empty directory goes; one that was never on this disk is gone already."""
        with suppress(FileNotFoundError):
            os.rmdir(path, dir_fd=self.dir_fd)


@contextmanager
def _naming(inode: Inode) -> Iterator[None]:
    """A call on a descriptor fails without a path, which the log must name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, inode.path) from error
