"""What every backend promises: blocking calls, opaque revisions, compare-and-swap commits.

A backend knows no trio, no FUSE and no other backend. Its methods are called from worker
threads, at most `concurrency` at a time, and every driver call inside has its own time-out.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType, Protocol, runtime_checkable

from storefs import paths
from storefs.errors import Conflict, Invalid, StoreError

log = logging.getLogger(__name__)

Revision = NewType("Revision", str)
"""Opaque; two equal revisions of one path mean equal content."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Listed metadata of a document. `size` in bytes; `mtime_ns` 0 means unknown."""

    revision: Revision
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Blob:
    """The whole content of a document, with the entry it belongs to."""

    data: bytes
    entry: Entry
    digest: bytes = field(default=b"", compare=False)
    """SHA-256 of `data`, where the backend has made it anyway; empty: it has not."""


@dataclass(frozen=True, slots=True)
class Put:
    """Make `path` hold `data`. `expect` None: the path must not exist."""

    path: str
    data: bytes
    expect: Revision | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Make `path` absent."""

    path: str
    expect: Revision


Change = Put | Delete
Batch = Sequence[Change]
Outcome = Mapping[str, Entry] | StoreError
"""The new entries of a batch's puts, or why the batch was not applied."""


class Backend(Protocol):
    """One store of documents."""

    @property
    def identity(self) -> str:
        """What store this is, in words a person recognises, without secrets."""

    @property
    def concurrency(self) -> int:
        """How many calls may run at once."""

    def snapshot(self) -> Mapping[str, Entry]:
        """The complete listing. Paths that a file system cannot show are left out, logged once.

        Raises Unavailable, AccessDenied, Corrupt.
        """

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """The present content of each path, None where it is absent, in any order.

        A path that is there and cannot be read is left out, logged once: nothing is known of it.
        Raises Unavailable, AccessDenied, Corrupt.
        """

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """Apply each batch whose paths are all as expected; durable when it returns.

        A batch is one file system call: all or nothing where the store can, elsewhere puts
        before deletes. Batches stand or fall alone; outcomes come in their order. A failed
        batch is a returned StoreError, never a raised one. A delete of an absent path is done.
        No path occurs twice in one call. `timeout` is in seconds.
        """

    def close(self) -> None:
        """Free everything, and wake `wait`. May be called twice."""


@runtime_checkable
class Watcher(Protocol):
    """The ability, beside Backend, to say that something may have changed."""

    def wait(self, timeout: float) -> Collection[str] | None:
        """Block until a hint comes or `timeout` seconds pass.

        Returns the paths that may have changed (empty: none did), or None: look at everything.
        A hint is a mark, never data; own commits may be among them. Called from one thread.
        """


@runtime_checkable
class Described(Protocol):
    """The ability, beside Backend, to say in what it differs from the best of its kind."""

    @property
    def read_only(self) -> bool:
        """Whether the account may only read: the mount then refuses every change."""

    def traits(self) -> Mapping[str, str]:
        """A few words each on what a person should know, for status and doctor; no secrets.

        Such as `changes: pushed` or `polled`, `bytes: exact` or `canonical`, `writes:
        compare-and-swap` or `last-writer-wins`. Asks nobody, so it may be called at any time.
        """


@runtime_checkable
class Bulk(Protocol):
    """The ability, beside Backend, to hand over all documents for less than listing and reading
    them costs. For a mirror that is empty."""

    def count(self) -> int:
        """How many documents there are, about: for a person. Raises as `everything`."""

    def everything(self, most: int) -> Iterator[Sequence[tuple[str, Blob | int]]]:
        """What `snapshot` would list, each document once, as of one moment, in portions.

        A document longer than `most` bytes comes as its length alone. What changes after that
        moment is hinted at, as after a snapshot. Steps may come from different threads, one at
        a time; each has its own time-out. Raises Unavailable, AccessDenied, Corrupt.
        """


@runtime_checkable
class Fingerprinted(Protocol):
    """The ability, beside Backend, to tell for less than a listing costs that nothing changed."""

    def fingerprint(self) -> str:
        """Equal to an earlier one only if `snapshot` lists what it listed then; empty: not known.

        Raises Unavailable, AccessDenied, Corrupt.
        """


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document in a history. `revision` None: it was deleted."""

    time: float
    """Seconds since 1970."""
    author: str
    machine: str
    """Host name, empty where the history does not say."""
    revision: Revision | None


@runtime_checkable
class Historic(Protocol):
    """The ability, beside Backend, to show what documents were before.

    Called beside the calls that `concurrency` counts, one at a time, and holds none of them up.
    """

    def history(self, path: str) -> Sequence[Version] | None:
        """Every version that is kept, the newest first; none for a path that never was.

        None: this store keeps no versions, after all.

        Raises Unavailable, AccessDenied, Corrupt.
        """

    def blob(self, revision: Revision) -> bytes:
        """The content of a version that `history` named. Raises NotFound, and as `history`."""


@runtime_checkable
class Inspected(Protocol):
    """The ability, beside Backend, to say what a person would query by hand."""

    def inspect(self) -> Mapping[str, object] | None:
        """Title -> text, number or, as `latest`, a list of mappings: path, time (unix seconds),
        size (bytes). JSON values; no secret and no content. None: nothing to say.

        Raises Unavailable, AccessDenied, Corrupt.
        """


@runtime_checkable
class Copied(Protocol):
    """The ability, beside Backend, to keep a second copy of each document."""

    def only_in_backup(self) -> Sequence[str] | None:
        """The documents of which only the copy is left, as far as is known; asks nobody.

        None: this store keeps no copies, after all.
        """

    def find_only_in_backup(self) -> Sequence[str] | None:
        """The same, looked up now. Raises Unavailable, AccessDenied, Corrupt."""

    def copy(self, path: str) -> bytes | None:
        """The bytes of a copy; None: there is none. Raises as `find_only_in_backup`."""


def entry_of(data: bytes, mtime_ns: int) -> Entry:
    """Of a store whose revision is the SHA-256 of the content, in hex.

    Both from the bytes: the entry belongs to what was read, whatever is stored by now.
    """
    return Entry(Revision(hashlib.sha256(data).hexdigest()), len(data), mtime_ns)


class LeftOut:
    """What a store holds and a file system cannot show: each path is logged once."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def report(self, store: object, path: str, reason: str) -> None:
        """`store`: how a person knows it."""
        if path not in self._reported:
            self._reported.add(path)
            log.warning("%r in %s is left out: %s", path, store, reason)


def check_place(path: str) -> None:
    """Raises Invalid unless a document can live under `path`."""
    try:
        paths.check_path(path)
    except paths.InvalidPath as error:
        raise Invalid(path, str(error)) from error
    if not paths.may_be_shared(path):
        raise Invalid(path, "is not a place for documents; use config/ or auths/")


def check_expected(batch: Batch, current: Mapping[str, Blob | None]) -> None:
    """Raises Conflict unless every path of the batch is as its change expects it."""
    for change in batch:
        blob = current[change.path]
        if blob is None and isinstance(change, Delete):
            continue
        if change.expect != (blob.entry.revision if blob else None):
            raise Conflict(change.path, "is not at the expected revision", current=current)
