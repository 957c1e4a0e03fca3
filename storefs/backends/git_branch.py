"""Which branch holds the documents, and how its history is kept short.

A decision and its memory; the pushing itself is done elsewhere. Not thread-safe.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pygit2

from storefs.backends import git_messages, git_trees
from storefs.backends.git_history import History
from storefs.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pygit2 import Oid, Repository

    from storefs.backends.git_errors import Rejected
    from storefs.backends.git_place import Place
    from storefs.backends.git_plan import Plan
    from storefs.backends.git_remote import Heads

log = logging.getLogger(__name__)

FIRST = "master"
"""The branch that is made in an empty repository, as by the proxy's own store."""

_LEAST_DEPTH = 1000
_COUNTING = 0.5
"""Share of the time of a commit that may go into counting the commits before it."""


class Branch:
    """The branch in use. `name` is known after the first `choose`."""

    def __init__(self, place: Place) -> None:
        self.name = place.branch or FIRST
        self.history = History(place, max(place.max_commits, _LEAST_DEPTH) + 1)
        self._place = place
        self._made = False
        self._shortening = False
        """What the commit that is tried does, beside its changes."""
        self._dangling = False
        """Whether the remote's HEAD names a branch that does not exist."""
        self._squashes = True
        """Whether the server allows what shortens the history, as far as is known."""
        self._length: tuple[Oid | None, int | None] = (None, None)
        self._pushing: tuple[Oid, int | None] | None = None

    def choose(self, heads: Heads) -> str:
        """The commit of the branch in use, empty for a repository without any branch.

        Raises Unavailable when it has branches, but not this one.
        """
        branches = heads.branches
        self._dangling = bool(branches) and heads.default not in branches
        name = self._place.branch or self._default(heads)
        if not branches:
            self.name = name
            return ""
        if name not in branches:
            some = ", ".join(sorted(branches)[:5])
            wanted = f"no branch {name!r}" if name else "no default branch"
            raise Unavailable(
                "", f"{self._place.url} has {wanted}, but {some}: correct GITSTORE_GIT_BRANCH"
            )
        if name != self.name and not self._place.branch:
            log.info("%s: the default branch is %s", self._place.url, name)
        self.name = name
        return branches[name]

    def _default(self, heads: Heads) -> str:
        branches = heads.branches
        if not branches:
            return FIRST
        if heads.default in branches:
            return heads.default
        # Its HEAD names none of them: what this program makes in an empty repository, else the
        # only one there is. Guessing among several would mix two stores.
        return FIRST if FIRST in branches else next(iter(branches)) if len(branches) == 1 else ""

    def commits(
        self, repository: Repository, tip: Oid | None, made: Plan, end: float
    ) -> Iterator[Oid]:
        """The commits to try, in this order, until the server takes one."""
        assert made.tree is not None
        self._made, self._shortening = tip is None, False
        if tip is None:
            parents = [] if self._place.max_commits == 1 else [_initial(repository)]
            yield self._commit(repository, made, parents, len(parents) + 1)
            return
        length = 1 if self._place.max_commits == 1 else self.counted(repository, tip, end)
        if length is not None and length >= self._place.max_commits and self._squashes:
            self._shortening = True
            yield self._commit(repository, made, [], 1)
            self._shortening = False
        yield self._commit(repository, made, [tip], None if length is None else length + 1)

    def _commit(
        self, repository: Repository, made: Plan, parents: list[Oid], count: int | None
    ) -> Oid:
        assert made.tree is not None
        text = git_messages.message(made.changes, count)
        commit = _create(repository, text, made.tree, parents)
        self._pushing = commit, count
        return commit

    def counted(self, repository: Repository, tip: Oid, end: float) -> int | None:
        """How many commits there are; None: it cannot be found out now."""
        if self._length[0] != tip:
            now = time.monotonic()
            until = now + (end - now) * _COUNTING
            try:
                length = self.history.length(repository, tip, self.name, until)
            except (StoreError, pygit2.GitError, KeyError) as error:
                log.warning("%s: the history was not counted: %s", self._place.url, error)
                return None
            self._length = tip, length
        return self._length[1]

    def may_grow(self, refusal: Rejected) -> bool:
        """Whether what was refused just now was the shortening: then it is given up."""
        if not self._shortening:
            return False
        self._squashes = False
        log.warning(
            "%s: the history grows, since the server forbids to shorten it (%s)",
            self._place.url,
            refusal,
        )
        return True

    def pushed(self) -> None:
        """The server took the commit that `commits` gave last."""
        if self._pushing is not None:
            self._length = self._pushing
        if self._made:
            log.info("%s was empty: made the branch %s", self._place.url, self.name)
        self._made = False

    def traits(self) -> Mapping[str, str]:
        """What a person should know; see Described."""
        limit = self._place.max_commits
        history = "one commit" if limit == 1 else f"at most {limit} commits"
        if not self._squashes:
            history = "grows: the server forbids force pushes"
        found = {"branch": self.name, "history": history}
        if self._dangling:
            found["default branch"] = f"does not exist; choose {self.name} on the server"
            found["lacking"] = (
                f"choose {self.name} as the default branch on the server, or set "
                f"GITSTORE_GIT_BRANCH={self.name} on every machine"
            )
        if self._place.scheme in ("http", "git"):
            found["transport"] = "not encrypted"
        return found


def _initial(repository: Repository) -> Oid:
    return _create(repository, git_messages.initial(), git_trees.initial(repository), [])


def _create(repository: Repository, text: str, tree: Oid, parents: list[Oid]) -> Oid:
    author = pygit2.Signature(*git_messages.AUTHOR)
    return repository.create_commit(None, author, author, text, tree, parents)
