"""The words in which the contract tests are written."""

from __future__ import annotations

import ctypes
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from storefs.backends.contract import Backend, Delete, Entry, Put, Revision, Watcher
from storefs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.backends.contract import Blob, Outcome

Failure = TypeVar("Failure", bound=StoreError)

PATIENCE = 20.0
"""Seconds after which something that should have happened is missing."""


def commit(backend: Backend, *changes: Put | Delete) -> Outcome:
    """Commit one batch and return its outcome."""
    (outcome,) = backend.commit([list(changes)], PATIENCE)
    return outcome


def put(backend: Backend, path: str, data: bytes, expect: Revision | None = None) -> Revision:
    """Put one document and return its revision; its entry must be right."""
    entry = done(commit(backend, Put(path, data, expect)))[path]
    assert entry.size == len(data)
    return entry.revision


def read(backend: Backend, path: str) -> Blob | None:
    """Read one document; the answer must name exactly it."""
    ((answered, blob),) = backend.read([path])
    assert answered == path
    return blob


def content(backend: Backend, path: str) -> bytes | None:
    """The bytes of one document, None where it is absent."""
    blob = read(backend, path)
    return None if blob is None else blob.data


def done(outcome: Outcome) -> dict[str, Entry]:
    """The entries of a batch that must have been applied."""
    assert not isinstance(outcome, StoreError), outcome
    return dict(outcome)


def failed(outcome: Outcome, kind: type[Failure]) -> Failure:
    """The failure of a batch that must have been refused."""
    assert isinstance(outcome, kind), outcome
    return outcome


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Refuse to root, too, what the modes of files forbid, in this thread: capset(2)."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, the calling thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0


def hinted(watcher: Watcher, path: str) -> bool:
    """Whether a hint that covers `path` comes in time."""
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        hint = watcher.wait(left)
        if hint is None or path in hint:
            return True
    return False
