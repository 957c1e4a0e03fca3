"""Documents in a branch of a Git remote: a push that is accepted is a commit that is durable.

The remote is the truth; the clone (git_clone) is a cache that may be lost at any time. Natives
rewrite the history, so trees are compared, never ancestry. A clone bears one thread at a time: one
lock guards everything but the history, and every call has an end.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import pygit2

from storefs import root
from storefs.backends import git_place, git_remote, git_trees
from storefs.backends.contract import Entry, LeftOut, Revision
from storefs.backends.git_branch import Branch
from storefs.backends.git_clone import Clone
from storefs.backends.git_errors import LostRace, Rejected, refusal_of, translate
from storefs.backends.git_inspect import inspect
from storefs.backends.git_plan import Plan, plan
from storefs.backends.git_remote import Asked
from storefs.errors import NotFound, StoreError, Unavailable
from storefs.paths import InvalidPath, check_path, may_be_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pygit2 import Oid, Repository, Tree

    from storefs.backends.contract import Batch, Blob, Outcome, Version
    from storefs.backends.git_place import Place
    from storefs.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

_LISTING = 55.0
"""Seconds for a listing, which can be the first fetch; the layer above waits a little longer."""

_PAUSE = 0.02
"""Seconds before trying again what failed though nobody else seems to have been first."""


def connect(settings: Settings) -> Git:
    """A backend for the GITSTORE_* variables; asks nobody yet. Raises Quit."""
    place = git_place.place(settings)
    above = root.place_of(settings, place.identity) / ".storefs"
    return Git(place, above, settings.deadline)


class Git:
    """A Backend over a branch. Revision: blob id."""

    concurrency: int = 1
    read_only: bool = False

    def __init__(self, place: Place, above: Path, deadline: float) -> None:
        """`above`: the directory for the clone. `deadline` in seconds."""
        git_remote.set_time_outs(deadline)
        self.identity: str = place.identity
        self._place = place
        self._above = above
        self._deadline = deadline
        self._lock = Lock()  # guards everything below
        self._clone: Clone | None = None
        self._branch = Branch(place)
        self._tip: Oid | None = None
        """The commit the branch had when the server was asked last; None: no commit."""
        self._asked = False
        """Whether it was asked at all."""
        self._sizes = git_trees.Sizes()
        self._listed: tuple[Oid | None, dict[str, Entry]] = (None, {})
        self._left_out = LeftOut()
        self._closed = False

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot. Fetches only when the branch has moved."""
        end = time.monotonic() + _LISTING
        with self._locked(end):
            return self._repaired(partial(self._snapshot, end))

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read."""
        end = time.monotonic() + self._deadline
        if paths:
            with self._locked(end):
                self._repaired(partial(self._refresh, end))
        for path in paths:
            with self._locked(end):
                found = self._repaired(partial(self._blob, path, end))
            if not isinstance(found, str):
                yield path, found
            else:
                self._report(path, found)

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit. One push for all of them, as long as the server takes it."""
        end = time.monotonic() + timeout
        try:
            with self._locked(end):
                return self._repaired(partial(self._commit, batches, end)) if batches else []
        except StoreError as error:
            return [type(error)(batch[0].path, error.cause) for batch in batches]

    def history(self, path: str) -> Sequence[Version]:
        """See Historic.history."""
        end = time.monotonic() + _LISTING
        with self._locked(end):
            self._repaired(partial(self._refresh, end))
            tip, branch = self._tip, self._branch.name
        if tip is None:
            return []
        try:
            return self._branch.history.versions(path, tip, branch, end)
        except (pygit2.GitError, KeyError, OSError) as error:
            raise translate(self._place, error) from None

    def blob(self, revision: Revision) -> bytes:
        """See Historic.blob."""
        found = self._branch.history.blob(revision, time.monotonic() + self._deadline)
        if found is None:
            raise NotFound("", f"no version {revision} is known: ask for the history first")
        return found

    def inspect(self) -> Mapping[str, object]:
        """See Inspected.inspect."""
        end = time.monotonic() + _LISTING
        with self._locked(end):
            return self._repaired(partial(self._inspect, end))

    def _inspect(self, end: float) -> Mapping[str, object]:
        self._refresh(end)
        # Writers wait while the history is counted, so not for long.
        until = min(end, time.monotonic() + self._deadline)
        return inspect(self._repository, self._branch, self._tip, until)

    def traits(self) -> Mapping[str, str]:
        """See Described.traits."""
        return {"writes": "compare-and-swap", "changes": "polled", **self._branch.traits()}

    def close(self) -> None:
        """See Backend.close. A call under way goes on to its own end, and frees everything."""
        self._closed = True
        self._branch.history.close()
        if self._lock.acquire(blocking=False):
            self._unlock()

    @contextmanager
    def _locked(self, end: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Unavailable("", f"{self._place.url}: an earlier call has had no answer yet")
        try:
            if self._closed:
                raise Unavailable("", f"{self.identity} is closed")
            yield
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._closed and self._clone is not None:
            self._clone.close()
            self._clone = None
        self._lock.release()

    def _repaired(self, call: Callable[[], T]) -> T:
        """The answer of `call`; once again with a new clone if the old one cannot be read."""
        try:
            try:
                return call()
            except (pygit2.GitError, KeyError, ValueError, OSError) as error:
                # libgit2 tells a full disk and a directory that is gone by the same error.
                if self._clone is None or (isinstance(error, OSError) and self._clone.is_there()):
                    raise
                self._clone.renew(error)
                self._tip, self._asked = None, False
                self._listed = (None, {})
                return call()
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise translate(self._place, error) from None

    @property
    def _repository(self) -> Repository:
        if self._clone is None:
            self._clone = Clone(self._above)
        return self._clone.repository

    def _refresh(self, end: float) -> None:
        """Ask where the branch is, and fetch it if that is news."""
        asked = Asked(self._place, self._repository, end)
        oid = self._branch.choose(asked.heads())
        assert self._clone is not None
        tip = pygit2.Oid(hex=oid) if oid else None
        if tip is not None and (tip != self._tip or not self._asked):
            if not self._clone.holds(tip):
                asked.fetch(self._branch.name, depth=1)
                # The server may have moved on since it was asked; what came is the truth.
                tip = self._clone.tip
            else:
                self._clone.set_tip(tip)
        self._tip, self._asked = tip, True

    def _snapshot(self, end: float) -> Mapping[str, Entry]:
        self._refresh(end)
        assert self._clone is not None
        if self._tip is not None:
            self._clone.tidy(self._tip)
        if self._listed[0] != self._tip:
            found = git_trees.listing(self._repository, self._tree(), self._sizes, self._report)
            entries = {path: Entry(Revision(oid), size, 0) for path, (oid, size) in found.items()}
            self._listed = (self._tip, entries)
        return self._listed[1] if self._tip is not None else {}

    def _tree(self) -> Tree | None:
        return None if self._tip is None else self._repository[self._tip].peel(pygit2.Tree)

    def _blob(self, path: str, end: float) -> Blob | str | None:
        """The content, None where absent, or why it is left out."""
        try:
            check_path(path)
        except InvalidPath:
            return None
        if not may_be_shared(path):
            return None
        if not self._asked:
            self._refresh(end)
        return git_trees.document(self._repository, self._tree(), path, self._sizes)

    def _report(self, path: str, reason: str) -> None:
        self._left_out.report(self.identity, path, reason)

    def _commit(self, batches: Sequence[Batch], end: float) -> Sequence[Outcome]:
        fresh = not self._asked
        if fresh:
            self._refresh(end)
        while True:
            made = plan(self._repository, self._tree(), batches, self._sizes)
            if not fresh and (made.failed or not made.changes):
                # By what was known before; only what the server has now can refuse a change.
                self._refresh(end)
                fresh = True
                continue
            if not made.changes:
                return made.outcomes
            try:
                self._push(made, end)
            except LostRace as lost:
                if time.monotonic() + _PAUSE > end:
                    raise Unavailable("", f"others were always first ({lost})") from None
                self._refresh(end)
                fresh = True
            except Rejected as refusal:
                return self._alone(batches, refusal, end)
            else:
                return made.outcomes

    def _alone(self, batches: Sequence[Batch], refusal: Rejected, end: float) -> Sequence[Outcome]:
        """Find out which of the batches the server refuses: each stands or falls alone."""
        if len(batches) > 1:
            half = len(batches) // 2
            return [*self._commit(batches[:half], end), *self._commit(batches[half:], end)]
        (batch,) = batches
        log.warning("%s: %s", batch[0].path, refusal)
        return [refusal_of(refusal, batch)]

    def _push(self, made: Plan, end: float) -> None:
        """One commit on the tip, pushed. Raises LostRace, Rejected, StoreError."""
        repository = self._repository
        for commit in self._branch.commits(repository, self._tip, made, end):
            repository.references.create(git_remote.NEXT, commit, force=True)
            try:
                self._send(commit, end)
            except Rejected as refusal:
                before = self._tip
                self._refresh(end)
                if self._tip != before:
                    raise LostRace(str(refusal)) from None
                if not self._branch.may_grow(refusal):
                    raise
            else:
                break
        assert self._clone is not None
        self._clone.set_tip(commit)
        self._clone.wrote(sum(len(put) for put in made.data))
        self._tip = commit
        self._branch.pushed()

    def _send(self, commit: Oid, end: float) -> None:
        asked = Asked(self._place, self._repository, end)
        try:
            asked.push(self._branch.name, str(self._tip) if self._tip is not None else None)
        except (Unavailable, pygit2.GitError, ValueError) as error:
            # The answer is lost; the branch itself tells whether it was carried out.
            if not asked.sent or not self._arrived(commit, end):
                raise
            log.info("%s: the push was carried out, though %s", self.identity, error)

    def _arrived(self, commit: Oid, end: float) -> bool:
        with suppress(StoreError):
            heads = Asked(self._place, self._repository, end).heads()
            return heads.branches.get(self._branch.name, "") == str(commit)
        return False
