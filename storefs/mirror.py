"""The local truth: stored bytes as plain files, the index beside them, an LRU in memory.

Memory changes first, in the trio thread; `mirrorwriter` brings the disk after it, in
order. A mirror file is a copy of what the backend has, so it is never fsynced: the digest in
the index exposes a torn one, and it is fetched again.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from cachetools import LRUCache

from storefs import disk
from storefs.backends.contract import Revision
from storefs.index import Index, Row
from storefs.mirrorwriter import Group, MirrorWriter, Save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from storefs.backends.contract import Blob, Entry

T = TypeVar("T")

log = logging.getLogger(__name__)

VANISHED = Revision("")
"""The revision of a document that vanished from the backend but stays here (config.yaml)."""

_ENTRY = 300
"""Bytes that the LRU's tables take for an entry, beside its content (measured)."""


class Record:
    """A document as the mirror holds it; `size` and `digest` are of the stored bytes.

    Kept small, there may be 100,000: a revision that is the digest is not kept twice.
    """

    __slots__ = ("_revision", "digest", "mtime_ns", "size")

    def __init__(self, revision: Revision, size: int, mtime_ns: int, digest: bytes) -> None:
        self.size, self.mtime_ns, self.digest = size, mtime_ns, digest
        self.revision = revision

    @property
    def revision(self) -> Revision:
        """The backend's, see VANISHED."""
        return Revision(self.digest.hex()) if self._revision is None else self._revision

    @revision.setter
    def revision(self, revision: Revision) -> None:
        self._revision = None if revision == self.digest.hex() else revision


class Torn(Exception):
    """The mirror file is not what the index says; it must be fetched again."""


def digest_of(data: bytes) -> bytes:
    """The digest by which the mirror knows bytes: SHA-256."""
    return hashlib.sha256(data).digest()


