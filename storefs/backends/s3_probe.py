"""Which conditions the server really honours: each is tried on an object that is no document.

The server's word is not enough: some accept a condition and ignore it, or honour it only where
the object exists. Leaves nothing behind, also when a request fails half-way.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs.backends.s3_errors import ConditionFailed, Unsupported
from storefs.backends.s3_objects import ABSENT, Objects
from storefs.errors import AccessDenied, StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

NAME = ".storefs-probe-"
"""Begins with a dot, so that no mount shows it."""

_WRONG = "0" * 32
_ROUNDS = 4
_LEFT_OVER_NS = 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which conditional writes hold."""

    create: bool = False
    """A put demands that the key is absent."""
    replace: bool = False
    """A put demands an ETag."""
    guarded: bool = False
    """… and is refused where the key is absent; some servers then make a new object."""
    delete: bool = False
    """A delete demands an ETag."""

    @property
    def all(self) -> bool:
        return self.create and self.replace and self.guarded and self.delete

    def missing(self) -> str:
        """What the server lacks, in words."""
        lacks = {
            "create": not self.create,
            "replace": not self.replace,
            "replace only what exists": self.replace and not self.guarded,
            "delete": not self.delete,
        }
        return ", ".join(word for word, lacking in lacks.items() if lacking)


class ReadOnly(Exception):
    """The key may list and read, but not put and delete."""


def probe(objects: Objects, prefix: str) -> Conditions:
    """Try every condition below `prefix`. Raises ReadOnly, Unavailable.

    A failure that passes begins the whole round anew, on another key: after a request without
    an answer nobody knows which condition the next one met.
    """
    _sweep(objects, prefix)
    for number in range(1, _ROUNDS + 1):
        try:
            return _Round(objects, f"{prefix}{NAME}{secrets.token_hex(8)}").run()
        except (Unavailable, AccessDenied) as error:
            log.debug("probe: %s", error)
            if number == _ROUNDS or (isinstance(error, AccessDenied) and number > 1):
                if isinstance(error, AccessDenied):
                    raise ReadOnly from error
                raise
    raise AssertionError("there is at least one round")


def _sweep(objects: Objects, prefix: str) -> None:
    """Remove what a process that was killed left here; nobody else uses such names."""
    now = time.time_ns()
    for key, found in objects.listing(f"{prefix}{NAME}"):
        if now - found.modified_ns > _LEFT_OVER_NS:
            with contextlib.suppress(StoreError, ConditionFailed):
                objects.delete(key)


@dataclass(slots=True)
class _Round:
    objects: Objects
    key: str
    versions: list[str] = field(default_factory=list)

    def run(self) -> Conditions:
        self.objects.delete(self.key, tries=1)  # the right to clear away comes first
        try:
            return self._try_all()
        finally:
            self._clear()

    def _try_all(self) -> Conditions:
        made = self._accepted(lambda: self._put(b"1", ABSENT))
        if not made:
            self._put(b"1")
        create = made and self._refused(lambda: self._put(b"2", ABSENT))
        replace = self._refused(lambda: self._put(b"3", _WRONG)) and self._accepted(
            lambda: self._put(b"4", self._etag())
        )
        delete = self._refused(lambda: self._delete(_WRONG)) and bool(self._etag())
        delete = delete and self._accepted(lambda: self._delete(self._etag())) and not self._etag()
        self._delete()
        guarded = replace and self._refused(lambda: self._put(b"5", _WRONG)) and not self._etag()
        return Conditions(create, replace, guarded, delete)

    def _put(self, data: bytes, match: str = "") -> None:
        self.versions.append(self.objects.put(self.key, data, match, tries=1).version)

    def _delete(self, match: str = "") -> None:
        self.versions.append(self.objects.delete(self.key, match, tries=1))

    def _etag(self) -> str:
        found = self.objects.head(self.key)
        return found.etag if found else ""

    def _accepted(self, request: Callable[[], None]) -> bool:
        try:
            request()
        except (ConditionFailed, Unsupported):
            return False
        return True

    def _refused(self, request: Callable[[], None]) -> bool:
        try:
            request()
        except ConditionFailed:
            return True
        except Unsupported:
            return False
        return False

    def _clear(self) -> None:
        """Remove the object, and in a bucket with versions what its removal left."""
        try:
            self.versions.append(self.objects.delete(self.key))
        except (StoreError, ConditionFailed, Unsupported) as error:
            log.warning("%s could not be removed and may be deleted by hand: %s", self.key, error)
        for version in filter(None, self.versions):
            with contextlib.suppress(StoreError, ConditionFailed, Unsupported):
                self.objects.delete(self.key, version=version)
