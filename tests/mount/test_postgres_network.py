"""Mounts whose way to PostgreSQL stalls, or suddenly ends at another server."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storefs.errors import Exit
from tests.mount.harness import Watch, storefs, until
from tests.mount.remote import LONG, credential, tree
from tests.mount.test_postgres import Machines, machines, upsert, values  # noqa: F401 - fixture
from tests.servers.pgbouncer import Line
from tests.servers.postgres import cluster, database, own_cluster  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.harness import Mount
    from tests.servers.postgres_cluster import Cluster, Database

pytestmark = pytest.mark.user

NAMES = [f"{number}.json" for number in range(5)]


@pytest.fixture
def line(cluster: Cluster) -> Iterator[Line]:  # noqa: F811
    with closing(Line(cluster.port)) as line:
        yield line


def by(line: Line, database: Database) -> Database:  # noqa: F811
    """The database as it is reached through the line."""
    return replace(database, cluster=replace(database.cluster, port=line.port))


def is_noticed(mount: Mount) -> bool:
    """Whether the status tells of a store without its documents, or without its tables."""
    status = mount.status()
    return bool(status["held_deletions"] or status["error"])


def test_after_a_stall_it_is_coherent_again_without_a_restart(
    machines: Machines,  # noqa: F811
    database: Database,  # noqa: F811
    line: Line,
) -> None:
    mount = machines(by(line, database), "here", "--deadline", "1")
    for serial, name in enumerate(NAMES):
        (mount.auths / name).write_bytes(credential(serial))
    line.stall()
    assert tree(mount.auths) == {name: credential(n) for n, name in enumerate(NAMES)}
    (mount.auths / "0.json").write_bytes(credential(10))
    assert mount.status()["pending"] == 1
    upsert(database, "1.json", credential(11))
    with Watch(mount.auths) as watch:
        line.flow()
        watch.expect("MODIFY", "1.json", LONG)
    assert values(tree(mount.auths))["1.json"] == json.loads(credential(11))
    until(lambda: mount.status()["pending"] == 0, "what waited is sent", LONG)
    rows = dict(database.run("SELECT id, content FROM auth_store"))
    assert rows["0.json"] == json.loads(credential(10))
    assert mount.kept("conflicts") == {}


def test_a_failover_to_an_empty_server_wipes_nobody(
    machines: Machines,  # noqa: F811
    database: Database,  # noqa: F811
    own_cluster: Cluster,  # noqa: F811
    line: Line,
) -> None:
    """As after a failover whose replica never got the data, or a volume that is new."""
    mount = machines(by(line, database), "here")
    for serial, name in enumerate(NAMES):
        (mount.auths / name).write_bytes(credential(serial))
    with own_cluster.session("postgres") as admin:
        admin.execute(f"CREATE DATABASE {database.name}".encode())
        admin.execute(f"ALTER ROLE owner PASSWORD '{database.cluster.password}'".encode())
    with ExitStack() as stack, Watch(mount.auths) as watch:
        line.divert(own_cluster.port)
        stack.callback(line.divert, database.cluster.port)
        until(lambda: is_noticed(mount), "the mount sees that all is gone", LONG)
        assert set(tree(mount.auths)) == set(NAMES)
        assert storefs(mount.home, "status", str(mount.path)).returncode == Exit.DEGRADED
        assert not [event for event in watch.drain() if event[0] == "DELETE"]
        stack.close()
        until(lambda: not is_noticed(mount), "the data is back", LONG)
        upsert(database, "0.json", credential(10))
        watch.expect("MODIFY", "0.json", LONG)
    assert values(tree(mount.auths))["0.json"] == json.loads(credential(10))
    assert set(tree(mount.auths)) == set(NAMES)
