"""The Git store as the tests reach it: fixtures, and sessions with a clone of their own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from storefs.backends.git import Git, connect
from storefs.settings import Settings
from tests.servers.git import GitServer, Repository, available

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Remote:
    """One repository of one server; each `connect` is another machine."""

    server: GitServer
    repository: Repository
    base: Path
    serial: Iterator[int] = field(default_factory=itertools.count)

    def env(self, **more: str) -> dict[str, str]:
        """The variables of a mount over this repository."""
        named = {f"GITSTORE_{name}": value for name, value in more.items()}
        return {
            "GITSTORE_GIT_URL": self.repository.url,
            "GITSTORE_GIT_TOKEN": self.server.token,
            "HOME": str(self.base),
            **named,
        }

    def settings(self, root: Path | None = None, deadline: float = 20.0, **more: str) -> Settings:
        """The settings of a machine with this root, which a mount would have made by then."""
        root = root or self.base / f"machine-{next(self.serial)}"
        (root / ".storefs").mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"mirror": root, "deadline": deadline, "env": self.env(**more)}
        place = self.base / "none"
        return Settings(mountpoint=place, local_store=place, backend="git", **options)

    def connect(self, root: Path | None = None, deadline: float = 20.0, **more: str) -> Git:
        """A new session; the caller closes it."""
        return connect(self.settings(root, deadline, **more))


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """One server for all tests of a process, which leave it as it was."""
    if reason := available():
        pytest.skip(reason)
    with GitServer(tmp_path_factory.mktemp("git-server")) as server:
        yield server


_serial = itertools.count()


@pytest.fixture
def git_remote(git_server: GitServer, tmp_path: Path) -> Remote:
    """An empty repository of its own for a test."""
    return Remote(git_server, git_server.repository(f"store-{next(_serial)}"), tmp_path / "git")
