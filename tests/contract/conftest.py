"""The stores under the contract suite. A backend joins with a fixture and its name in STORES."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Backend, Watcher
from storefs.backends.local import Local
from storefs.backends.memory import Memory
from tests.faults import Faults
from tests.servers.git_store import git_remote, git_server  # noqa: F401 - fixtures
from tests.servers.postgres import (  # noqa: F401 - fixtures
    cluster,
    database,
    own_cluster,
    postgres_schema,
    shared_database,
)
from tests.servers.s3 import blind_bucket, bucket, moto_url, rclone_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.git_store import Remote
    from tests.servers.postgres_cluster import Database
    from tests.servers.s3 import Bucket

    Connect = Callable[[], Backend]

STORES = ("memory", "local", "faults", "s3", "s3_blind", "git", "postgres")


@pytest.fixture
def memory_store() -> Connect:
    return Memory().session


@pytest.fixture
def local_store(tmp_path: Path) -> Connect:
    return lambda: Local(tmp_path / "store")


@pytest.fixture
def faults_store() -> Connect:
    """The fault wrapper changes nothing until it is told to."""
    memory = Memory()
    return lambda: Faults(memory.session())


@pytest.fixture
def git_store(git_remote: Remote) -> Connect:  # noqa: F811 - a fixture
    return git_remote.connect


@pytest.fixture
def postgres_store(postgres_schema: Database) -> Connect:  # noqa: F811 - a fixture
    return postgres_schema.connect


@pytest.fixture
def s3_store(bucket: Bucket) -> Connect:  # noqa: F811 - a fixture
    return bucket.connect


@pytest.fixture
def s3_blind_store(blind_bucket: Bucket) -> Connect:  # noqa: F811 - a fixture
    return blind_bucket.connect


_ROWS = "rows hold JSON below auths/ and one config; docs/backends/postgres"
_NOT_ROWS = {
    "test_every_byte_is_kept[postgres-auths/b.json]",
    "test_every_byte_is_kept[postgres-auths/notes.bin]",
    "test_names[postgres-config/models.yaml]",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a store cannot promise is marked here, with the reason, and nowhere else."""
    window = "no conditions: the last writer wins between comparing and writing; docs/backends/s3"
    for item in items:
        if item.name == "test_no_update_is_lost_in_a_race[s3_blind]":
            item.add_marker(pytest.mark.xfail(reason=window, strict=False))
        if item.name in _NOT_ROWS:
            item.add_marker(pytest.mark.xfail(reason=_ROWS, strict=True))


@pytest.fixture(params=STORES)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a new session of one store at each call, as another machine would; closes them."""
    open_store: Connect = request.getfixturevalue(f"{request.param}_store")
    sessions: list[Backend] = []

    def session() -> Backend:
        sessions.append(open_store())
        return sessions[-1]

    yield session
    for backend in sessions:
        backend.close()


@pytest.fixture
def backend(connect: Connect) -> Backend:
    return connect()


@pytest.fixture
def watcher(backend: Backend) -> Watcher:
    if not isinstance(backend, Watcher):
        pytest.skip("this backend gives no hints")
    return backend


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory of `local`."""
    return tmp_path / "store"


@pytest.fixture
def local(store: Path) -> Iterator[Local]:
    """A local store that other programs can reach below `store`."""
    (store / "auths").mkdir(parents=True)
    backend = Local(store)
    yield backend
    backend.close()
