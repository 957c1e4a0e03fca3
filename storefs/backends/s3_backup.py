"""The second copy of each document: written after the primary, never waited for, kept longer.

Follows what this mount commits. A key that another hand removed from the primary keeps its
copy. One thread of its own does the work; the rest may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from storefs import paths
from storefs.backends.contract import Delete, Put
from storefs.backends.s3_errors import ConditionFailed, TooLarge, Unsupported
from storefs.content import problem
from storefs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from storefs.backends.contract import Batch, Blob, Entry, Revision
    from storefs.backends.s3_objects import Found, Objects
    from storefs.backends.s3_place import Place

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LOOK_AGAIN = 60.0
_CLOSE_WITHIN = 5.0


class _Fetch:
    """Stands for: whatever the primary holds when its turn comes."""


_FETCH: Final = _Fetch()


class Backup:
    """The copies below one prefix."""

    def __init__(self, objects: Objects, place: Place, max_size: int) -> None:
        self._objects, self._place, self._max_size = objects, place, max_size
        self._changed = threading.Condition()  # protects all below
        self._queue: dict[str, bytes | _Fetch | None] = {}
        """The last change of each path; None: it was deleted."""
        self._known: set[str] = set()
        self._primary: Collection[str] = ()
        self.only: tuple[str, ...] = ()
        """The documents that another hand removed from the primary, as far as is known."""
        self._looked = 0.0
        self._look = False
        self._error = ""
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="s3-backup", daemon=True)

    def open(
        self,
        primary: Mapping[str, Entry],
        read: Callable[[list[str]], Iterable[tuple[str, Blob | None]]],
        restore: Callable[[Put], bool],
    ) -> None:
        """Restore what the primary lost, note what the copies lack, and start following.

        Restored is what is empty or unparsable in the primary, and everything if that holds no
        document at all: a sound primary always wins. Raises StoreError.
        """
        copies = self._list()
        broken: dict[str, Revision | None] = dict.fromkeys(copies) if not primary else {}
        differing = [
            path
            for path, found in copies.items()
            if path in primary and primary[path].revision != found.etag
        ]
        for path, blob in read(differing):
            if blob is not None and _unsound(path, blob.data):
                broken[path] = blob.entry.revision
        with self._changed:
            self._known = set(copies)
            behind = (set(differing) | (primary.keys() - copies.keys())) - broken.keys()
            self._queue |= dict.fromkeys(sorted(behind), _FETCH)
            self._note_only(copies.keys() - broken.keys(), primary)
        for path, revision in sorted(broken.items()):
            self._bring_back(path, revision, restore)
        self._thread.start()

    def _bring_back(
        self, path: str, revision: Revision | None, restore: Callable[[Put], bool]
    ) -> None:
        copy = self.copy(path)
        if copy is None or _unsound(path, copy):
            log.warning("%s: empty or broken, and so is its backup copy", path)
        elif restore(Put(path, copy, revision)):
            log.warning("%s: restored from %s", path, self._key(path))

    def follow(self, batch: Batch, applied: Collection[str], *, whole: bool) -> None:
        """Do in the copies what a commit did: its applied puts, its deletes if it is `whole`."""
        with self._changed:
            for change in batch:
                if isinstance(change, Put) and change.path in applied:
                    self._queue[change.path] = change.data
                elif isinstance(change, Delete) and whole:
                    self._queue[change.path] = None
            self._changed.notify_all()

    def seen(self, primary: Collection[str]) -> None:
        """Told by each snapshot what the primary holds."""
        with self._changed:
            self._primary = primary
            candidates = self._known - set(primary) - self._queue.keys()
            if not candidates:
                self.only = ()
            elif candidates != set(self.only) or time.monotonic() > self._looked + _LOOK_AGAIN:
                # Another machine may have removed both: only a listing tells.
                self._look = True
                self._changed.notify_all()

    def find_only(self, primary: Collection[str]) -> tuple[str, ...]:
        """What `only` is now, when the primary holds these documents. Raises StoreError."""
        copies = self._list()
        with self._changed:
            self._known = set(copies)
            self._note_only(copies, primary)
            return self.only

    def _note_only(self, copies: Collection[str], primary: Collection[str]) -> None:
        self._looked = time.monotonic()
        self.only = tuple(sorted(set(copies) - set(primary) - self._queue.keys()))

    def copy(self, path: str) -> bytes | None:
        """The bytes of a copy; None: there is none, or it is too large. Raises StoreError."""
        return self._get(self._key(path))

    def summary(self) -> str:
        """One line for the status."""
        with self._changed:
            said = [self._place.backup]
            if self._queue:
                said.append(f"{len(self._queue)} waiting")
            if self._error:
                said.append(self._error)
            if self.only:
                said.append(f"{len(self.only)} only in backup")
        return "; ".join(said)

    def close(self) -> None:
        """Write what still waits, for a few seconds at most."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_WITHIN)
        if self._queue:
            log.warning("%s: not up to date: %d documents", self._place.backup, len(self._queue))

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        while self._wait():
            try:
                self._step()
            except (StoreError, ConditionFailed, Unsupported) as error:
                self._failed(str(error) or "refused")
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                log.exception("%s: the backup ends here", self._place.backup)
                return
            else:
                pause = _FIRST_PAUSE
                self._error = ""

    def _wait(self) -> bool:
        """Whether there is something to do; waits for it until the backend is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._look or self._closing)
            return bool(self._queue) or not self._closing

    def _step(self) -> None:
        with self._changed:
            path, change = next(iter(self._queue.items()), ("", None))
        if path:
            self._write(path, change)
        else:
            self._find_only()

    def _write(self, path: str, change: bytes | _Fetch | None) -> None:
        data = self._sound(path) if isinstance(change, _Fetch) else change
        if data is not None:
            self._objects.put(self._key(path), data)
        elif change is None:
            self._objects.delete(self._key(path))
        with self._changed:
            if self._queue.get(path) is change:
                del self._queue[path]
            if data is not None:
                self._known.add(path)
            elif change is None:
                self._known.discard(path)

    def _sound(self, path: str) -> bytes | None:
        """What the primary holds, None unless it may replace a copy."""
        data = self._get(self._place.key_of(path))
        return None if data is None or _unsound(path, data) else data

    def _find_only(self) -> None:
        with self._changed:
            self._look = False
            primary = self._primary
        self.find_only(primary)

    def _list(self) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for top in paths.SHARED:
            for key, copy in self._objects.listing(f"{self._place.backup}{top}/"):
                path = key.removeprefix(self._place.backup)
                if paths.may_be_shared(path) and paths.is_document(path):
                    found[path] = copy
        return found

    def _get(self, key: str) -> bytes | None:
        try:
            answer = self._objects.get(key, self._max_size)
        except TooLarge:
            return None
        return answer[0] if answer else None

    def _key(self, path: str) -> str:
        return self._place.backup + path

    def _failed(self, error: str) -> None:
        if not self._error:
            log.warning("%s: the backup waits: %s", self._place.backup, error)
        self._error = error


def _unsound(path: str, data: bytes) -> bool:
    return problem(path, data) is not None
