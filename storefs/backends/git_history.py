"""Versions of documents, and how long the history is: read from commits, never guessed.

The clone of the backend holds one commit only. Here is a second one with the rest, made when
somebody asks, in a temporary directory, and removed with the backend. It has a lock of its own:
to fetch a long history takes a while, and no writer waits for a person's question.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import pygit2
from pygit2.enums import FileMode, SortMode

from storefs.backends import git_messages, git_trees
from storefs.backends.contract import Revision, Version
from storefs.backends.git_remote import Asked
from storefs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pygit2 import Commit, Oid, Repository

    from storefs.backends.git_place import Place


class History:
    """The commits of one branch, as far back as `depth`. Thread-safe."""

    def __init__(self, place: Place, depth: int) -> None:
        self._place = place
        self._depth = depth
        self._lock = Lock()  # guards everything below
        self._closed = False
        self._directory = ""
        self._repository: Repository | None = None

    def length(self, near: Repository, tip: Oid, branch: str, end: float) -> int:
        """How many commits the branch has at `tip`, which is in `near`; at most `depth`.

        Commits of storefs say it themselves; only behind those of others the server is asked.
        Raises StoreError, pygit2.GitError, KeyError.
        """
        oid: Oid | None = tip
        for above in range(self._depth):
            commit = near.get(oid) if oid is not None else None
            if not isinstance(commit, pygit2.Commit):
                break
            if (said := git_messages.count(commit.message)) is not None:
                return said + above
            parents = _parents(commit)
            if not parents:
                return 1 + above
            oid = parents[0]
        with self._locked(time.monotonic()):  # a commit waits for this: not behind a question
            far = self._fetched(tip, branch, end)
            return sum(1 for _ in far.walk(tip))

    def versions(self, path: str, tip: Oid, branch: str, end: float) -> list[Version]:
        """Every version of a path, the newest first. Raises as `length`."""
        with self._locked(end):
            return list(_versions(self._fetched(tip, branch, end), path, tip))

    def blob(self, revision: Revision, end: float) -> bytes | None:
        """The content of a version, as far as the last `versions` reached back."""
        with self._locked(end):
            try:
                oid = pygit2.Oid(hex=revision)
                if self._repository is None or not self._repository.odb.exists(oid):
                    return None
                found = self._repository.get(oid)
            except ValueError:
                return None
            return found.data if isinstance(found, pygit2.Blob) else None

    @contextmanager
    def _locked(self, end: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Unavailable("", "the history is being fetched for somebody else; try again")
        try:
            if self._closed:
                raise Unavailable("", "the history is closed")
            yield
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._closed:
            self._drop()
        self._lock.release()

    def _fetched(self, tip: Oid, branch: str, end: float) -> Repository:
        if self._repository is not None and not os.path.isdir(f"{self._directory}/objects"):
            self._drop()  # temporary directories are swept now and then
        if self._repository is None:
            self._directory = tempfile.mkdtemp(prefix="storefs-history-")
            self._repository = pygit2.init_repository(self._directory, bare=True)
        if self._repository.get(tip) is None:
            try:
                Asked(self._place, self._repository, end).fetch(branch, self._depth)
            except BaseException:
                self._drop()  # what it left behind may have holes
                raise
        return self._repository

    def close(self) -> None:
        """Free the disk, at once or when a call under way ends. May be called twice."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            self._unlock()

    def _drop(self) -> None:
        if self._repository is not None:
            self._repository.free()
            self._repository = None
            shutil.rmtree(self._directory, ignore_errors=True)


def _versions(far: Repository, path: str, tip: Oid) -> Iterator[Version]:
    for commit in far.walk(tip, SortMode.TOPOLOGICAL | SortMode.TIME):
        now = _revision(far, commit, path)
        before = [_revision(far, parent, path) for parent in commit.parents] or [None]
        # A merge that took one side's version made none of its own.
        if now not in before:
            yield _version(commit, now)


def _parents(commit: Commit) -> list[Oid]:
    """As they were committed; `parent_ids` is empty where a shallow clone ends."""
    head = commit.read_raw().partition(b"\n\n")[0]
    lines = [line for line in head.split(b"\n") if line.startswith(b"parent ")]
    return [pygit2.Oid(hex=line.removeprefix(b"parent ").decode()) for line in lines]


def _revision(repository: Repository, commit: Commit, path: str) -> Revision | None:
    entry = git_trees.find(repository, commit.tree, path)
    if entry is None or entry.filemode not in (FileMode.BLOB, FileMode.BLOB_EXECUTABLE):
        return None
    return Revision(str(entry.id))


def _version(commit: Commit, revision: Revision | None) -> Version:
    return Version(
        time=float(commit.commit_time),
        author=commit.author.name,
        machine=git_messages.machine(commit.message),
        revision=revision,
    )
