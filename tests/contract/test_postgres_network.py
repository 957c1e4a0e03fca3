"""PostgreSQL behind PgBouncer, and over a line that stalls."""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Delete, Put
from storefs.errors import StoreError, Unavailable
from tests.contract.steps import PATIENCE, commit, content, done, failed, hinted, put, read
from tests.servers.pgbouncer import Bouncer, Line, bouncing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.postgres_cluster import Cluster, Database

A, B = "auths/a.json", "auths/b.json"


@pytest.fixture(scope="module")
def bouncer(cluster: Cluster) -> Iterator[Bouncer]:
    with bouncing(cluster) as found:
        yield found


@pytest.fixture
def bounced(database: Database, bouncer: Bouncer) -> Database:
    """The database as it is reached through PgBouncer."""
    cluster = replace(database.cluster, port=bouncer.port)
    return replace(database, cluster=cluster)


def test_behind_pgbouncer_everything_works_and_changes_are_polled(
    database: Database, bounced: Database
) -> None:
    with (
        closing(bounced.connect(poll_interval=0.1)) as store,
        closing(bounced.connect()) as other,
        closing(database.connect()) as direct,
    ):
        assert store.traits()["changes"] == "polled"
        assert "PgBouncer" in store.traits()["pooled"]
        revision = put(store, A, b'{ "a": 1 }')
        assert hinted(direct, A)  # what it announces is heard where one can listen
        assert content(other, A) == b'{ "a": 1 }'
        assert store.wait(PATIENCE) is None
        for number in range(20):  # more than the times after which statements are prepared
            backend = (store, other)[number % 2]
            revision = put(backend, A, b'{"a": %d}' % number, revision)
        outcome = commit(store, Put(B, b"{}", None), Delete(A, revision))
        assert set(done(outcome)) == {B}
        assert set(other.snapshot()) == {B}


def test_behind_pgbouncer_nothing_is_left_in_a_session(
    database: Database, bounced: Database
) -> None:
    """What one client sets there, the next one finds."""
    with closing(bounced.connect()) as store:
        put(store, A, b"{}")
        store.snapshot()
        with bounced.session(prepare_threshold=None) as client:
            for setting, usual in (
                ("statement_timeout", "0"),
                ("synchronous_commit", "on"),
                ("default_transaction_isolation", "read committed"),
            ):
                assert client.execute("SELECT current_setting(%s)", (setting,)).fetchone() == (
                    usual,
                )
            quiet = "SELECT coalesce(current_setting('storefs.hint', true), '')"
            assert client.execute(quiet.encode()).fetchone() == ("",)
            prepared = client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            assert prepared == (0,)


@pytest.fixture
def line(database: Database) -> Iterator[Line]:
    line = Line(database.cluster.port)
    yield line
    line.close()


def test_a_line_that_stalls(database: Database, line: Line) -> None:
    """Every call ends by its deadline; when the line flows again, everything goes on."""
    cluster = replace(database.cluster, port=line.port)
    with closing(replace(database, cluster=cluster).connect(deadline=2.0)) as store:
        revision = put(store, A, b"{}")
        end, hints = threading.Event(), []

        def watch() -> None:
            while not end.is_set():
                hint = store.wait(0.2)
                if hint is None or hint:
                    hints.append(hint)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            line.stall()
            failures: list[object] = []

            def attempt() -> None:
                failures.extend(store.commit([[Put(A, b"[]", revision)]], 1.0))
                try:
                    list(store.read([A]))
                except StoreError as error:
                    failures.append(error)

            caller = threading.Thread(target=attempt, daemon=True)
            caller.start()
            caller.join(PATIENCE)
            assert [type(each) for each in failures] == [Unavailable, Unavailable]
            assert re.search("no answer within|no session in time", str(failures[0]))
            line.flow()
            _until(lambda: _says(store) is not None, "it answers again")
            database.run("INSERT INTO auth_store (id, content) VALUES ('b.json', '{}')")
            _until(lambda: None in hints or {"auths/b.json"} in hints, "told of the change")
        finally:
            end.set()
            watcher.join(PATIENCE)
        blob = read(store, A)
        assert blob is not None
        assert blob.data in (b"{}", b"[]")  # nobody can know; whoever looks does
        put(store, A, b'{"after": 1}', blob.entry.revision)


def _says(store: object) -> bytes | None:
    try:
        return content(store, A)  # type: ignore[arg-type]
    except StoreError:
        return None


def _until(met: object, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not met():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_nobody_waits_for_a_server_that_refuses(database: Database, line: Line) -> None:
    cluster = replace(database.cluster, port=line.port)
    with closing(replace(database, cluster=cluster).connect(deadline=PATIENCE * 10)) as store:
        revision = put(store, A, b"{}")
        line.close()
        began = time.monotonic()
        failed(commit(store, Put(A, b"[]", revision)), Unavailable)
        with pytest.raises(Unavailable, match="PGSTORE_DSN"):
            store.snapshot()
        assert time.monotonic() - began < PATIENCE * 5
