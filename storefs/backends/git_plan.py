"""What one commit holds: the batches that may go ahead, and the tree they make. No network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pygit2

from storefs.backends import git_trees
from storefs.backends.contract import (
    Blob,
    Delete,
    Entry,
    Put,
    Revision,
    check_expected,
    check_place,
)
from storefs.errors import Invalid, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pygit2 import Oid, Repository, Tree

    from storefs.backends.contract import Batch, Change, Outcome


@dataclass(slots=True)
class Plan:
    """The outcome of each batch if the push is accepted, and what to push."""

    tree: Oid | None
    """None: the tree with which an empty repository begins."""
    outcomes: list[Outcome] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """All that make a difference, for the message."""

    @property
    def failed(self) -> bool:
        """Whether a batch is refused."""
        return any(isinstance(outcome, StoreError) for outcome in self.outcomes)

    @property
    def data(self) -> list[bytes]:
        """What is written."""
        return [change.data for change in self.changes if isinstance(change, Put)]


def plan(
    repository: Repository, tip: Tree | None, batches: Sequence[Batch], sizes: git_trees.Sizes
) -> Plan:
    """Apply each batch whose paths are as expected in `tip`. Raises KeyError, pygit2.GitError."""
    checked: list[list[Change] | StoreError] = []
    for batch in batches:
        try:
            checked.append(_checked(repository, tip, batch, sizes))
        except StoreError as failure:
            checked.append(failure)
    together = [change for changes in checked if isinstance(changes, list) for change in changes]
    try:
        tree = _grown(repository, tip.id if tip is not None else None, together)
    except Invalid:
        return _one_by_one(repository, tip, batches, checked)
    outcomes: list[Outcome] = [
        changes if isinstance(changes, StoreError) else _entries(batch)
        for batch, changes in zip(batches, checked, strict=True)
    ]
    return Plan(tree, outcomes, together)


def _one_by_one(
    repository: Repository,
    tip: Tree | None,
    batches: Sequence[Batch],
    checked: Sequence[list[Change] | StoreError],
) -> Plan:
    """Not all of them fit into one tree: find out which do not."""
    made = Plan(tip.id if tip is not None else None)
    for batch, changes in zip(batches, checked, strict=True):
        try:
            if isinstance(changes, StoreError):
                raise changes
            made.tree = _grown(repository, made.tree, changes)
        except StoreError as failure:
            made.outcomes.append(failure)
        else:
            made.outcomes.append(_entries(batch))
            made.changes += changes
    return made


def _grown(repository: Repository, oid: Oid | None, changes: Sequence[Change]) -> Oid | None:
    """The tree after the changes. Raises Invalid."""
    if not changes:
        return oid
    blobs = {
        change.path: repository.create_blob(change.data) if isinstance(change, Put) else None
        for change in changes
    }
    tree = repository[oid if oid is not None else git_trees.initial(repository)]
    assert isinstance(tree, pygit2.Tree)
    return git_trees.build(repository, tree, blobs)


def _checked(
    repository: Repository, tip: Tree | None, batch: Batch, sizes: git_trees.Sizes
) -> list[Change]:
    """The changes of a batch that make a difference. Raises Invalid, Conflict."""
    current: dict[str, Blob | None] = {}
    for change in batch:
        check_place(change.path)
        # A directory in the way shows when the tree is built.
        found = git_trees.document(repository, tip, change.path, sizes)
        if isinstance(found, str):
            raise Invalid(change.path, f"cannot be changed in the repository: {found}")
        current[change.path] = found
    check_expected(batch, current)
    return [change for change in batch if _differs(change, current[change.path])]


def _differs(change: Change, blob: Blob | None) -> bool:
    if isinstance(change, Delete):
        return blob is not None
    return blob is None or blob.data != change.data


def _entries(batch: Batch) -> dict[str, Entry]:
    return {
        change.path: Entry(Revision(str(pygit2.hash(change.data))), len(change.data), 0)
        for change in batch
        if isinstance(change, Put)
    }
