"""What one would look up by hand: the last commit, how many there are, how large the clone is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pygit2

from storefs.backends.git_clone import usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pygit2 import Oid, Repository

    from storefs.backends.git_branch import Branch


def inspect(
    repository: Repository, branch: Branch, tip: Oid | None, end: float
) -> Mapping[str, object]:
    """See Inspected. The commits are counted until `end` (monotonic)."""
    size = {"clone": f"{usage(Path(repository.path))} bytes"}
    if tip is None:
        return {"tip": "none: the branch has no commit", "commits": 0, **size}
    commit = repository[tip].peel(pygit2.Commit)
    count = branch.counted(repository, tip, end)
    return {
        "tip": f"{tip} on {branch.name}, by {commit.author.name}",
        "tip time": float(commit.commit_time),
        "commits": "not counted in time" if count is None else count,
        **size,
    }