class Mirror:
    """Documents by path. All methods but the writer's own are called from the trio thread."""

    def __init__(self, dir_fd: int, index: Index, cache_size: int) -> None:
        self.records: dict[str, Record] = {}
        self.torn: set[str] = set()
        self.hits = 0
        self.misses = 0
        self.error = ""
        """What the disk refused last; empty while it takes everything."""
        self._dir_fd = dir_fd
        self._index = index
        self._memory: LRUCache[str, bytes] = LRUCache(cache_size, getsizeof=_cost)
        self._unsaved: dict[str, bytes] = {}
        self._leaving: Counter[str] = Counter()
        self._unsaved_lock = threading.Lock()  # guards these two, which both threads change
        self._writer = MirrorWriter(self._save)

    def adopt(self, row: Row) -> None:
        """Take a row of the index over at start, when the file on disk agrees with it."""
        self.records[row.path] = Record(Revision(row.revision), row.size, row.mtime_ns, row.digest)

    def content(self, path: str) -> bytes:
        """The stored bytes. Raises KeyError for an unknown path, Torn, OSError."""
        record = self.records[path]
        data = self._memory.get(path)
        if data is None:
            data = self._unsaved.get(path)
        if data is not None:
            self.hits += 1
            return data
        self.misses += 1
        try:
            data = disk.read(self._dir_fd, path)
        except FileNotFoundError:
            data = None
        if data is None or digest_of(data) != record.digest:
            self.torn.add(path)
            raise Torn(path)
        self._remember(path, data)
        return data

    def _remember(self, path: str, data: bytes) -> None:
        try:
            self._memory[path] = data
        except ValueError:  # larger than the whole cache
            self._memory.pop(path, None)

    def install(self, path: str, data: bytes, entry: Entry, mtime_ns: int) -> None:
        """Make `data` the stored bytes of `path`, at the revision of `entry`."""
        save = self._record(path, data, entry, mtime_ns)
        self._remember(path, data)
        self._writer.put(path, save)

    def fill(self, blobs: Sequence[tuple[str, Blob]]) -> Future[object]:
        """`install` many, each path once, in the writer thread: the caller reads on meanwhile.

        Only while nobody else uses the mirror. Done when the disk has taken them, or refused.
        """
        return self.submit(lambda: self._fill(blobs))

    def _fill(self, blobs: Sequence[tuple[str, Blob]]) -> None:
        now = time.time_ns()
        group = Group()
        for path, blob in blobs:
            mtime_ns = blob.entry.mtime_ns or now
            save = self._record(path, blob.data, blob.entry, mtime_ns, blob.digest)
            group.documents[path] = save
            # What pushes others out would be pushed out itself before anybody reads it.
            if self._memory.currsize + _cost(blob.data) <= self._memory.maxsize:
                self._remember(path, blob.data)
        self._save(group)

    def _record(
        self, path: str, data: bytes, entry: Entry, mtime_ns: int, digest: bytes = b""
    ) -> Save:
        old = self.records.get(path)
        digest = digest or digest_of(data)
        self.records[path] = Record(entry.revision, len(data), mtime_ns, digest)
        self.torn.discard(path)
        with self._unsaved_lock:
            self._unsaved[path] = data
        previous = old.digest if old else b""
        return Save(data, Row(path, entry.revision, len(data), mtime_ns, digest, previous))

    def touch(self, path: str, mtime_ns: int, revision: Revision | None = None) -> None:
        """Change the shown mtime, and the revision if given, of bytes that stay as they are."""
        record = self.records[path]
        record.mtime_ns = mtime_ns
        if revision is not None:
            record.revision = revision
        row = Row(path, record.revision, record.size, mtime_ns, record.digest, record.digest)
        self._writer.put(path, Save(None, row))

    def drop(self, path: str) -> None:
        """Forget a document, its file included."""
        del self.records[path]
        self.torn.discard(path)
        self._memory.pop(path, None)
        with self._unsaved_lock:
            self._unsaved.pop(path, None)
            self._leaving[path] += 1
        self._writer.put(path, None)

    def supersede(self, path: str, groups: bytes) -> None:
        """Keep the digests of a document's superseded token groups beside it."""
        self._writer.supersede(path, groups)

    def vacate(self, path: str) -> None:
        """Wait for the disk until nothing of a document dropped a moment ago is left there.

        A local file takes its name: the writer would still remove that one instead.
        """
        if self._leaving[path]:
            self.written().result()

    def written(self) -> Future[None]:
        """Done when the disk has everything that was asked for, or refused it."""
        return self.submit(lambda: None)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run `job` in the writer thread, after everything that was asked before it."""
        return self._writer.submit(job)

    def later(self, job: Callable[[], object], what: str, *, hurry: bool = False) -> None:
        """The same for what nobody waits for, see MirrorWriter.later."""
        self._writer.later(job, what, hurry=hurry)

    def close(self) -> None:
        """Bring everything to disk and end the writer."""
        self._writer.close()
        self._index.close()

    def _save(self, group: Group) -> None:
        documents = group.documents
        saves = {path: save for path, save in documents.items() if save is not None}
        dropped = documents.keys() - saves.keys()
        try:
            # Whatever a crash leaves must be explained by a row: a file goes before its row, and
            # comes after it, when the row still explains the previous bytes.
            for path in dropped:
                disk.remove(self._dir_fd, path)
            rows = [save.row for save in saves.values()]
            self._index.write(rows, dropped, group.superseded)
            for path, save in saves.items():
                if save.data is not None:
                    self._put(path, save.data, save.row)
        except (OSError, sqlite3.Error) as error:
            if str(error) != self.error:
                log.error("mirror: %s; documents stay in the backend, free some space", error)
            self.error = str(error)
            return  # what no disk took stays in memory, and is read from there
        finally:
            with self._unsaved_lock:
                self._leaving -= Counter(dropped)
        self.error = ""
        with self._unsaved_lock:
            for path, save in saves.items():
                if save.data is not None and self._unsaved.get(path) is save.data:
                    del self._unsaved[path]

    def _put(self, path: str, data: bytes, row: Row) -> None:
        # An empty file at a row is a torn one, so where none was before there is no need to
        # write beside it and rename, which takes several times as long.
        new = not row.previous and len(data) <= disk.PAGE
        if not (new and disk.create(self._dir_fd, path, data, mtime_ns=row.mtime_ns)):
            disk.replace(self._dir_fd, path, data, mtime_ns=row.mtime_ns)


def _cost(data: bytes) -> int:
    """Bytes of memory that one entry of the cache takes."""
    return len(data) + _ENTRY
