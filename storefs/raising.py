"""Making the kernel emit the inotify event of a remote change: raise.

FUSE gives inotify events only for system calls made through the mount (measured on 6.18; no
notification does). So a worker thread makes an ordinary call on the own mount, and the handler
recognises it by the expected operation and the worker's thread id. One call at a time per
directory, a worker per directory; nobody waits for a raise, and it has no deadline, because it
may block behind a program's call for as long as the kernel holds a lock. The workers are
detached: what needs the daemon's files, the log included, they have done by attached threads.
"""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from storefs import detached
from storefs.detached import Attached
from storefs.paths import ancestors, parent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

AHEAD = 8000
"""Events per directory that may wait in a watcher's queue, which holds 16,384."""

SECONDS_PER_REMOVE = 1 / 20
SECONDS_PER_OTHER = 1 / 1000
"""How fast a watcher is assumed to drain its queue: the proxy sleeps 50 ms per remove."""

_LINGER = 2.0
"""Seconds for which a worker waits for more: to start and to detach one costs an eighth of all
that a change from elsewhere costs this machine (0.3 of 2.7 ms of processor time)."""

_UTIME_OMIT = (1 << 30) - 2
_UTIME_NOW = (1 << 30) - 1


class Event(Enum):
    """The kinds of change that are raised."""

    MODIFIED = "modified"
    CREATED = "created"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Raise:
    """One event to raise, wanted while `path` stood at `generation`. MODIFIED names the inode."""

    event: Event
    path: str
    generation: int
    ino: int = 0


_libc = ctypes.CDLL(None, use_errno=True)
_NOW = (ctypes.c_long * 4)(0, _UTIME_OMIT, 0, _UTIME_NOW)
"""Two timespecs: atime stays, mtime becomes now."""


def touch_mtime(dir_fd: int, path: str) -> None:
    """utimensat that changes mtime alone: on FUSE the kernel makes it IN_MODIFY, and only so.

    os.utime cannot say UTIME_OMIT. Raises OSError.
    """
    if _libc.utimensat(dir_fd, os.fsencode(path), _NOW, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)


@dataclass(slots=True)
class _Worker:
    """The queue of one directory. The Raiser's lock guards it."""

    changed: threading.Condition
    """Something more is wanted. One a directory: to wake them all for each event of one costs
    more than the event, where changes come in many directories."""
    waiting: dict[tuple[Event, str], Raise] = field(default_factory=dict)
    drained: deque[float] = field(default_factory=deque)
    """When the watcher is assumed to have taken each event that was raised (monotonic)."""
    current: Raise | None = None
    """What is being raised now."""

    def pause(self, event: Event) -> float:
        """Seconds until one more event may be raised; counts it when that is 0."""
        now = time.monotonic()
        while self.drained and self.drained[0] <= now:
            self.drained.popleft()
        if len(self.drained) >= AHEAD:
            return self.drained[0] - now
        last = self.drained[-1] if self.drained else now
        cost = SECONDS_PER_REMOVE if event is Event.REMOVED else SECONDS_PER_OTHER
        self.drained.append(last + cost)
        return 0.0


