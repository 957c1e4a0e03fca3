"""A store that could not be reached when the mount started, and is asked for until it can.

So a mount can start from its mirror. Thread-safe: one caller tries to connect, the others are
told that nobody answers.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from storefs.backends.contract import Copied, Described, Historic, Inspected, Watcher
from storefs.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from storefs.backends.contract import (
        Backend,
        Batch,
        Blob,
        Entry,
        Outcome,
        Revision,
        Version,
    )

log = logging.getLogger(__name__)

_PAUSE = 1.0
"""Seconds between two attempts, whoever asks."""


class Absent:
    """A Backend and Watcher that becomes another one."""

    concurrency: int = 8

    def __init__(
        self, identity: str, connect: Callable[[], Backend], cause: StoreError, interval: float
    ) -> None:
        """`identity` as it was when the store answered last; `interval`: seconds between polls."""
        self.identity: str = identity
        self._connect = connect
        self._cause = cause
        self._interval = interval
        self._store: Backend | None = None
        self._trying = threading.Lock()
        self._tried = time.monotonic()
        self._closed = threading.Event()
        self._told = False
        """`wait` has said that everything must be looked at."""

    @property
    def read_only(self) -> bool:
        """See Described.read_only."""
        return isinstance(self._store, Described) and self._store.read_only

    def traits(self) -> Mapping[str, str]:
        """See Described.traits."""
        if self._store is None:
            return {"changes": "unknown, for nobody answered since the start"}
        return self._store.traits() if isinstance(self._store, Described) else {}

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot."""
        return self._reached().snapshot()

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read."""
        yield from self._reached().read(paths)

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit."""
        try:
            return self._reached().commit(batches, timeout)
        except StoreError as error:
            return [Unavailable(batch[0].path, error.cause) for batch in batches]

    def history(self, path: str) -> Sequence[Version] | None:
        """See Historic.history."""
        store = self._reached()
        return store.history(path) if isinstance(store, Historic) else None

    def blob(self, revision: Revision) -> bytes:
        """See Historic.blob."""
        store = self._reached()
        assert isinstance(store, Historic)
        return store.blob(revision)

    def inspect(self) -> Mapping[str, object] | None:
        """See Inspected.inspect."""
        store = self._reached()
        return store.inspect() if isinstance(store, Inspected) else None

    def only_in_backup(self) -> Sequence[str] | None:
        """See Copied.only_in_backup."""
        store = self._store
        return store.only_in_backup() if isinstance(store, Copied) else None

    def find_only_in_backup(self) -> Sequence[str] | None:
        """See Copied.find_only_in_backup."""
        store = self._reached()
        return store.find_only_in_backup() if isinstance(store, Copied) else None

    def copy(self, path: str) -> bytes | None:
        """See Copied.copy."""
        store = self._reached()
        return store.copy(path) if isinstance(store, Copied) else None

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait."""
        store = self._store
        if store is None:
            self._closed.wait(min(timeout, _PAUSE))
            return ()
        if not self._told:
            self._told = True
            return None
        if isinstance(store, Watcher):
            return store.wait(timeout)
        self._closed.wait(min(timeout, self._interval))
        return None

    def close(self) -> None:
        """See Backend.close."""
        self._closed.set()
        with self._trying:
            if self._store is not None:
                self._store.close()

    def _reached(self) -> Backend:
        """The store. Raises Unavailable."""
        if self._store is not None:
            return self._store
        if self._trying.acquire(blocking=False):
            try:
                if not self._closed.is_set() and time.monotonic() - self._tried >= _PAUSE:
                    self._try()
            finally:
                self._trying.release()
        if self._store is None:
            raise Unavailable("", self._cause.cause)
        return self._store

    def _try(self) -> None:
        try:
            store = self._connect()
        except StoreError as error:
            self._cause = error
            return
        finally:
            self._tried = time.monotonic()
        if store.identity != self.identity:
            store.close()
            self._cause = Unavailable(
                "", f"there is another store now, {store.identity}; end this mount to use it"
            )
            return
        log.info("%s is reached", self.identity)
        self._store = store
