"""What reconcile shall look at: marks, never data. Set from anywhere in the trio thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BETWEEN_REMOVALS = 1.1
"""Seconds between two removal events of one name: the proxy drops a second one within 1 s."""


class Marks:
    """Paths to ask the backend about, paths to show anew, and when names went away."""

    def __init__(self) -> None:
        self.dirty: set[str] = set()
        self.shows: set[str] = set()
        """Paths whose shown bytes must be replaced by what the mirror holds."""
        self.deferred: set[str] = set()
        """Dirty, but a change is under way; looked at when it is over."""
        self.everything = False
        self.accept_deletions = False
        self.wake: Callable[[], None] = lambda: None
        self._removed: dict[str, float] = {}

    def mark(self, paths: Iterable[str]) -> None:
        """The backend may hold something else for these paths."""
        self.dirty.update(paths)
        if self.dirty:
            self.wake()

    def mark_everything(self) -> None:
        """Anything may have changed: a snapshot is needed."""
        self.everything = True
        self.wake()

    def show(self, path: str) -> None:
        """What is shown for `path` must become what the mirror holds."""
        self.shows.add(path)
        self.wake()

    def over(self, path: str) -> None:
        """A change of `path` by a program of this machine is over."""
        if path in self.deferred:
            self.deferred.discard(path)
            self.dirty.add(path)
        if path in self.dirty or path in self.shows:
            self.wake()

    def removed(self, path: str) -> None:
        """The kernel reports IN_DELETE or IN_MOVED_FROM of this name about now."""
        now = time.monotonic()
        self._removed.pop(path, None)
        self._removed[path] = now
        while now - self._removed[oldest := next(iter(self._removed))] > BETWEEN_REMOVALS:
            del self._removed[oldest]

    def removable_in(self, path: str) -> float:
        """Seconds until the next removal event of this name may arise, 0 for now."""
        at = self._removed.get(path)
        return 0.0 if at is None else max(0.0, at + BETWEEN_REMOVALS - time.monotonic())