class Raiser:
    """Raises events on one mount. `request` is called from the trio thread, `claim` too."""

    def __init__(self, mountpoint: Path, top: str, invalidate: Callable[[int], None]) -> None:
        """`invalidate` makes the kernel forget an inode's pages and attributes; it may block."""
        self._mountpoint = mountpoint
        self._top = top
        self._invalidate = invalidate
        self._device = -1
        self._lock = threading.Lock()  # guards the workers and _running
        self._workers: dict[str, _Worker] = {}
        self._running: set[str] = set()
        self._expected: dict[int, Raise] = {}
        self._stop = threading.Event()
        self._ended = threading.Condition(self._lock)
        """A worker has."""
        self._attached = Attached()
        self.raised = 0

    def start(self) -> None:
        """The mount is made; before this nothing is raised. Raises OSError."""
        self._attached.start()
        detached.start(self._look, "raise-start").join()
        if self._device < 0:
            raise OSError(f"{self._mountpoint}: the new mount does not answer")

    def _look(self) -> None:
        with suppress(OSError):
            self._device = os.stat(self._mountpoint).st_dev

    def request(self, wanted: Raise) -> None:
        """Raise this some time soon; a request that has not begun is not doubled."""
        directory = parent(wanted.path)
        with self._lock:
            if self._stop.is_set():
                return
            worker = self._workers.get(directory)
            if worker is None:
                worker = self._workers[directory] = _Worker(threading.Condition(self._lock))
            worker.waiting[wanted.event, wanted.path] = wanted
            if directory in self._running:
                worker.changed.notify()
            else:
                self._running.add(directory)
                detached.start(partial(self._work, directory, worker), f"raise-{directory or '/'}")

    def claim(self, tid: int, event: Event, path: str, ino: int = 0) -> Raise | None:
        """The raise that thread `tid` is making, if this call is it; None for a program's call."""
        expected = self._expected.get(tid)
        if expected is None or (expected.event, expected.path, expected.ino) != (event, path, ino):
            return None
        return expected

    def is_worker(self, tid: int) -> bool:
        """Whether a call comes from a worker: also on a read-only mount it may make names."""
        return tid in self._expected

    def wants(self, event: Event, path: str) -> bool:
        """Whether this event is queued or being raised."""
        with self._lock:
            worker = self._workers.get(parent(path))
            if worker is None:
                return False
            now = worker.current
            return (event, path) in worker.waiting or (
                now is not None and (now.event, now.path) == (event, path)
            )

    def undrained(self) -> float:
        """Seconds until a program that watches may have taken everything raised so far.

        Of all directories together: the proxy takes the events of all its watches in one row.
        """
        with self._lock:
            taken = [worker.drained[-1] for worker in self._workers.values() if worker.drained]
        return max(0.0, max(taken, default=0.0) - time.monotonic())

    @property
    def waiting(self) -> int:
        """How many events are queued or under way."""
        with self._lock:
            return sum(len(worker.waiting) for worker in self._workers.values())

    def stop(self, timeout: float) -> bool:
        """No more raises; wait for those under way. Whether all ended in time."""
        self._stop.set()
        with self._lock:
            for worker in self._workers.values():
                worker.changed.notify()
            if not self._ended.wait_for(lambda: not self._running, timeout):
                return False
        self._attached.stop()
        return True

    def _work(self, directory: str, worker: _Worker) -> None:
        while (wanted := self._next(directory, worker)) is not None:
            try:
                self._make(wanted)
            except OSError as error:
                self._tell(logging.DEBUG, wanted, error)
            except Exception as error:
                self._tell(logging.ERROR, wanted, error)
            finally:
                self._expected.pop(threading.get_native_id(), None)

    def _next(self, directory: str, worker: _Worker) -> Raise | None:
        while True:
            with self._lock:
                worker.current = None
                worker.changed.wait_for(partial(self._has_more, worker), _LINGER)
                wanted = next(iter(worker.waiting.values()), None)
                if wanted is None or self._stop.is_set():
                    worker.waiting.clear()
                    self._running.discard(directory)
                    if not worker.drained:
                        del self._workers[directory]
                    self._ended.notify_all()
                    return None
                pause = worker.pause(wanted.event)
                if not pause:
                    del worker.waiting[wanted.event, wanted.path]
                    worker.current = wanted
                    return wanted
            self._stop.wait(pause)

    def _has_more(self, worker: _Worker) -> bool:
        return bool(worker.waiting) or self._stop.is_set()

    def _tell(self, level: int, wanted: Raise, error: Exception) -> None:
        """One line in the log; of an error nobody expects, with its traceback."""
        trace = error if level >= logging.ERROR else None
        said = "raise %s %s: %s", wanted.event.value, wanted.path, error
        self._attached.run(lambda: log.log(level, *said, exc_info=trace))

    def _forget_pages(self, ino: int) -> None:
        with suppress(FileNotFoundError):  # the kernel does not know the inode: nothing cached
            self._attached.run(lambda: self._invalidate(ino))

    def _make(self, wanted: Raise) -> None:
        if wanted.event is Event.MODIFIED:
            self._forget_pages(wanted.ino)
        fd = os.open(self._mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_dev != self._device:  # unmounted: never touch what lies below
                return
            self._call(fd, wanted)
        finally:
            os.close(fd)
        self.raised += 1

    def _call(self, fd: int, wanted: Raise) -> None:
        self._expected[threading.get_native_id()] = wanted
        name = wanted.path.removeprefix(f"{self._top}/") if self._top else wanted.path
        if wanted.event is Event.MODIFIED:
            touch_mtime(fd, name)
        elif wanted.event is Event.REMOVED:
            os.unlink(name, dir_fd=fd)
        else:
            for directory in ancestors(name):
                with suppress(FileExistsError):
                    os.mkdir(directory, 0o700, dir_fd=fd)
            try:
                os.mknod(name, stat.S_IFREG | 0o600, dir_fd=fd)
            except FileExistsError:
                self._modify_existing(fd, name, wanted)

    def _modify_existing(self, fd: int, name: str, wanted: Raise) -> None:
        """A program looked the name up, or created it, before the event: it was modified."""
        ino = os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
        self._forget_pages(ino)
        expected = Raise(Event.MODIFIED, wanted.path, wanted.generation, ino)
        self._expected[threading.get_native_id()] = expected
        touch_mtime(fd, name)
