"""Everything at once: what a listing and reading each document would bring, as of one moment."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Blob
from storefs.errors import Unavailable
from tests.contract.steps import hinted, put, read
from tests.contract.test_postgres import CONFIG, UPSERT, A, B, store  # noqa: F401 - a fixture
from tests.servers.pgbouncer import bouncing

if TYPE_CHECKING:
    from storefs.backends.postgres import Postgres
    from tests.servers.postgres_cluster import Cluster, Database

MOST = 1 << 20
MANY = 1000
"""Documents; several portions."""

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def fill(database: Database) -> None:
    database.run(
        "INSERT INTO auth_store (id, content)"
        f" SELECT 'native-' || n, jsonb_build_object('n', n) FROM generate_series(1, {MANY}) n"
    )


def everything(store: Postgres, most: int = MOST) -> dict[str, Blob | int]:  # noqa: F811
    """No path may come twice."""
    items = [item for portion in store.everything(most) for item in portion]
    found = dict(items)
    assert len(found) == len(items)
    return found


def listed(store: Postgres) -> dict[str, Blob | None]:  # noqa: F811
    return dict(store.read(list(store.snapshot())))


def test_it_is_what_a_listing_and_reading_bring(store: Postgres, database: Database) -> None:  # noqa: F811
    assert everything(store) == {}
    put(store, CONFIG, b"a: 1\r\n# kept\r\n")
    put(store, A, b'{"b": 1,  "a": 1.0}')
    put(store, B, b'{"b": 1,  "a": 1.0}')
    database.run(UPSERT, "b.json", '{"b":2}')
    fill(database)
    database.run("UPDATE auth_store SET updated_at = 'infinity' WHERE id = 'native-1'")
    found = everything(store)
    assert found == listed(store)
    assert len(found) == MANY + 3
    blobs = {path: blob for path, blob in found.items() if isinstance(blob, Blob)}
    assert blobs[A].data == b'{"b": 1,  "a": 1.0}'
    assert blobs[B].data == b'{"b": 2}'
    assert {path: blob.entry for path, blob in blobs.items()} == store.snapshot()
    assert store.count() == len(found)


def test_what_is_too_long_comes_as_its_length(store: Postgres, database: Database) -> None:  # noqa: F811
    put(store, A, b'{"a":    1}')
    database.run(UPSERT, "b.json", '{"b": "\u00fc"}')
    put(store, CONFIG, b"a: 1\n")
    assert everything(store, 10) == {A: 11, B: 11, CONFIG: read(store, CONFIG)}
    assert everything(store, 11) == listed(store)


def test_what_cannot_be_shown_is_left_out(
    store: Postgres,  # noqa: F811
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("a.json", "../x", "/abs.json", "n" * 300, ".hidden.json", "logs/x.json"):
        database.run(UPSERT, name, "{}")
    database.run("INSERT INTO config_store (id, content) VALUES ('other', 'x: 1')")
    for _ in range(2):
        assert everything(store).keys() == {A}
    assert len([each for each in caplog.messages if "left out" in each]) == 3


def test_it_is_of_one_moment_and_what_comes_later_is_announced(
    store: Postgres,  # noqa: F811
    database: Database,
) -> None:
    fill(database)
    while store.wait(0.2) != frozenset():
        pass
    before = listed(store)
    portions = store.everything(MOST)
    found = dict(next(portions))
    database.run(f"DELETE FROM auth_store WHERE id <> 'native-{MANY}'")
    database.run("UPDATE auth_store SET content = '{}'")
    for portion in portions:
        found.update(portion)
    assert found == before
    assert hinted(store, f"auths/native-{MANY}")


def test_a_session_that_ends_in_between_is_unavailable(
    store: Postgres,  # noqa: F811
    database: Database,
) -> None:
    fill(database)
    portions = store.everything(MOST)
    next(portions)
    database.run(TERMINATE)
    with pytest.raises(Unavailable):
        list(portions)
    assert len(everything(store)) == MANY


def test_given_up_in_between_it_holds_no_session(store: Postgres, database: Database) -> None:  # noqa: F811
    fill(database)
    for _ in range(2 * store.concurrency + 2):
        portions = store.everything(MOST)
        next(portions)
        portions.close()  # type: ignore[attr-defined]
    assert len(everything(store)) == MANY


def test_without_a_side_table_and_behind_pgbouncer(cluster: Cluster, database: Database) -> None:
    with closing(database.connect()) as owner:
        put(owner, A, b'{"b":1}')
    fill(database)
    seed = database.role("GRANT SELECT ON auth_store, config_store TO {}")
    with closing(seed.connect()) as reader:
        found = everything(reader)
        assert found == listed(reader)
        blob = found[A]
        assert isinstance(blob, Blob)
        assert blob.data == b'{"b": 1}'
    with bouncing(cluster) as bouncer:
        bounced = replace(database, cluster=replace(cluster, port=bouncer.port))
        with closing(bounced.connect()) as store:
            assert store.traits()["changes"] == "polled"
            assert everything(store) == listed(store)
