"""Documents in the memory of this process: the reference that says what every backend means.

Nothing outlives the process. Thread-safe: one lock guards the documents and all sessions.
"""

from __future__ import annotations

import copy
import threading
import time
from typing import TYPE_CHECKING

from storefs.backends.contract import (
    Batch,
    Blob,
    Entry,
    Outcome,
    Put,
    check_expected,
    check_place,
    entry_of,
)
from storefs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence


class Memory:
    """A Backend and Watcher over a dictionary. Revision: SHA-256 of the content, in hex."""

    concurrency: int = 8

    def __init__(self, name: str = "memory", clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` gives the modification times, in nanoseconds."""
        self.identity: str = f"memory:{name}"
        self._clock = clock
        self._changed = threading.Condition()
        self._documents: dict[str, Blob] = {}
        self._sessions: list[Memory] = []
        self._join()

    def session(self) -> Memory:
        """The same documents as another machine sees them: with its own `wait` and `close`."""
        session = copy.copy(self)  # shallow: documents, lock and the list of sessions are shared
        session._join()
        return session

    def _join(self) -> None:
        self._marks: set[str] = set()
        self._closed = False
        with self._changed:
            self._sessions.append(self)

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot. Raises nothing."""
        with self._changed:
            return {path: blob.entry for path, blob in self._documents.items()}

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read. Raises nothing."""
        for path in paths:
            with self._changed:
                blob = self._documents.get(path)
            yield path, blob

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit. All or nothing per batch; never waits, so `timeout` is unused."""
        with self._changed:
            return [self._apply(batch) for batch in batches]

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait. Commits of every session are reported, own ones included."""
        with self._changed:
            self._changed.wait_for(lambda: self._marks or self._closed, timeout)
            marks, self._marks = self._marks, set()
            return marks

    def close(self) -> None:
        """See Backend.close. Ends this session's hints; the documents stay for the others."""
        with self._changed:
            if not self._closed:
                self._sessions.remove(self)
            self._closed = True
            self._changed.notify_all()

    def _apply(self, batch: Batch) -> Outcome:
        try:
            self._compare(batch)
        except StoreError as failure:
            return failure
        entries: dict[str, Entry] = {}
        for change in batch:
            if isinstance(change, Put):
                blob = self._blob(change.data)
                self._documents[change.path] = blob
                entries[change.path] = blob.entry
            else:
                self._documents.pop(change.path, None)
        for session in self._sessions:
            session._marks.update(change.path for change in batch)
        self._changed.notify_all()
        return entries

    def _compare(self, batch: Batch) -> None:
        """Raises Invalid or Conflict unless every path can exist and is as expected."""
        for change in batch:
            check_place(change.path)
        current = {change.path: self._documents.get(change.path) for change in batch}
        check_expected(batch, current)

    def _blob(self, data: bytes) -> Blob:
        return Blob(data, entry_of(data, self._clock()))
