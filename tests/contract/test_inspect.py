"""What stores say of themselves: the figures that people used to query by hand."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from storefs.backends.contract import Inspected
from tests.contract.steps import put

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.contract.conftest import Connect

pytestmark = pytest.mark.user

PATHS = [f"auths/{number}.json" for number in range(11)] + ["config/config.yaml"]


def inspected(store: str, request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """What the store says when twelve documents were put into it one after the other."""
    connect: Connect = request.getfixturevalue(f"{store}_store")
    with closing(connect()) as backend:
        assert isinstance(backend, Inspected)
        backend.inspect()  # an empty store answers too
        for path in PATHS:
            put(backend, path, b'{"a": 1}' if path.endswith("json") else b"a: 1\n")
        found = backend.inspect()
        assert found is not None
        return found


def test_postgres_tells_connections_tables_and_the_latest(request: pytest.FixtureRequest) -> None:
    found = inspected("postgres", request)
    assert "to this database" in found["connections"]
    tables = [text for title, text in found.items() if title.startswith("table ")]
    assert [text.split(" rows, ")[0] for text in tables] == ["1", "11"]
    latest = found["latest"]
    assert [item["path"] for item in latest] == PATHS[:1:-1]
    assert all(abs(item["time"] - time.time()) < 600 for item in latest)
    assert latest[0]["size"] > 0


def test_s3_tells_objects_bytes_and_the_latest(request: pytest.FixtureRequest) -> None:
    found = inspected("s3", request)
    assert (found["objects"], found["bytes"]) == (12, 11 * 8 + 5)
    assert len(found["latest"]) == 10
    assert {item["path"] for item in found["latest"]} <= set(PATHS)
    assert all(abs(item["time"] - time.time()) < 600 for item in found["latest"])


def test_git_tells_tip_commits_and_clone(request: pytest.FixtureRequest) -> None:
    found = inspected("git", request)
    remote = request.getfixturevalue("git_remote")
    assert found["commits"] == remote.repository.commits("master") >= 12
    assert " on master, by " in found["tip"]
    assert abs(found["tip time"] - time.time()) < 600
    assert int(found["clone"].split()[0]) > 0
