"""Changes that this machine's disk has and the backend has not: what survives an outage.

One file per path below `.storefs/pending/`, with the bytes, the base they started from and the
revision they expect; fsynced before the program is told that its change is safe. It needs no
index. Memory changes first, in the trio thread; one thread brings the disk after it, in order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from storefs import disk
from storefs.backends.contract import Revision
from storefs.kept import stem_of

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

PENDING = Revision("pending")
"""The revision of a document whose bytes are not in the backend yet; no backend makes it."""

PLACE = ".storefs/pending"
_VERSION = 1
_SUFFIX = "~pending"
"""No name below `.storefs/` ends in `.json`."""

_SENT = 8
"""Versions in doubt that are remembered for a path: one an attempt, and few are made."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One path's change, in stored form. `data` None: a delete."""

    path: str
    data: bytes | None
    expect: Revision | None
    """What the backend held when the first change was made; None: nothing, or not known."""
    base: bytes | None
    """The bytes of that revision, None where there were none."""
    since: float
    """When the first change became pending (unix seconds)."""
    order: int
    group: int = 0
    """Changes of one rename share a number; 0: it stands alone."""
    sent: tuple[str, ...] = ()
    """Marks of what was handed to the backend without an answer: it may hold any of these."""
    refused: str = ""
    """Why the backend will never take it; empty while it may."""

    def may_have_made(self, current: bytes | None) -> bool:
        """Whether the backend may hold `current` (None: nothing) because of this machine alone."""
        return _mark(current) in self.sent

    def doubted(self) -> Pending:
        """The same change after it was handed over, and no answer came."""
        mark = _mark(self.data)
        return self if mark in self.sent else replace(self, sent=(*self.sent, mark)[-_SENT:])


class PendingChanges:
    """The changes of one root, by path."""

    def __init__(self, dir_fd: int) -> None:
        self._dir_fd = dir_fd
        self._changes: dict[str, Pending] = {}
        self._order = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pending")

    def __contains__(self, path: str) -> bool:
        return path in self._changes

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> Iterator[Pending]:
        return iter(sorted(self._changes.values(), key=lambda change: change.order))

    def get(self, path: str) -> Pending | None:
        """The change of a path that waits, if one does."""
        return self._changes.get(path)

    def waiting(self) -> list[Pending]:
        """What can be sent, the oldest first."""
        return [change for change in self if not change.refused]

    def refused(self) -> list[Pending]:
        """What the backend refused for good."""
        return [change for change in self if change.refused]

    def load(self) -> None:
        """Read what an earlier run left. A file that makes no sense is left alone, and told."""
        for entry in disk.listing(self._dir_fd, PLACE):
            try:
                change = _unpack(disk.read(self._dir_fd, f"{PLACE}/{entry.name}"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s/%s: not a pending change (%s); left there", PLACE, entry.name, error)
                continue
            # The run that left it may have handed it over just before it ended.
            self._changes[change.path] = change.doubted()
            self._order = max(self._order, change.order)

    def add(
        self,
        path: str,
        data: bytes | None,
        expect: Revision | None,
        base: bytes | None,
        *,
        group: int = 0,
        doubt: bool = False,
    ) -> Future[None]:
        """A change that must wait; over one of the same path that waits already, whose base stays.

        `doubt`: it was handed over, and no answer came. Returns what is done when it is on disk;
        raises OSError from there.
        """
        before = self._changes.get(path)
        if before is None:
            self._order += 1
            change = Pending(path, data, expect, base, time.time(), self._order, group)
        elif data is None and before.expect is None and before.base is None and not before.sent:
            return self.drop(path)  # made and removed while it waited: nothing happened
        else:
            change = replace(before, data=data, group=group or before.group, refused="")
        return self._save(change.doubted() if doubt else change)

    def number(self) -> int:
        """A new number for the changes of one rename."""
        self._order += 1
        return self._order

    def refuse(self, path: str, cause: str) -> Future[None]:
        """Set a change aside that the backend will not take."""
        return self._save(replace(self._changes[path], refused=cause, group=0))

    def doubt(self, path: str) -> None:
        """The change was handed over, and no answer came."""
        change = self._changes[path]
        if (doubted := change.doubted()) is not change:
            self._save(doubted)

    def retry(self) -> None:
        """Forget refusals: rights or settings may have changed."""
        for change in self.refused():
            self._changes[change.path] = replace(change, refused="")

    def drop(self, path: str) -> Future[None]:
        """The change is in the backend, or given up."""
        self._changes.pop(path, None)
        return self._thread.submit(disk.remove, self._dir_fd, _file_of(path))

    def written(self) -> Future[None]:
        """Done when the disk has everything, what was dropped included."""
        return self._thread.submit(lambda: None)

    def restore(self, path: str, before: Pending | None) -> None:
        """No disk took the last change of the path: it is as it was."""
        if before is None:
            self.drop(path)
        else:
            self._changes[path] = before

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._thread.shutdown()

    def _save(self, change: Pending) -> Future[None]:
        self._changes[change.path] = change
        return self._thread.submit(self._write, change)

    def _write(self, change: Pending) -> None:
        file = _file_of(change.path)
        try:
            disk.replace(self._dir_fd, file, _pack(change), durable=True)
        except OSError as error:  # a full disk, most likely: write(2) names no path
            raise OSError(error.errno, error.strerror, file) from error


def _mark(data: bytes | None) -> str:
    """What tells a version from the others; empty for a delete."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _file_of(path: str) -> str:
    return f"{PLACE}/{stem_of(path)}{_SUFFIX}"


def _pack(change: Pending) -> bytes:
    head = {
        "version": _VERSION,
        "path": change.path,
        "expect": change.expect,
        "data": -1 if change.data is None else len(change.data),
        "base": -1 if change.base is None else len(change.base),
        "since": change.since,
        "order": change.order,
        "group": change.group,
        "sent": change.sent,
        "refused": change.refused,
    }
    return json.dumps(head).encode() + b"\n" + (change.data or b"") + (change.base or b"")


def _unpack(packed: bytes) -> Pending:
    line, _, rest = packed.partition(b"\n")
    head = json.loads(line)
    if head["version"] != _VERSION:
        raise ValueError(f"version {head['version']}")
    data, base = head["data"], head["base"]
    if len(rest) != max(data, 0) + max(base, 0):
        raise ValueError("cut short")
    expect = head["expect"]
    return Pending(
        str(head["path"]),
        None if data < 0 else rest[:data],
        None if expect is None else Revision(expect),
        None if base < 0 else rest[max(data, 0) :],
        float(head["since"]), int(head["order"]), int(head["group"]),
        tuple(str(mark) for mark in head.get("sent", ())), str(head["refused"]),
    )  # fmt: skip
