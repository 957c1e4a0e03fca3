"""Who else uses the branch: the proxy's own store, which rewrites history, and a person."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from tests.servers.git import git

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.git import Repository

PATIENCE = 90.0
"""Seconds for one change to get through among many writers, on a busy machine."""


class Clone:
    """A normal clone; each change is made on the newest state, again until it is accepted."""

    def __init__(self, repository: Repository, directory: Path, branch: str = "master") -> None:
        self.work = repository.clone(directory)
        self.branch = branch

    def save(self, path: str, data: bytes) -> None:
        """Make one file hold these bytes."""

        def edit() -> None:
            (self.work / path).parent.mkdir(parents=True, exist_ok=True)
            (self.work / path).write_bytes(data)

        self.change(edit)

    def change(self, edit: Callable[[], None]) -> None:
        """Apply `edit` to the work tree, once for each attempt."""
        end = time.monotonic() + PATIENCE
        spec = f"+{self.branch}:refs/remotes/origin/{self.branch}"
        while True:
            git("fetch", "--quiet", "origin", spec, cwd=self.work)
            # By force: what an attempt that lost has left must not come along.
            newest = ("--force", "-B", "work", f"origin/{self.branch}")
            git("checkout", "--quiet", *newest, cwd=self.work)
            seen = git("rev-parse", "HEAD", cwd=self.work)
            edit()
            git("add", "--all", cwd=self.work)
            if git("status", "--porcelain", cwd=self.work) == "" or self._pushed(seen):
                return
            assert time.monotonic() < end, "others were always first"

    def _pushed(self, seen: str) -> bool:
        raise NotImplementedError

    def _push(self, *words: str) -> bool:
        command = ["git", "push", "--quiet", *words]
        done = subprocess.run(command, cwd=self.work, capture_output=True, check=False)
        return done.returncode == 0


class Native(Clone):
    """What the proxy's own store does: one parentless commit, pushed with a lease."""

    def _pushed(self, seen: str) -> bool:
        tree = git("write-tree", cwd=self.work)
        alone = git("commit-tree", tree, "-m", "Sync auth store", cwd=self.work)
        lease = f"--force-with-lease={self.branch}:{seen}"
        return self._push(lease, "origin", f"{alone}:refs/heads/{self.branch}")


class Person(Clone):
    """Somebody who commits on what is there, and never forces anything."""

    def _pushed(self, seen: str) -> bool:
        git("commit", "--quiet", "-m", "by hand", cwd=self.work)
        return self._push("origin", f"work:refs/heads/{self.branch}")
