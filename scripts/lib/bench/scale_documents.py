"""How cost grows with documents: 100 to 100,000 of 2 KB, over a local directory and PostgreSQL."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

from bench import candidates, postgres
from bench.calls import body
from bench.events import arrive
from bench.stages import call
from tests.servers.postgres_cluster import Cluster, binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from bench.candidates import Mounted

Row = dict[str, float]

_CHANGES = 20
_LISTINGS = 5
_UPDATE = """
UPDATE auth_store SET content = %s, updated_at = NOW() WHERE id = %s RETURNING content::text
"""


class _Store(Protocol):
    """Where the documents are; `grow` and `change` are made past every mount."""

    def grow(self, count: int) -> None: ...

    def change(self, name: str, data: bytes) -> bytes:
        """Returns the bytes that mounts will show."""

    def mount(self, base: Path) -> Mounted: ...


class _Local:
    def __init__(self, base: Path) -> None:
        self._store = base / "store"

    def grow(self, count: int) -> None:
        candidates.fill(self._store / "auths", count)

    def change(self, name: str, data: bytes) -> bytes:
        aside = self._store / "aside"
        aside.write_bytes(data)
        aside.rename(self._store / "auths" / name)
        return data

    def mount(self, base: Path) -> Mounted:
        return candidates.storefs(base, self._store)


class _Postgres:
    def __init__(self, cluster: Cluster, session: psycopg.Connection[Any], database: Any) -> None:
        self._cluster, self._session, self._database = cluster, session, database

    def grow(self, count: int) -> None:
        self._session.execute("TRUNCATE auth_store")
        postgres.insert(self._session, count)

    def change(self, name: str, data: bytes) -> bytes:
        ((text,),) = self._session.execute(_UPDATE, (data.decode(), name)).fetchall()
        return str(text).encode()

    def mount(self, base: Path) -> Mounted:
        return postgres.storefs(base, self._database)


def local(base: Path, counts: list[int]) -> Iterator[Row]:
    """One row a count. Raises Broken, OSError."""
    base.mkdir(parents=True)
    yield from _rows(_Local(base), base, counts)


def on_postgres(base: Path, counts: list[int]) -> Iterator[Row]:
    """The same over a server of its own; none where there is no server."""
    base.mkdir(parents=True)
    with _database() as (cluster, database), closing(database.session()) as session:
        with postgres.storefs(base / "first", database):
            pass  # makes the tables
        yield from _rows(_Postgres(cluster, session, database), base, counts)


@contextmanager
def _database() -> Iterator[tuple[Cluster, Any]]:
    found = binaries()
    if found is None:
        raise candidates.Broken("no PostgreSQL server is installed")
    with postgres.serving(Cluster.make(found, options=postgres.DURABLE)) as cluster:
        yield cluster, cluster.database()


def _rows(store: _Store, base: Path, counts: list[int]) -> Iterator[Row]:
    for count in counts:
        store.grow(count)
        mounted = store.mount(base / f"mount-{count}")
        fill = mounted.start()
        mounted.stop()
        restart = mounted.start()
        try:
            started = mounted.memory()
            listing = median(call(mounted, "list", _LISTINGS)) / 1e3
            changes = _changes(store, mounted)
            yield {
                "documents": count,
                "fill_s": fill,
                "restart_s": restart,
                "listing_ms": listing,
                "change_p50_ms": median(changes),
                "change_max_ms": max(changes),
                "memory_mb": started / 1e6,
                "memory_listed_mb": mounted.memory() / 1e6,
                "disk_mb": _disk(mounted.base / "root") / 1e6,
            }
        finally:
            mounted.stop()


def _changes(store: _Store, mounted: Mounted) -> list[float]:
    """Milliseconds from the store's change to the new bytes read after their event."""
    names = sorted(os.listdir(mounted.documents))
    times = []
    with INotify() as inotify:
        inotify.add_watch(mounted.documents, flags.MODIFY)
        for number in range(_CHANGES):
            name, data = names[number * len(names) // _CHANGES], body(time.time_ns())
            begun = time.perf_counter()
            arrive(inotify, mounted.documents / name, store.change(name, data))
            times.append((time.perf_counter() - begun) * 1e3)
    return times


def _disk(directory: Path) -> int:
    """Bytes that the files below a directory take."""
    taken = 0
    for at, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):  # the mirror's writer has just renamed it
                taken += os.lstat(os.path.join(at, name)).st_blocks * 512
    return taken
