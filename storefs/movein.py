"""Moving in: what lies under the mount point becomes documents, before the mount hides it.

Runs once, before the first synchronisation, straight on the backend. A start that is killed at
any moment is completed by the next: nothing is renamed before the backend, or a conflict copy,
surely has it. Blocking.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs import mountpoint, originals
from storefs.backends.contract import Described, Put
from storefs.content import problem, same_value
from storefs.errors import Conflict, Exit, Quit, StoreError, Unavailable
from storefs.kept import Kept, Place
from storefs.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from storefs.backends.contract import Backend
    from storefs.originals import Original
    from storefs.root import Root
    from storefs.settings import Settings

log = logging.getLogger(__name__)

_CHUNK = 64
_TIMEOUT = 60.0
"""Seconds for one commit of a chunk."""

_ATTEMPTS = 5
_PAUSE = 0.5
_SHOWN = 12
"""Names in one line."""


def move_in(settings: Settings, backend: Backend, root: Root) -> str:
    """Take in what lies under the mount point; returns a line for the person, or nothing.

    A store that is away: nothing is moved, and the log says so. Raises Quit.
    """
    place, _ = mountpoint.on_top(settings.mountpoint)
    try:
        found = originals.survey(place, settings.subdir)
        if not found.originals and not found.others:
            return ""
        moving = MoveIn(settings, backend, root.dir_fd, place)
        moving.left = dict.fromkeys(found.others, "")
        moving.run(found.originals)
        moving.list_left()
    except Unavailable as error:
        log.error(
            "%s: not moved in, for the store is away: a mount hides %d documents there until a "
            "later start takes them in (%s)",
            place, len(found.originals), error,
        )  # fmt: skip
        return ""
    except StoreError as error:
        raise Quit(Exit.UNREACHABLE, f"{backend.identity}: moving in {place}: {error}") from None
    except OSError as error:
        raise Quit(
            Exit.MOUNT_POINT,
            f"moving in {place}: {error.filename or place}: {error.strerror}; what was not renamed "
            "is where it was, and the next start goes on; or mount with --keep-originals",
        ) from None
    return moving.summary()


def choose(found: Sequence[Original], data: Mapping[str, bytes]) -> dict[str, bytes]:
    """Path -> bytes that are committed where the backend has no such document.

    `found` has, of several originals of a document, the one that counts first.
    """
    chosen: dict[str, bytes] = {}
    for original in found:
        if original.name in data:
            chosen.setdefault(original.path, data[original.name])
    return chosen


@dataclass(slots=True)
class MoveIn:
    """One run of it."""

    settings: Settings
    backend: Backend
    dir_fd: int
    place: Path
    left: dict[str, str] = field(default_factory=dict)
    """Names that stay where they are; why, where they look like documents."""
    committed: set[str] = field(default_factory=set)
    same: int = 0
    differing: int = 0
    aside: int = 0
    _memory: originals.Memory = field(default_factory=originals.Memory)

    def run(self, found: Sequence[Original]) -> None:
        """Raises StoreError, OSError, Quit."""
        self._memory = originals.load(self.dir_fd)
        if not found:
            return
        self._check_writable(found)
        self._await_backend()
        done: list[Original] = []
        with Progress("moving in", len(found)) as progress:
            for start in range(0, len(found), _CHUNK):
                progress.show(start)
                # Whole documents: all originals of one path are looked at together.
                done += self._take(_whole(found, start, start + _CHUNK))
        originals.save(self.dir_fd, self._memory)
        if not self.settings.keep_originals:
            self._set_aside(done)

    def _check_writable(self, found: Sequence[Original]) -> None:
        described = isinstance(self.backend, Described) and self.backend.read_only
        if self.settings.read_only or described:
            raise Quit(
                Exit.MOUNT_POINT,
                f"{self.place} holds {_names([one.name for one in found])}, which a read-only "
                "mount would hide and cannot move in: move them away",
            )

    def _await_backend(self) -> None:
        """As long as `--wait` says. Raises Unavailable."""
        until = time.monotonic() + self.settings.wait
        while True:
            try:
                self.backend.snapshot()
            except Unavailable as error:
                if time.monotonic() >= until:
                    raise
                log.info("%s: waiting for it: %s", self.backend.identity, error)
                time.sleep(_PAUSE)
            else:
                return

    def _take(self, found: Sequence[Original]) -> list[Original]:
        """See that the backend has each, or a conflict copy; returns those that surely are."""
        data: dict[str, bytes] = {}
        known: list[Original] = []
        for original in found:
            content = self._read(original)
            if content is None:
                continue
            if self._memory.taken.get(original.name) == _digest(content):
                known.append(original)
            else:
                data[original.name] = content
        held = self._commit(choose(found, data))
        kept = Kept(self.dir_fd)
        try:
            taken = [one for one in found if self._settle(one, data.get(one.name), held, kept)]
        finally:
            kept.close()
        self._memory.taken.update({one.name: _digest(data[one.name]) for one in taken})
        return known + taken

    def _read(self, original: Original) -> bytes | None:
        """The content of what may be sent; None: it stays, and why is noted."""
        if original.size > self.settings.max_file_size:
            self.left[original.name] = "it is longer than --max-file-size"
            return None
        try:
            data = originals.read(self.place, original)
        except PermissionError as error:
            self.left[original.name] = str(error.strerror)
            return None
        reason = "changes just now" if data is None else problem(original.path, data)
        if reason:
            self.left[original.name] = f"it {reason}"
            return None
        return data

    def _commit(self, wanted: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Make the backend hold every path; returns what it holds in the end, None: refused.

        What it returns was read after the last commit: that is the confirmation.
        """
        refused: dict[str, bytes | None] = {}
        if not wanted:
            return refused
        for _ in range(_ATTEMPTS):
            asked = [path for path in wanted if path not in refused]
            held = {path: blob.data if blob else None for path, blob in self.backend.read(asked)}
            absent = [path for path in asked if held.get(path, b"") is None]
            if not absent:
                return held | refused
            batches = [[Put(path, wanted[path], None)] for path in absent]
            for path, outcome in zip(absent, self.backend.commit(batches, _TIMEOUT), strict=True):
                if not isinstance(outcome, StoreError):
                    self.committed.add(path)
                elif not isinstance(outcome, Conflict | Unavailable):
                    refused[path] = None
                    self.left[path] = outcome.cause
        raise Unavailable("", f"{self.backend.identity} does not take what is moved in")

    def _settle(
        self, one: Original, data: bytes | None, held: Mapping[str, bytes | None], kept: Kept
    ) -> bool:
        """Whether this original is no longer needed; one that lost is kept as a conflict copy."""
        if data is None:
            return False
        now = held.get(one.path)
        if now is None:
            self.left[one.name] = self.left.pop(one.path, "the store cannot read its own version")
            return False
        if same_value(one.path, now, data):
            self.same += 1
            log.info("%s: %s is in the store", one.path, self.place / one.name)
            return True
        copy = kept.keep(Place.CONFLICTS, one.path, data)
        if kept.read(Place.CONFLICTS, copy.rpartition("/")[2]) != data:
            raise Quit(Exit.FAILED, f"{copy} reads back as something else: look at the disk")
        self.differing += 1
        log.warning(
            "%s: the store has another version, which stands; that of %s is kept as %s",
            one.path, self.place / one.name, copy,
        )  # fmt: skip
        return True

    def _set_aside(self, done: Sequence[Original]) -> None:
        for original in done:
            if originals.set_aside(self.place, original):
                self.aside += 1
            else:
                self.left[original.name] = "it changes just now"
            self._memory.taken.pop(original.name, None)
        originals.save(self.dir_fd, self._memory)

    def list_left(self) -> None:
        """Say what stays, and that the mount hides it: once, until it is something else."""
        names = sorted(self.left)
        if names == self._memory.told:
            return
        for name, reason in self.left.items():
            if reason:
                log.warning("%s is not moved in: %s", self.place / name, reason)
        if names:
            log.warning("%s: the mount hides what stays there: %s", self.place, _names(names))
        self._memory.told = names
        originals.save(self.dir_fd, self._memory)

    def summary(self) -> str:
        """One line for the person; empty where nothing was taken in or renamed."""
        if not self.same and not self.differing and not self.aside:
            return ""
        equal = self.same - len(self.committed)
        words = [f"{len(self.committed)} committed", f"{max(equal, 0)} the same"]
        if self.differing:
            words.append(f"{self.differing} differing (`storefs conflicts` lists them)")
        if self.aside:
            words.append(f"the originals are in {originals.before(self.place)}")
        return f"moved in from {self.place}: {', '.join(words)}"


def _whole(found: Sequence[Original], start: int, end: int) -> Sequence[Original]:
    """The part from `start` to `end`, each end moved on to where another path begins."""

    def edge(index: int) -> int:
        while 0 < index < len(found) and found[index].path == found[index - 1].path:
            index += 1
        return index

    return found[edge(start) : edge(end)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
