"""Stores that `storefs copy` is told of by an env file each, on real servers."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from storefs import backends
from storefs.backends.contract import Put
from storefs.errors import StoreError
from storefs.settings import load
from tests.mount.harness import environment
from tests.servers.git_store import git_remote, git_server  # noqa: F401 - fixtures
from tests.servers.postgres import (  # noqa: F401 - fixtures
    cluster,
    database,
    postgres_schema,
    shared_database,
)
from tests.servers.s3 import bucket, moto_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

KINDS = ("local", "postgres", "s3", "git")
_NATIVE = ("PGSTORE_", "OBJECTSTORE_", "GITSTORE_")


@dataclass
class Store:
    """One store, as `copy` names it, and its content as any other session sees it."""

    words: str
    options: dict[str, object]
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, bytes]:
        """Every document."""
        with closing(backends.connect(load(self.options, self._environ(), self.home))) as backend:
            return {path: blob.data for path, blob in backend.read([*backend.snapshot()]) if blob}

    def put(self, documents: Mapping[str, bytes]) -> None:
        """Put documents, over whatever is there."""
        with closing(backends.connect(load(self.options, self._environ(), self.home))) as backend:
            present = backend.snapshot()
            batches = [
                [Put(path, data, present[path].revision if path in present else None)]
                for path, data in documents.items()
            ]
            for outcome in backend.commit(batches, 60):
                assert not isinstance(outcome, StoreError), outcome

    def _environ(self) -> dict[str, str]:
        return {"HOME": str(self.home), **self.env}


@dataclass
class Person:
    """Types commands in a home directory."""

    home: Path

    def storefs(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Exit code, output and messages of one command."""
        return self.run("storefs", *words, env=env)

    def killed(self, count: int, when: str, *words: str) -> None:
        """The command is killed `when` ("before", "after") its commit number `count` + 1."""
        code, out, err = self.run("tests.copy.killed", str(count), when, *words)
        assert code == -9, (code, out, err)

    def run(
        self, module: str, *words: str, env: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """The same by another module than storefs."""
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=environment(self.home, **(env or {})),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def person(tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir()
    return Person(home)


@pytest.fixture
def store(
    request: pytest.FixtureRequest, tmp_path: Path, person: Person
) -> Callable[[str, str], Store]:
    """Makes an empty store of a kind; `name` tells two local ones apart."""

    def make(kind: str, name: str) -> Store:
        options: dict[str, object] = {"backend": kind}
        if kind == "local":
            directory = tmp_path / name
            options["local_store"] = str(directory)
            return Store(f"local:{directory}", options, person.home)
        fixture = {"postgres": "database", "s3": "bucket", "git": "git_remote"}[kind]
        env = request.getfixturevalue(fixture).env()
        env = {key: value for key, value in env.items() if key.startswith(_NATIVE)}
        file = tmp_path / f"{name}.env"
        file.write_text("".join(f"{key}='{value}'\n" for key, value in env.items()))
        options["mirror"] = str(tmp_path / f"look-{name}")
        (tmp_path / f"look-{name}/.storefs").mkdir(parents=True)
        return Store(f"{kind}:{file}", options, person.home, env)

    return make
