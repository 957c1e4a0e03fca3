"""Whole files below a directory, reached step by step so that no symbolic link is followed.

Knows no documents and no revisions. Every function raises plain OSError; none keeps state.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY = ".storefs-put"
"""One name is enough: writers hold the lock. What a crash left there the next put removes."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ATTEMPTS = 3
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}

Stamp = tuple[int, int, int, int, int]


class NotAFile(OSError):
    """The name belongs to something that is not an ordinary file."""


@contextmanager
def top(directory: Path) -> Iterator[int]:
    """The descriptor of the directory that everything else is relative to."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened(path: str, top: int, *, make: bool = False) -> Iterator[int]:
    """The descriptor of the directory `path` below `top`, made with its parents on demand."""
    fd = os.dup(top)
    try:
        for name in path.split("/"):
            if make:
                _make(name, fd)
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _make(name: str, directory: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        return
    os.fsync(directory)


def stamp(status: os.stat_result) -> Stamp:
    """What cannot stay the same when the content changes, a fresh file's clock tick aside."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def read(name: str, directory: int) -> tuple[bytes, os.stat_result]:
    """The content of a file, and its status just before that was read.

    A file that changes meanwhile is read again; one that never rests is taken as it was last.
    Raises NotAFile for everything else, without opening it: that could block or have effects.
    """
    _require_file(os.stat(name, dir_fd=directory, follow_symlinks=False))
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    with open(fd, "rb", buffering=0) as file:
        for _ in range(_ATTEMPTS):
            before = os.fstat(fd)
            _require_file(before)
            file.seek(0)
            data = file.readall()
            if stamp(os.fstat(fd)) == stamp(before):
                break
    return data, before


def _require_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise NotAFile(f"it is {kind}, not an ordinary file")


def replace(name: str, data: bytes, directory: int) -> os.stat_result:
    """Put `data` under `name`, at once and durably; returns the new file's status."""
    with suppress(FileNotFoundError):
        os.unlink(TEMPORARY, dir_fd=directory)
    fd = os.open(TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
            status = os.fstat(fd)
        os.rename(TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(TEMPORARY, dir_fd=directory)
        raise
    os.fsync(directory)
    return status


def remove(name: str, directory: int) -> None:
    """Make `name` absent, durably; absent already is fine."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    os.fsync(directory)
