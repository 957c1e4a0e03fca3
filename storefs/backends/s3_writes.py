"""Puts and deletes on expected revisions: with the server's conditions, or by comparing first.

Without conditions another writer can come between the comparison and the write; reading again
tells the one that was overwritten, not the one that overwrote. Thread-safe; keeps nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.backends.contract import Batch, Change, Delete, Put
from storefs.backends.s3_errors import ConditionFailed, TooLarge, Unsupported
from storefs.backends.s3_objects import ABSENT, Found, Objects
from storefs.backends.s3_place import Place, check_key
from storefs.errors import Conflict, Corrupt, StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.backends.s3_probe import Conditions

_CHANGED_MIND = "the server refuses a condition that it took when the mount began"


@dataclass(frozen=True, slots=True)
class Writes:
    """The writing half of one store."""

    _objects: Objects
    _place: Place
    _conditions: Conditions
    _max_size: int

    def apply(self, batch: Batch, until: float) -> Iterator[tuple[str, Found]]:
        """Apply one batch, puts before deletes; yields each put as soon as it is done.

        `until` is a monotonic time. Raises StoreError; what was yielded before stays applied.
        """
        changes = sorted(batch, key=lambda change: isinstance(change, Delete))
        for change in changes:
            check_key(change.path, self._place)
        # What goes first is compared when it is written; the rest before that, so that a batch
        # in conflict changes nothing.
        for change in changes[1:]:
            self._compare(change, until)
        for change in changes:
            if isinstance(change, Put):
                yield change.path, self._put(change, until)
            else:
                self._delete(change, until)

    def _compare(self, change: Change, until: float) -> None:
        """Raises Conflict unless the object is as the change expects it."""
        found = self._objects.head(self._place.key_of(change.path), until=until)
        if found is None and isinstance(change, Delete):
            return
        if change.expect != (found.etag if found else None):
            raise self._conflict(change.path, found)

    def _put(self, put: Put, until: float) -> Found:
        key = self._place.key_of(put.path)
        conditions = self._conditions
        held = conditions.create if put.expect is None else conditions.replace
        match = ABSENT if put.expect is None else put.expect
        if not held or (put.expect is not None and not conditions.guarded):
            self._compare(put, until)
        try:
            found = self._objects.put(key, put.data, match if held else "", until=until)
            # Without a condition another writer may have come between.
            return found if held else self._objects.found_again(key, put.data)
        except ConditionFailed as refusal:
            return self._after_refusal(put, refusal.again, until)
        except Unsupported:
            raise Unavailable(put.path, _CHANGED_MIND) from None

    def _after_refusal(self, put: Put, again: bool, until: float) -> Found:
        """A conflict, unless an earlier try of this very put is what is there."""
        found = self._objects.head(self._place.key_of(put.path), until=until)
        if again and found is not None and found.size == len(put.data):
            with suppress(TooLarge):
                answer = self._objects.get(self._place.key_of(put.path), len(put.data))
                if answer is not None and answer[0] == put.data:
                    return answer[1]
        raise self._conflict(put.path, found)

    def _delete(self, delete: Delete, until: float) -> None:
        key, held = self._place.key_of(delete.path), self._conditions.delete
        if not held:
            self._compare(delete, until)
        try:
            self._objects.delete(key, delete.expect if held else "", until=until)
        except ConditionFailed:
            if (found := self._objects.head(key, until=until)) is not None:
                raise self._conflict(delete.path, found) from None
        except Unsupported:
            raise Unavailable(delete.path, _CHANGED_MIND) from None

    def _conflict(self, path: str, found: Found | None) -> StoreError:
        if found is not None and found.size > self._max_size:
            return Corrupt(
                path,
                f"the store has {found.size} bytes there by now, which are never downloaded; "
                f"see --max-file-size",
            )
        cause = "is not at the expected revision"
        return Conflict(path, cause, current={path: None} if found is None else None)
