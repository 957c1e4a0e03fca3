"""Documents as the files of a local directory: the file system is the store, flock its lock.

Any program may change the files as well; it is noticed, but only storefs compares before it
writes. Thread-safe: commits exclude each other, and those of other processes, by the lock
file; the rest keeps nothing but a cache that may lose entries.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sys
import time
from contextlib import contextmanager, suppress
from struct import Struct
from typing import TYPE_CHECKING

from storefs import paths
from storefs.backends import local_files as files
from storefs.backends.contract import (
    Batch,
    Blob,
    Change,
    Delete,
    Entry,
    LeftOut,
    Outcome,
    Put,
    Revision,
    check_expected,
    check_place,
    entry_of,
)
from storefs.backends.local_errors import translate, translating
from storefs.backends.local_watch import TreeWatch
from storefs.errors import AccessDenied, Corrupt, StoreError, Unavailable
from storefs.paths import InvalidPath

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

LOCK = ".storefs-lock"
_LOCK_PAUSE = 0.005
_SETTLED_NS = 2_000_000_000
"""Coarsest time stamps in use (FAT): a younger file can change again and keep its stamp."""

_STAMP = Struct("=QQqQQ")
"""Device, inode, size, mtime and ctime; see files.stamp."""

_TIME = (1 << 64) - 1
"""Time stamps may lie outside 64 bits (ext4 knows the year 2446); the low ones tell them apart."""


class Local:
    """A Backend and Watcher over a directory. Revision: SHA-256 of the content, in hex."""

    concurrency: int = 4

    def __init__(self, directory: Path, clock: Callable[[], int] = time.time_ns) -> None:
        """Make `directory` where it is missing, and watch it. `clock` tells the age of files.

        Raises AccessDenied, Invalid, Unavailable.
        """
        with translating(""):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700, parents=True)
            self._directory = directory.resolve(strict=True)
            self._watch = TreeWatch(self._directory)
        self.identity: str = f"local:{self._directory}"
        self._clock = clock
        self._known: dict[str, bytes] = {}
        """Stamp and digest of files that need not be read again, packed: there may be 100,000."""
        self._left_out = LeftOut()

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot. Raises Unavailable, AccessDenied, Corrupt."""
        entries: dict[str, Entry] = {}
        todo = list(paths.SHARED)
        with translating(""), files.top(self._directory) as top:
            while todo:
                directory = todo.pop()
                with self._skipping(directory), files.opened(directory, top) as fd:
                    todo += self._visit(directory, fd, entries)
        known = self._known.copy()  # in one step: another snapshot may be adding to it
        self._known = {path: known[path] for path in known.keys() & entries.keys()}
        return entries

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read. Raises Unavailable, AccessDenied."""
        with translating(""), files.top(self._directory) as top:
            for path in paths:
                try:
                    blob = _load(path, top)
                except (FileNotFoundError, NotADirectoryError, InvalidPath):
                    yield path, None
                except OSError as error:
                    failure = translate(path, error)
                    if isinstance(failure, Unavailable):
                        raise failure from error
                    self._report(path, failure.cause)
                else:
                    yield path, blob

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit. Puts go before deletes; one that fails on the way says `applied`.

        `timeout` bounds the wait for the lock: a write to a disk cannot be called back.
        """
        try:
            with _locked(self._directory / LOCK, timeout), files.top(self._directory) as top:
                return [_apply(batch, top) for batch in batches]
        except OSError as error:
            return [translate("", error) for _ in batches]

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait, and TreeWatch for what counts as a change."""
        return self._watch.wait(timeout)

    def close(self) -> None:
        """See Backend.close."""
        self._watch.close()

    def _visit(self, directory: str, fd: int, entries: dict[str, Entry]) -> list[str]:
        """Add the documents of one directory to `entries`; returns the directories in it."""
        deeper: list[str] = []
        with os.scandir(fd) as items:
            for item in items:
                path = sys.intern(f"{directory}/{item.name}")  # kept: every table shares it
                if (entry := self._unchanged(path, item.name, fd)) is not None:
                    entries[path] = entry
                    continue
                is_directory = item.is_dir(follow_symlinks=False)
                if not paths.may_be_shared(f"{path}/x" if is_directory else path):
                    continue
                with self._skipping(path):
                    paths.check_path(path)
                    if is_directory:
                        deeper.append(path)
                    else:
                        entries[path] = self._entry(path, fd)
        return deeper

    def _unchanged(self, path: str, name: str, directory: int) -> Entry | None:
        """The entry of a file that need not be read again, nor its name be looked at."""
        known = self._known.get(path)
        if known is not None:
            with suppress(OSError):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if known.startswith(_packed(status)):
                    revision = Revision(known[_STAMP.size :].hex())
                    return Entry(revision, status.st_size, status.st_mtime_ns)
        return None

    def _entry(self, path: str, directory: int) -> Entry:
        name = _name(path)
        now = self._clock()
        data, status = files.read(name, directory)
        entry = entry_of(data, status.st_mtime_ns)
        if max(status.st_mtime_ns, status.st_ctime_ns) + _SETTLED_NS < now:
            self._known[path] = _packed(status) + bytes.fromhex(entry.revision)
        return entry

    @contextmanager
    def _skipping(self, path: str) -> Iterator[None]:
        """Leave out what vanished, and what can never be shown with one log line."""
        try:
            yield
        except FileNotFoundError:
            return
        except InvalidPath as error:
            self._report(path, str(error))
        except OSError as error:
            failure = translate(path, error)
            if isinstance(failure, Unavailable):
                raise failure from error
            if path in paths.SHARED:  # left out, every document would look deleted
                kind = AccessDenied if isinstance(failure, AccessDenied) else Corrupt
                raise kind(path, failure.cause) from error
            self._report(path, failure.cause)

    def _report(self, path: str, reason: str) -> None:
        self._left_out.report(self._directory, path, reason)


@contextmanager
def _locked(lock: Path, timeout: float) -> Iterator[None]:
    """Hold the lock file. Raises TimeoutError when others hold it for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    # flock belongs to the open file description, so open it anew for every commit: two threads
    # that share a descriptor do not exclude each other.
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                cause = f"locked by another program for {timeout:g} s"
                raise TimeoutError(errno.ETIMEDOUT, cause, str(lock))
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _apply(batch: Batch, top: int) -> Outcome:
    applied: dict[str, Entry] = {}
    try:
        _compare(batch, top)
        for change in sorted(batch, key=lambda change: isinstance(change, Delete)):
            with translating(change.path, applied):
                _change(change, top, applied)
    except StoreError as failure:
        return failure
    return applied


