"""A PostgreSQL server that is away while documents are written, and while a mount starts."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.calls import attribute
from tests.mount.harness import Mount, Plain, until
from tests.mount.remote import credential
from tests.servers.postgres import own_cluster  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster, Database

pytestmark = pytest.mark.user


@pytest.fixture
def database(own_cluster: Cluster) -> Database:  # noqa: F811
    return own_cluster.database()


@pytest.fixture
def machine(tmp_path: Path, database: Database) -> Iterator[Mount]:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with Plain(tmp_path / "a", tmp_path / "unused", (), database.env()) as mount:
        yield mount


def rows(database: Database) -> dict[str, Any]:
    with suppress(Exception):  # it starts
        found = database.run("SELECT id, content->>'access_token' FROM auth_store")
        return {row[0]: row[1] for row in found}
    return {}


def test_writes_wait_for_the_server(
    machine: Mount,
    own_cluster: Cluster,  # noqa: F811
    database: Database,
) -> None:
    (machine.auths / "a.json").write_bytes(credential(1))
    (machine.auths / "b.json").write_bytes(credential(1))
    own_cluster.stop()
    (machine.auths / "a.json").write_bytes(credential(2))
    (machine.auths / "b.json").unlink()
    (machine.auths / "new.json").write_bytes(credential(3))
    assert (machine.auths / "a.json").read_bytes() == credential(2)
    assert attribute(machine.auths / "a.json", "state") == "pending"
    assert not machine.status()["online"]
    own_cluster.start()
    wanted = {"a.json": "token-2", "new.json": "token-3"}
    until(lambda: rows(database) == wanted, "everything is sent", 60)
    until(lambda: machine.status()["online"] and not machine.status()["pending"], "all is well")
    assert machine.kept("conflicts") == {}


def test_a_mount_starts_while_the_server_is_away(
    machine: Mount,
    own_cluster: Cluster,  # noqa: F811
    database: Database,
) -> None:
    (machine.auths / "a.json").write_bytes(credential(1))
    own_cluster.stop()
    (machine.auths / "a.json").write_bytes(credential(2))
    machine.kill()
    machine.start()
    assert (machine.auths / "a.json").read_bytes() == credential(2)
    (machine.auths / "new.json").write_bytes(credential(3))
    assert machine.stop() == 0
    machine.start()
    own_cluster.start()
    wanted = {"a.json": "token-2", "new.json": "token-3"}
    until(lambda: rows(database) == wanted, "everything is sent", 60)
    database.run(
        "UPDATE auth_store SET content = content || '{\"by\": \"psql\"}' WHERE id = 'a.json'"
    )
    until(lambda: b"psql" in (machine.auths / "a.json").read_bytes(), "changes arrive again", 60)
