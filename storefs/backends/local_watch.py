"""Tells which files below config/ and auths/ changed, by one inotify watch per directory.

Says what to look at, never what is there. A file counts as changed when its content is
complete: when a writer closes it, or when it is moved, linked or removed. IN_MODIFY is left
out on purpose: it would announce the empty file between an editor's O_TRUNC and its write.
So truncate(2), a writer that keeps its file open and a mapping written after the close are
seen by the next full snapshot only, as are chmod and changes made on other NFS clients.

Thread-safe: `wait` belongs to one thread, `close` may come from any other.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from inotify_simple import Event, INotify, flags  # type: ignore[import-untyped]  # has no stubs

from storefs import paths

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

log = logging.getLogger(__name__)

_NAMES = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
_WHERE = flags.ONLYDIR | flags.DONT_FOLLOW
_TOP = _NAMES | flags.DELETE_SELF | flags.MOVE_SELF | _WHERE
_BELOW = _NAMES | flags.CLOSE_WRITE | _WHERE
_LOST = flags.Q_OVERFLOW | flags.UNMOUNT | flags.DELETE_SELF | flags.MOVE_SELF
_RETRY = 1.0
"""Seconds between two looks for a top directory that is gone."""


class TreeWatch:
    """Watches a store directory from construction to `close`."""

    def __init__(self, top: Path) -> None:
        """Raises OSError when the directory cannot be watched."""
        self._top = top
        self._inotify: INotify | None = None
        self._identity: tuple[int, int] | None = None
        self._directories: dict[int, str] = {}
        self._warned: set[int | None] = set()
        self._closed = False
        self._closing = threading.Lock()  # protects _closed
        self._waiting = threading.Lock()  # held by whoever uses the descriptors
        self._establish()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait. None after lost events, a moved directory, a replaced top."""
        deadline = time.monotonic() + timeout
        with self._waiting:
            while not self._closed:
                changed = self._changed()
                left = deadline - time.monotonic()
                if changed is None or changed or left <= 0:
                    return changed
                self._sleep(left)
        return frozenset()

    def close(self) -> None:
        """Wake `wait`, then free the descriptors. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        with self._waiting:
            self._forget()
            os.close(self._wake)

    def _sleep(self, seconds: float) -> None:
        """Until the kernel or `close` has something to say, at most `seconds`."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._inotify is None:
            seconds = min(seconds, _RETRY)
        else:
            poller.register(self._inotify, select.POLLIN)
        poller.poll(math.ceil(seconds * 1000))

    def _changed(self) -> Collection[str] | None:
        """What the events so far say, without waiting."""
        # The path may lead elsewhere although no event says so: a parent moved, a disk mounted.
        if self._inotify is None or _identity(self._top) != self._identity:
            return self._start_again()
        changed: set[str] = set()
        for event in self._inotify.read(timeout=0):
            found = self._interpret(event)
            if found is None:
                return self._start_again()
            changed.update(found)
        return changed

    def _start_again(self) -> Collection[str] | None:
        """New watches everywhere; None, but nothing new while the top directory stays away."""
        blind = self._inotify is None
        self._forget()
        try:
            self._establish()
        except OSError as error:
            if blind:
                return frozenset()
            self._warn(self._top, error)
        return None

    def _establish(self) -> None:
        self._identity = _identity(self._top)  # before the watch: a swap in between is noticed
        try:
            self._inotify = INotify(nonblocking=True)
            self._directories[self._inotify.add_watch(self._top, _TOP)] = ""
        except OSError as error:
            self._forget()
            raise OSError(error.errno, error.strerror, str(self._top)) from error
        for directory in paths.SHARED:
            self._watch(directory)

    def _forget(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        self._inotify = None
        self._directories.clear()

    def _watch(self, directory: str) -> set[str]:
        """Watch a directory and all below it; returns the files that are there by then."""
        found: set[str] = set()
        todo = [directory]
        while todo:
            here = todo.pop()
            try:
                self._add(here)
                # Only now: what comes in after the look is seen by the watch.
                with os.scandir(self._top / here) as items:
                    for item in items:
                        path = f"{here}/{item.name}"
                        if not item.is_dir(follow_symlinks=False):
                            found.add(path)
                        elif _may_hold_documents(path):
                            todo.append(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._warn(self._top / here, error)
        return {path for path in found if _is_shown(path)}

    def _add(self, directory: str) -> None:
        assert self._inotify is not None
        self._directories[self._inotify.add_watch(self._top / directory, _BELOW)] = directory

    def _interpret(self, event: Event) -> Collection[str] | None:
        """The paths an event is about; None: the watches no longer fit the tree."""
        if event.mask & _LOST:
            return None
        if event.mask & flags.IGNORED:
            self._directories.pop(event.wd, None)
            return ()
        directory = self._directories.get(event.wd)
        if directory is None:
            return ()
        path = f"{directory}/{event.name}" if directory else event.name
        if event.mask & flags.ISDIR:
            return self._interpret_directory(path, event.mask)
        # Empty when created: its writer is about to close it. Otherwise it may be a hard link.
        if not _is_shown(path) or (event.mask & flags.CREATE and self._is_empty(path)):
            return ()
        return (path,)

    def _interpret_directory(self, path: str, mask: int) -> Collection[str] | None:
        if not _may_hold_documents(path):
            return ()
        if mask & flags.MOVED_FROM:  # every watch below it has the wrong path by now
            return None
        # A removed one was empty: each name that had been in it had its own event.
        return () if mask & flags.DELETE else self._watch(path)

    def _is_empty(self, path: str) -> bool:
        try:
            return os.lstat(self._top / path).st_size == 0
        except OSError:
            return True  # gone again, which is an event of its own

    def _warn(self, where: Path, error: OSError) -> None:
        if error.errno not in self._warned:
            self._warned.add(error.errno)
            cause = error.strerror
            if error.errno == errno.ENOSPC:  # inotify_add_watch(2) means its own space
                cause = "raise the sysctl fs.inotify.max_user_watches"
            log.warning("%s is not watched, changes show late: %s", where, cause)


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _may_hold_documents(directory: str) -> bool:
    return paths.may_be_shared(f"{directory}/x")


def _is_shown(path: str) -> bool:
    try:
        paths.check_path(path)
    except paths.InvalidPath:
        return False
    return paths.may_be_shared(path)