def _change(change: Change, top: int, applied: dict[str, Entry]) -> None:
    directory, name = paths.parent(change.path), _name(change.path)
    if isinstance(change, Put):
        with files.opened(directory, top, make=True) as fd:
            status = files.replace(name, change.data, fd)
        applied[change.path] = entry_of(change.data, status.st_mtime_ns)
    else:
        with suppress(FileNotFoundError, NotADirectoryError), files.opened(directory, top) as fd:
            files.remove(name, fd)


def _compare(batch: Batch, top: int) -> None:
    """Raises a StoreError unless every path can exist and is as expected."""
    current: dict[str, Blob | None] = {}
    for change in batch:
        check_place(change.path)
        with translating(change.path):
            current[change.path] = _present(change.path, top)
    check_expected(batch, current)


def _present(path: str, top: int) -> Blob | None:
    try:
        return _load(path, top)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _load(path: str, top: int) -> Blob:
    paths.check_path(path)
    with files.opened(paths.parent(path), top) as fd:
        data, status = files.read(_name(path), fd)
    return Blob(data, entry_of(data, status.st_mtime_ns))


def _packed(status: os.stat_result) -> bytes:
    device, inode, size, mtime, ctime = files.stamp(status)
    return _STAMP.pack(device, inode, size, mtime & _TIME, ctime & _TIME)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
