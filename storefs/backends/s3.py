"""Documents as the objects of an S3 bucket, under the keys of the proxy's own object store.

Compare-and-swap by conditional writes where the server honours them, which is tried at start;
elsewhere by read, compare, write and read again, with a window in which the last writer wins
unseen. There are no hints: somebody must ask for snapshots. Thread-safe.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from storefs import paths
from storefs.backends import s3_probe
from storefs.backends.contract import Batch, Blob, Entry, LeftOut, Outcome, Put, Revision
from storefs.backends.s3_backup import Backup
from storefs.backends.s3_client import Caller
from storefs.backends.s3_errors import TooLarge
from storefs.backends.s3_inspect import inspect
from storefs.backends.s3_objects import Objects
from storefs.backends.s3_place import Place, check_key, place_of
from storefs.backends.s3_writes import Writes
from storefs.errors import AccessDenied, Invalid, StoreError, Unavailable
from storefs.paths import InvalidPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from storefs.backends.s3_objects import Found
    from storefs.settings import Settings

log = logging.getLogger(__name__)

_PARALLEL = 16
"""Requests of one call under way at once."""

_DAY = 86_400


def _entry_of(found: Found) -> Entry:
    return Entry(Revision(found.etag), found.size, found.modified_ns)


def connect(settings: Settings) -> S3:
    """Reach the bucket, make it where it is missing, and try what the server honours.

    A read-only mount makes and tries nothing. Raises StoreError, Quit for a wrong setting.
    """
    place = place_of(settings.env)
    caller = Caller(place, settings.deadline)
    objects = Objects(caller)
    try:
        enter(objects, place, make=not settings.read_only)
        conditions = None
        if not settings.read_only:
            with suppress(s3_probe.ReadOnly):
                conditions = s3_probe.probe(objects, place.key_of("auths/"))
        backend = S3(caller, objects, conditions, settings.max_file_size, settings.poll_interval)
        backend.open_backup()
    except BaseException:
        caller.close()
        raise
    return backend


def enter(objects: Objects, place: Place, *, make: bool) -> None:
    """See that the bucket answers; `make` it if there is none. Raises StoreError."""
    if objects.has_bucket(place.key_of("auths/")):
        return
    missing = f"the bucket {place.bucket} does not exist at {place.endpoint}"
    if not make:
        raise Unavailable("", f"{missing}; a mount that may write makes it")
    try:
        objects.create_bucket()
    except AccessDenied as error:
        raise AccessDenied(
            "", f"{missing}, and this key may not make it: make it, or correct OBJECTSTORE_BUCKET"
        ) from error
    log.info("made the bucket %s at %s", place.bucket, place.endpoint)


class S3:
    """A Backend over one bucket; Described, Inspected, Copied.

    Revision: the ETag, without quotes.
    """

    concurrency: int = 8

    def __init__(
        self,
        caller: Caller,
        objects: Objects,
        conditions: s3_probe.Conditions | None,
        max_size: int,
        interval: float,
    ) -> None:
        """`conditions` None: nothing may be written. No object above `max_size` bytes is ever
        downloaded. `interval`: seconds between the snapshots that somebody will ask for."""
        self._caller, self._objects, self._place = caller, objects, caller.place
        self._conditions = conditions or s3_probe.Conditions()
        self._writes = Writes(objects, caller.place, self._conditions, max_size)
        self._max_size, self._interval = max_size, interval
        self._may_write = conditions is not None
        self._pool = ThreadPoolExecutor(_PARALLEL, "s3")
        self._left_out = LeftOut()
        self._written: dict[str, Entry] = {}
        """Own puts: their answers tell no time, so the listing must repeat the one assumed."""
        self._pages = len(paths.SHARED)
        self.backup: Backup | None = None
        if self._place.backup and self._may_write:
            self.backup = Backup(objects, self._place, max_size)

    @property
    def identity(self) -> str:
        """See Backend.identity."""
        return self._place.identity

    @property
    def read_only(self) -> bool:
        """See Described.read_only. A mount that was told to be read-only knows by itself."""
        return not self._may_write

    def traits(self) -> Mapping[str, str]:
        """See Described.traits."""
        a_day = self._pages * _DAY / self._interval
        said = {
            "writes": "compare-and-swap" if self._conditions.all else "last-writer-wins",
            "changes": f"polled every {self._interval:g} s",
            "requests": f"about {a_day:,.0f} listings a day; one for each change",
        }
        if not self._may_write:
            said["writes"] = "none"
        elif missing := self._conditions.missing():
            said["not conditional"] = missing
        if self.backup is not None:
            said["backup"] = self.backup.summary()
        return said

    def open_backup(self) -> None:
        """Bring back what is empty, broken or all gone, and go on with the copies."""
        if self.backup is not None:
            self.backup.open(self.snapshot(), self.read, self._restore)

    def _restore(self, put: Put) -> bool:
        (outcome,) = self._commit([[put]], time.monotonic() + self._caller.deadline)
        if isinstance(outcome, StoreError):
            log.warning("%s: not restored: %s", put.path, outcome.cause)
        return not isinstance(outcome, StoreError)

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot."""
        tops = [self._place.key_of(f"{top}/") for top in paths.SHARED]
        entries: dict[str, Entry] = {}
        pages = 0
        for listed, count in self._pool.map(self._listed, tops):
            entries.update(listed)
            pages += count
        self._pages = pages
        if self.backup is not None:
            self.backup.seen(entries)
        return entries

    def _listed(self, prefix: str) -> tuple[dict[str, Entry], int]:
        entries, count = {}, 0
        for count, (key, found) in enumerate(self._objects.listing(prefix), 1):  # noqa: B007
            path = self._place.path_of(key)
            if not paths.may_be_shared(path):
                continue
            try:
                paths.check_path(path)
            except InvalidPath as error:
                self._report(path, str(error))
            else:
                entries[path] = self._entry(path, found)
        return entries, max(1, -(-count // 1000))

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read. What is too large is there, but left out."""
        ahead: deque[tuple[str, Future[Blob | None]]] = deque()
        try:
            for path in paths:
                ahead.append((path, self._pool.submit(self._get, path)))
                if len(ahead) > 2 * _PARALLEL:
                    yield from self._next(ahead)
            while ahead:
                yield from self._next(ahead)
        finally:
            for _, future in ahead:
                future.cancel()

    def _next(
        self, ahead: deque[tuple[str, Future[Blob | None]]]
    ) -> Iterator[tuple[str, Blob | None]]:
        path, future = ahead.popleft()
        try:
            yield path, future.result()
        except TooLarge as large:
            self._report(path, f"{large.size} bytes are never downloaded; see --max-file-size")
        except Invalid as error:
            self._report(path, error.cause)

    def _get(self, path: str) -> Blob | None:
        try:
            check_key(path, self._place)
        except Invalid:
            return None
        answer = self._objects.get(self._place.key_of(path), self._max_size)
        if answer is None:
            return None
        data, found = answer
        return Blob(data, self._entry(path, found))

    def inspect(self) -> Mapping[str, object]:
        """See Inspected.inspect."""
        return inspect(self._objects, self._place)

    def only_in_backup(self) -> Sequence[str] | None:
        """See Copied.only_in_backup."""
        return None if self.backup is None else self.backup.only

    def find_only_in_backup(self) -> Sequence[str] | None:
        """See Copied.find_only_in_backup."""
        return None if self.backup is None else self.backup.find_only(self.snapshot())

    def copy(self, path: str) -> bytes | None:
        """See Copied.copy."""
        return None if self.backup is None else self.backup.copy(path)

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit. Puts before deletes; a batch may stop after some of its puts."""
        outcomes = self._commit(batches, time.monotonic() + timeout)
        if self.backup is not None:
            for batch, outcome in zip(batches, outcomes, strict=True):
                applied = outcome.applied if isinstance(outcome, StoreError) else outcome
                self.backup.follow(batch, applied, whole=not isinstance(outcome, StoreError))
        return outcomes

    def _commit(self, batches: Sequence[Batch], until: float) -> list[Outcome]:
        if len(batches) == 1:
            return [self._apply(batches[0], until)]
        return list(self._pool.map(lambda batch: self._apply(batch, until), batches))

    def _apply(self, batch: Batch, until: float) -> Outcome:
        applied: dict[str, Entry] = {}
        try:
            for path, found in self._writes.apply(batch, until):
                applied[path] = self._note(path, found)
        except StoreError as failure:
            failure.applied = applied
            return failure
        return applied

    def _note(self, path: str, found: Found) -> Entry:
        self._written[path] = _entry_of(found)
        return self._written[path]

    def _entry(self, path: str, found: Found) -> Entry:
        own = self._written.get(path)
        if own is not None and own.revision == found.etag:
            return own
        return _entry_of(found)

    def _report(self, path: str, reason: str) -> None:
        self._left_out.report(self.identity, path, reason)

    def close(self) -> None:
        """See Backend.close. What waits for its backup copy gets a few seconds."""
        if self.backup is not None:
            self.backup.close()
        self._caller.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
