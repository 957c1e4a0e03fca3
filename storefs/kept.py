"""What would otherwise be lost: conflict copies, found files, and what reconcile removed.

Each is a plain file in a directory of its own below `.storefs/`, named after the document's
path, the time and the content, never ending in `.json`. Blocking, and used by two threads: the
mirror's writer, and one of its own for copies that somebody waits for.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from storefs import disk
from storefs.errors import NoEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

_PER_DOCUMENT = 20
_CONFLICT_BYTES = 64 << 20
_TRASH_BYTES = 256 << 20
_TRASH_SECONDS = 30 * 86400
_TRASH_CALLS, _TRASH_SHARE = 64, 16
"""The trash is looked through after so many copies, or when it has grown by such a share: for each
copy it would make removing many of them quadratic."""
_NAME_BYTES = 180
_CUT = re.compile(r"\+[0-9a-f]{16}$")
"""Ends the stem of a path that is too long for a name."""


class Place(Enum):
    """Where a copy is kept, relative to the root."""

    CONFLICTS = ".storefs/conflicts"
    FOUND = ".storefs/found"
    TRASH = ".storefs/trash"


def stem_of(path: str) -> str:
    """The part of a copy's name that tells its document: slashes as `%2F`, cut to fit."""
    stem = path.replace("%", "%25").replace("/", "%2F")
    if len(stem.encode()) > _NAME_BYTES:
        head = stem.encode()[: _NAME_BYTES - 17].decode(errors="ignore")
        stem = f"{head}+{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    return stem


def _stem_in(name: str) -> str:
    """The part of a copy's name before time and content; it may hold a tilde itself."""
    return name.rsplit("~", 2)[0]


def path_in(name: str, known: Iterable[str] = ()) -> str | None:
    """The document that a copy's name tells; None where it was cut and is none of `known`."""
    stem = _stem_in(name)
    if _CUT.search(stem) and len(stem.encode()) > _NAME_BYTES - 4:
        return next((path for path in known if stem_of(path) == stem), None)
    return stem.replace("%2F", "/").replace("%25", "%")


def _within(place: Place, name: str) -> str:
    """The path of a copy below the root. Raises NoEntry for what is no name of one."""
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise NoEntry(f"{place.value}: no copy has the name {name!r}")
    return f"{place.value}/{name}"


class Kept:
    """The three places below one root."""

    def __init__(self, dir_fd: int) -> None:
        self._dir_fd = dir_fd
        self._until_look = 0
        """Copies that go to the trash before it is looked through."""
        self._one_at_a_time = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kept")

    def submit(self, place: Place, path: str, data: bytes) -> Future[str]:
        """`keep` in a thread that waits for nothing but the disk."""
        return self._thread.submit(self.keep, place, path, data)

    def close(self) -> None:
        """Wait until everything submitted is on disk."""
        self._thread.shutdown()

    def keep(self, place: Place, path: str, data: bytes) -> str:
        """Keep a copy of what `path` held; identical conflicts once.

        Returns its path below the root. Durable, except in the trash: what lies there is a
        convenience. Raises OSError.
        """
        with self._one_at_a_time:
            return self._keep(place, path, data)

    def _keep(self, place: Place, path: str, data: bytes) -> str:
        stem, digest = stem_of(path), hashlib.sha256(data).hexdigest()[:12]
        if place is Place.CONFLICTS:
            for name in self._names(place):
                if _stem_in(name) == stem and name.endswith(f"~{digest}"):
                    return f"{place.value}/{name}"
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = f"{place.value}/{stem}~{moment}~{digest}"
        durable = place is not Place.TRASH
        quick = not durable and len(data) <= disk.PAGE  # half the work; see disk.create
        try:
            if not (quick and disk.create(self._dir_fd, target, data)):
                disk.replace(self._dir_fd, target, data, durable=durable)
        except OSError as error:  # a full disk, most likely: write(2) names no path
            raise OSError(error.errno, error.strerror, target) from error
        self._prune(place, stem)
        return target

    def take_in(self, path: str) -> str:
        """Move a file of the mirror that nobody accounts for to `found/`. Raises OSError."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = f"{Place.FOUND.value}/{stem_of(path)}~{moment}~{os.urandom(6).hex()}"
        disk.move(self._dir_fd, path, target)
        return target

    def read(self, place: Place, name: str) -> bytes:
        """The bytes of a copy. Raises OSError."""
        return disk.read(self._dir_fd, _within(place, name))

    def remove(self, place: Place, name: str) -> None:
        """Remove a copy; an absent one is fine. Raises OSError."""
        disk.remove(self._dir_fd, _within(place, name))

    def count(self, place: Place) -> int:
        """How many copies lie there."""
        return len(self._names(place))

    def _names(self, place: Place) -> list[str]:
        with suppress(FileNotFoundError):
            fd = os.open(place.value, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._dir_fd)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)
        return []

    def _prune(self, place: Place, stem: str) -> None:
        """Remove the oldest copies beyond the limits; found files are never removed."""
        if place is Place.CONFLICTS:
            own = [name for _, _, name in self._by_age(place) if _stem_in(name) == stem]
            for name in own[:-_PER_DOCUMENT]:
                disk.remove(self._dir_fd, f"{place.value}/{name}")
            self._shrink(place, _CONFLICT_BYTES)
        elif place is Place.TRASH:
            self._until_look -= 1
            if self._until_look > 0:
                return
            too_old = time.time_ns() - _TRASH_SECONDS * 1_000_000_000
            copies = self._by_age(place)
            self._until_look = max(_TRASH_CALLS, len(copies) // _TRASH_SHARE)
            for mtime_ns, _, name in copies:
                if mtime_ns >= too_old:
                    break
                disk.remove(self._dir_fd, f"{place.value}/{name}")
            self._shrink(place, _TRASH_BYTES)

    def _shrink(self, place: Place, limit: int) -> None:
        copies = self._by_age(place)
        total = sum(size for _, size, _ in copies)
        for _, size, name in copies:
            if total <= limit:
                return
            disk.remove(self._dir_fd, f"{place.value}/{name}")
            total -= size

    def _by_age(self, place: Place) -> list[tuple[int, int, str]]:
        """Mtime (ns), size and name of the copies, the oldest first; there may be 100,000."""
        copies = []
        for name in self._names(place):
            with suppress(FileNotFoundError):  # a person may remove copies at any moment
                path = f"{place.value}/{name}"
                info = os.stat(path, dir_fd=self._dir_fd, follow_symlinks=False)
                copies.append((info.st_mtime_ns, info.st_size, name))
        copies.sort()
        return copies
