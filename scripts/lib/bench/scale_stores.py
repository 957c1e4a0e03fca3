"""The three stores that many mounts share: how one is started, mounted, and what it counts."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import git, postgres, s3
from bench.calls import body
from bench.candidates import Broken, Mounted
from storefs.backends.postgres_schema import tables_in
from tests.servers.git import apart, available
from tests.servers.git import git as run_git
from tests.servers.postgres_cluster import Cluster, binaries
from tests.servers.s3_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.scale_mounts import Row, Shared
    from tests.servers.git import Apart, Repository
    from tests.servers.postgres_cluster import Database

_CONNECTIONS = 400
"""Allowed by the server: 32 mounts keep up to 5 each."""


class _Postgres:
    def __init__(self, cluster: Cluster, database: Database) -> None:
        self.place = database.dsn
        self._cluster, self._database = cluster, database
        self._session = database.session()
        channel = tables_in("public", "config_store", "auth_store").auth.channel
        self._session.execute(f"LISTEN {channel}".encode())
        self._heard = 0

    def processes(self) -> list[int]:
        assert self._cluster.process is not None
        return _with_children(self._cluster.process.pid)

    def mount(self, base: Path) -> Mounted:
        return postgres.storefs(base, self._database)

    def counters(self) -> Row:
        heard = self._session.notifies(timeout=0.2)
        self._heard += sum(1 for _ in heard)
        ((commits,),) = self._session.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchall()
        return {"notifications": self._heard, "transactions": float(commits)}

    def gauges(self) -> Row:
        ((count,),) = self._session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchall()
        return {"connections": float(count - 1)}


@contextmanager
def on_postgres(base: Path) -> Iterator[Shared]:
    """A server of its own. Raises Broken where none is installed."""
    found = binaries()
    if found is None:
        raise Broken("no PostgreSQL server is installed")
    options = (*postgres.DURABLE, f"max_connections={_CONNECTIONS}")
    with postgres.serving(Cluster.make(found, options=options)) as cluster:
        yield _Postgres(cluster, cluster.database())


class _S3:
    def __init__(self, proxy: Proxy, pid: int) -> None:
        self.place = proxy.url
        self._proxy, self._pid = proxy, pid

    def processes(self) -> list[int]:
        return [self._pid]

    def mount(self, base: Path) -> Mounted:
        return s3.storefs(base, self._proxy.url)

    def counters(self) -> Row:
        asked = self._proxy.counted()
        kinds = ("LIST", "GET", "PUT", "HEAD")
        return {f"{kind}s": float(sum(one.startswith(kind) for one in asked)) for kind in kinds}

    def gauges(self) -> Row:
        return {"connections": float(threading.active_count())}


@contextmanager
def on_s3(base: Path) -> Iterator[Shared]:
    """moto, behind a proxy that counts."""
    base.mkdir(parents=True, exist_ok=True)
    with s3.writing_server(base) as url, Proxy(url) as proxy:
        yield _S3(proxy, _child("moto_server"))


class _Git:
    def __init__(self, host: Apart, repository: Repository) -> None:
        self.place = repository.url
        self._host, self._repository = host, repository

    def processes(self) -> list[int]:
        return [self._host.pid]

    def mount(self, base: Path) -> Mounted:
        return git.storefs(base, self._repository)

    def counters(self) -> Row:
        return {
            "requests": float(self._host.count()),
            "commits": float(self._repository.commits("master")),
        }

    def gauges(self) -> Row:
        return {}


@contextmanager
def on_git(base: Path) -> Iterator[Shared]:
    """`git http-backend` behind a small server. Raises Broken where there is none."""
    if reason := available():
        raise Broken(reason)
    with apart(base / "server") as host:
        repository = host.repository("store", "master")
        work = repository.clone(base / "work")
        (work / "auths").mkdir()
        (work / "auths/b.json").write_bytes(body(0))
        run_git("checkout", "--quiet", "-B", "master", cwd=work)
        git.push(work)
        yield _Git(host, repository)


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _child(name: str) -> int:
    """The child of this process that runs such a program. Raises Broken."""
    for pid in _with_children(os.getpid())[1:]:
        if name in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise Broken(f"{name} does not run")
