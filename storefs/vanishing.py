"""When the absence of a document in the backend is believed to be a deletion. Pure of I/O.

A delete followed by a create within a second is a modification. A backend that lost most of
its documents, or all, is more likely broken than tidied up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BELIEVED_AFTER = 1.0
"""Seconds for which a document must stay absent."""

CONFIRMED_AFTER = 30.0
"""Seconds after which a second snapshot must agree that many documents are gone."""

_ALWAYS_ALLOWED = 3
_SHARE_ALLOWED = 0.2


@dataclass(slots=True)
class Vanishing:
    """Documents that this machine knows and the backend lacks. Times are monotonic seconds."""

    absent: dict[str, float] = field(default_factory=dict)
    """Path -> since when; a later time means: not before."""
    held_since: float | None = None
    """Since when deletions are held back because there are too many of them."""

    def note(self, paths: Iterable[str], now: float) -> None:
        """These paths are absent."""
        for path in paths:
            self.absent.setdefault(path, now)

    def returned(self, path: str) -> None:
        """The path is there again, or its name was removed."""
        self.absent.pop(path, None)
        if not self.absent:
            self.held_since = None

    def ripe(self, now: float) -> list[str]:
        """Absent for long enough."""
        return [path for path, since in self.absent.items() if now - since >= BELIEVED_AFTER]

    def too_many(self, known: int) -> bool:
        """Whether so many of the `known` documents are absent that nobody meant it."""
        if not self.absent:
            return False
        allowed = max(_ALWAYS_ALLOWED, known * _SHARE_ALLOWED)
        return len(self.absent) > allowed or len(self.absent) >= known

    def held_long_enough(self, now: float) -> bool:
        """Whether the second look is late enough."""
        return self.held_since is not None and now - self.held_since >= CONFIRMED_AFTER

    def confirmed(self, now: float) -> list[str]:
        """Of the held deletions, those that were absent from the first look on, once the second
        is late enough."""
        if self.held_since is None or not self.held_long_enough(now):
            return []
        return [path for path, since in self.absent.items() if since <= self.held_since]

    def next_look(self) -> float | None:
        """When to look again, None when nothing is absent."""
        if not self.absent:
            return None
        if self.held_since is not None:
            return self.held_since + CONFIRMED_AFTER
        return min(self.absent.values()) + BELIEVED_AFTER
