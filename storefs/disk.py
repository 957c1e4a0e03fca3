"""Files below the root directory, always relative to its open descriptor.

The descriptor was opened before the mount, so nothing here can run into the mount itself.
Blocking and stateless; may be called from any thread.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from storefs.paths import ancestors, parent

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = ".storefs/tmp"
"""Holds files that are not yet renamed to their place; emptied at each start."""

PAGE = 4096
"""Bytes that a killed process leaves written whole or not at all."""

_MORE = 1 << 16

_serial = count()


def read(dir_fd: int, path: str) -> bytes:
    """The whole content. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        # No file object: its buffer costs more than the call, and leaves holes in the heap.
        data = os.read(fd, os.fstat(fd).st_size + 1)
        while more := os.read(fd, _MORE):
            data += more
        return data
    finally:
        os.close(fd)


def make_directory(dir_fd: int, path: str) -> None:
    """Make `path` and what is missing above it, 0700. Raises OSError."""
    for directory in [*ancestors(path), path]:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700, dir_fd=dir_fd)


def replace(
    dir_fd: int, path: str, data: bytes, *, mtime_ns: int | None = None, durable: bool = False
) -> None:
    """Make `path` a 0600 file with these bytes, whole at every moment.

    `durable` fsyncs file and directory before it returns. Raises OSError; then the old file
    stands.
    """
    temporary = f"{TEMPORARY}/{os.getpid()}-{next(_serial)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=dir_fd)
    try:
        try:
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
            if mtime_ns is not None:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        _rename_into(dir_fd, temporary, path)
    except OSError:
        remove(dir_fd, temporary)
        raise
    if durable:
        sync_directory(dir_fd, parent(path))


def create(dir_fd: int, path: str, data: bytes, *, mtime_ns: int | None = None) -> bool:
    """Make `path`, where nothing is, a 0600 file with these bytes, at most PAGE; cheap.

    A process that is killed leaves the whole file, an empty one, or none. False, and nothing
    done: the name is taken, or its directory missing. Raises OSError; then nothing is there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600, dir_fd=dir_fd)
    except (FileExistsError, FileNotFoundError):
        return False
    try:
        if (whole := os.write(fd, data) == len(data)) and mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    except OSError:
        remove(dir_fd, path)
        raise
    finally:
        os.close(fd)
    if not whole:  # the disk is full: the next try says so
        remove(dir_fd, path)
    return whole


def _rename_into(dir_fd: int, source: str, path: str) -> None:
    try:
        os.rename(source, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except FileNotFoundError:
        make_directory(dir_fd, parent(path))
        os.rename(source, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def move(dir_fd: int, source: str, target: str) -> None:
    """Rename, making the parents of `target`; durable. Raises OSError."""
    _rename_into(dir_fd, source, target)
    sync_directory(dir_fd, parent(target))


def remove(dir_fd: int, path: str) -> None:
    """Unlink; an absent file is fine. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path, dir_fd=dir_fd)


def sync_directory(dir_fd: int, path: str) -> None:
    """Make the names in the directory durable. Raises OSError."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def listing(dir_fd: int, path: str) -> list[os.DirEntry[str]]:
    """The names directly in a directory, empty where it is missing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return []
    try:
        with os.scandir(fd) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    finally:
        os.close(fd)


def walk(dir_fd: int, top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below `top`, directories before what they hold; links are not followed.

    Names that are not UTF-8 are left out: no path can name them.
    """
    try:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    below: list[str] = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if not (entry.name.isascii() or _is_text(entry.name)):
                    continue
                path = f"{top}/{entry.name}"
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield path, info
                if stat.S_ISDIR(info.st_mode):
                    below.append(path)
    finally:
        os.close(fd)
    for path in below:
        yield from walk(dir_fd, path)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
