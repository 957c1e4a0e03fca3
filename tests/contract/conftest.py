"""The stores under the contract suite. A backend joins with a fixture and its name in STORES."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Backend, Watcher
from storefs.backends.local import Local
from storefs.backends.memory import Memory
from tests.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connect = Callable[[], Backend]

STORES = ("memory", "local", "faults")


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
