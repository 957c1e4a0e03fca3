"""What a writer can be assumed to have read: the base of a write from memory.

Programs write what they have in memory. A save 50 ms after a change from elsewhere was delivered
put the old config back 10 times of 10, an old token 5 times of 20 (observed with the proxy). So a
write that begins soon after a delivery starts from a version before it (of several deliveries in a
row the one that it resembles most: a program has read one of them), and no write takes a
token group back to one that this machine has seen superseded, a restart between included. Paths in
stored form; knows no I/O: who makes it says where superseded groups are kept.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs.merge import NotMerged, keep_backend_tokens, merge_stale_write, nearest
from storefs.tokens import token_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SETTLE = 1.0
"""Seconds for which a change from elsewhere may still be unread, once its event is the next."""

_GROUPS = 8
"""Superseded token groups remembered for each document."""

_DIGEST = 32
"""Bytes of a digest."""


_VERSIONS = 16
"""Versions of one document that a program may still have in memory."""

_PRUNED = 256
"""Deliveries between two looks for those that are over."""


@dataclass(slots=True)
class _Delivery:
    before: list[bytes]
    """What stood before each change that may still be unread, the oldest first."""
    until: float = math.inf
    """Monotonic; for ever, until the event has been raised."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What to send instead of what was written, and what is given up: it must be kept."""

    data: bytes
    lost: bytes | None = None
    old_tokens: bool = False


@dataclass(slots=True)
class Settling:
    """The last deliveries and the superseded token groups of one mount."""

    keep: Callable[[str, bytes], None] = lambda path, groups: None
    """Told the digests of a document's superseded groups, joined, whenever they change."""
    _deliveries: dict[str, _Delivery] = field(default_factory=dict)
    _superseded: dict[str, deque[bytes]] = field(default_factory=dict)

    def load(self, kept: Iterable[tuple[str, bytes]]) -> None:
        """Take over what an earlier run kept."""
        for path, groups in kept:
            self._superseded[path] = deque(_parted(groups), maxlen=_GROUPS)

    def deliver(self, path: str, before: bytes, after: bytes) -> None:
        """Programs that know `before` are about to be told of `after`."""
        if before == after:
            return
        earlier = self._deliveries.get(path)
        if earlier is not None and time.monotonic() <= earlier.until:
            earlier.until = math.inf  # some may not even have read what came first
            if before not in earlier.before:
                first, *others = earlier.before
                earlier.before = [first, *others[2 - _VERSIONS :], before]
            return
        self._deliveries[path] = _Delivery([before])
        if len(self._deliveries) % _PRUNED == 0:
            now = time.monotonic()
            over = [path for path, one in self._deliveries.items() if one.until < now]
            for one in over:
                del self._deliveries[one]

    def raised(self, path: str, behind: float) -> None:
        """The event of the last delivery has arisen, and is read after `behind` seconds of others.

        The proxy sleeps 50 ms for each event of a removal before it takes the next one.
        """
        if delivery := self._deliveries.get(path):
            delivery.until = time.monotonic() + behind + SETTLE

    def base(self, path: str) -> tuple[bytes, ...]:
        """The versions that a write beginning now may have started from; none: the present one."""
        delivery = self._deliveries.get(path)
        if delivery is None:
            return ()
        if time.monotonic() > delivery.until:
            del self._deliveries[path]
            return ()
        return tuple(delivery.before)

    def supersede(self, path: str, before: bytes, after: bytes) -> None:
        """`after` stands in the place of `before`: its tokens, if others, are the valid ones."""
        if not path.endswith(".json"):
            return
        old, new = token_digest(before), token_digest(after)
        if old == new:
            return
        groups = self._superseded.setdefault(path, deque(maxlen=_GROUPS))
        if new is not None and new in groups:
            groups.remove(new)
        if old is not None:
            groups.append(old)
        self.keep(path, b"".join(groups))

    def check(self, path: str, base: tuple[bytes, ...], present: bytes, written: bytes) -> Checked:
        """What `written` becomes, over `present`; `base` as `base()` said when it was begun."""
        checked = Checked(written)
        if base:
            before = nearest(path, base, written)
            merged = merge_stale_write(path, before, present, written, now=time.time())
            lost = written if merged.ours_lost else present if merged.theirs_lost else None
            checked = Checked(merged.data, lost)
        groups = self._superseded.get(path)
        if groups and path.endswith(".json") and token_digest(checked.data) in groups:
            try:
                kept = keep_backend_tokens(path, checked.data, present)
            except NotMerged:
                return checked
            return Checked(kept.data, written, old_tokens=True)
        return checked

    def forget(self, path: str) -> None:
        """The document is gone; a new one of that name has nothing to do with it."""
        self._deliveries.pop(path, None)
        if self._superseded.pop(path, None) is not None:
            self.keep(path, b"")


def _parted(groups: bytes) -> list[bytes]:
    return [groups[start : start + _DIGEST] for start in range(0, len(groups), _DIGEST)]
