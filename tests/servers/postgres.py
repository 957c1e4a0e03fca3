"""Fixtures of the tests that need PostgreSQL: a server for the run, databases, schemas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.servers.postgres_cluster import Cluster, Database, binaries, serial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _binaries() -> Path:
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL server is installed: the package postgresql")
    return found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server for the whole run of this process; tests make databases in it."""
    made = Cluster.make(_binaries())
    yield made
    made.remove()


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server of the test's own, to stop and start."""
    made = Cluster.make(_binaries())
    yield made
    made.remove()


@pytest.fixture
def database(cluster: Cluster) -> Database:
    """A database of the test's own."""
    return cluster.database()


@pytest.fixture(scope="session")
def shared_database(cluster: Cluster) -> Database:
    """A database for stores that lie in schemas of their own."""
    return cluster.database()


@pytest.fixture
def postgres_schema(shared_database: Database) -> Database:
    """A store in a schema of the test's own, whose name needs every care."""
    name = f'My "Schema" %s {next(serial)} \u00e9\\'
    return replace(shared_database, more={"PGSTORE_SCHEMA": name})
