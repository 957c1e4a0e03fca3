"""Documents as `config.yaml` and `*.json` in one directory, the way `~/.cli-proxy-api` has them.

For copying and moving in, not for mounts: nothing here watches. Single-threaded.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storefs import paths
from storefs.backends import local_files as files
from storefs.backends.contract import (
    Batch,
    Blob,
    Delete,
    Entry,
    LeftOut,
    Outcome,
    Put,
    check_expected,
    check_place,
    entry_of,
)
from storefs.backends.local_errors import translate, translating
from storefs.errors import Invalid, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_CONFIG = "config.yaml"
_OTHERS = frozenset(
    ("config", "auths", "logs", "static", "plugins", "pgstore", "objectstore", "gitstore")
)
"""Directories beside the tokens that hold something else: the proxy's own, and its stores'."""


def path_of(name: str) -> str | None:
    """The document that the file `name`, relative to the directory, is; None: it is none."""
    if name == _CONFIG:
        return paths.CONFIG
    top, deeper, _ = name.partition("/")
    path = f"auths/{name}"
    return path if paths.is_document(path) and not (deeper and top in _OTHERS) else None


def name_of(path: str) -> str:
    """The file that holds a document. Raises Invalid where the directory has no place for it."""
    check_place(path)
    name = _CONFIG if path == paths.CONFIG else path.removeprefix("auths/")
    if path_of(name) != path:
        raise Invalid(path, "has no place in a flat directory; copy to a tree instead")
    return name


class Flat:
    """A Backend over such a directory, which must exist. Revision: SHA-256 of the content."""

    concurrency: int = 1

    def __init__(self, directory: Path) -> None:
        """Raises AccessDenied, Invalid, Unavailable."""
        with translating(""):
            self._directory = directory.resolve(strict=True)
        self.identity: str = f"local:{self._directory} (flat)"
        self._left_out = LeftOut()

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot."""
        with translating(""), files.top(self._directory) as top:
            found = list(self._walk("", top))
        return {path: blob.entry for path, blob in self.read(found) if blob}

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read."""
        with translating(""), files.top(self._directory) as top:
            for path in paths:
                try:
                    yield path, _load(path, top)
                except StoreError as error:
                    self._left_out.report(self._directory, path, error.cause)

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit. `timeout` bounds nothing: a disk cannot be called back."""
        try:
            with translating(""), files.top(self._directory) as top:
                fcntl.flock(top, fcntl.LOCK_EX)  # of this descriptor: it ends with the block
                return [_apply(batch, top) for batch in batches]
        except StoreError as failure:
            return [failure for _ in batches]

    def close(self) -> None:
        """See Backend.close."""

    def _walk(self, directory: str, top: int) -> Iterator[str]:
        deeper = []
        with files.opened(directory or ".", top) as fd, os.scandir(fd) as items:
            for item in sorted(items, key=lambda item: item.name):
                name = f"{directory}/{item.name}" if directory else item.name
                mode = item.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    if path_of(f"{name}/x.json"):
                        deeper.append(name)
                elif (path := path_of(name)) is None:
                    continue
                elif stat.S_ISREG(mode):
                    yield path
                else:
                    self._left_out.report(self._directory, path, "it is not an ordinary file")
        for name in deeper:
            yield from self._walk(name, top)


def _load(path: str, top: int) -> Blob | None:
    """Raises StoreError for what is there and cannot be read."""
    try:
        name = name_of(path)
    except Invalid:
        return None
    try:
        with _within(name, top) as (directory, last):
            data, status = files.read(last, directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise translate(path, error) from error
    return Blob(data, entry_of(data, status.st_mtime_ns))


def _apply(batch: Batch, top: int) -> Outcome:
    applied: dict[str, Entry] = {}
    try:
        check_expected(batch, {change.path: _load(change.path, top) for change in batch})
        for change in sorted(batch, key=lambda change: isinstance(change, Delete)):
            name = name_of(change.path)
            with (
                translating(change.path, applied),
                _within(name, top, make=isinstance(change, Put)) as (directory, last),
            ):
                if isinstance(change, Put):
                    status = files.replace(last, change.data, directory)
                    applied[change.path] = entry_of(change.data, status.st_mtime_ns)
                else:
                    files.remove(last, directory)
    except StoreError as failure:
        return failure
    return applied


@contextmanager
def _within(name: str, top: int, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The descriptor of the directory of the file `name`, and its last component."""
    above, _, last = name.rpartition("/")
    if not above:
        yield top, last
        return
    with files.opened(above, top, make=make) as directory:
        yield directory, last
