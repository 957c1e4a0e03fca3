"""PostgreSQL with accounts that may do little, and settings that are wrong."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storefs.backends import postgres_catalog
from storefs.backends.contract import Delete, Put
from storefs.backends.postgres import connect
from storefs.backends.postgres_dsn import place_of
from storefs.backends.postgres_schema import administration, tables_in
from storefs.errors import AccessDenied, Corrupt, Quit, StoreError, Unavailable
from tests.contract.steps import PATIENCE, commit, content, done, failed, hinted, put, read
from tests.servers.postgres_cluster import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.postgres_cluster import Database

A, B, CONFIG = "auths/a.json", "auths/b.json", "config/config.yaml"
BOTH = "auth_store, config_store"
SEED = "GRANT SELECT, INSERT, UPDATE ON auth_store, config_store TO {}"


@pytest.fixture
def native(database: Database) -> Database:
    """The tables as the native store made them, and nothing of ours."""
    for table, kind in (("config_store", "TEXT"), ("auth_store", "JSONB")):
        database.run(
            f"CREATE TABLE {table} (id TEXT PRIMARY KEY, content {kind} NOT NULL, created_at"
            " TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW())"
        )
    database.run("INSERT INTO auth_store (id, content) VALUES ('a.json', '{\"b\": 1, \"a\": 1}')")
    return database


def objects(database: Database) -> list[str]:
    """Everything that somebody made."""
    found = database.run(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal"
        " UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    return sorted(name for (name,) in found)


def test_the_seeds_role_works_without_anything_of_ours(native: Database) -> None:
    before = objects(native)
    with closing(native.role(SEED).connect()) as store:
        traits = store.traits()
        assert (traits["bytes"], traits["changes"]) == ("canonical", "polled")
        assert traits["writes"] == "compare-and-swap"
        assert "doctor --sql" in traits["lacking"]
        assert not store.read_only
        blob = read(store, A)
        assert blob is not None
        assert blob.data == b'{"a": 1, "b": 1}'
        entry = done(commit(store, Put(A, b'{"z":1,"a":2}', blob.entry.revision)))[A]
        changed = read(store, A)
        assert changed is not None
        assert changed.data == b'{"a": 2, "z": 1}'
        assert changed.entry == entry == store.snapshot()[A]
        put(store, CONFIG, b"a: 1\r\n")
        assert content(store, CONFIG) == b"a: 1\r\n"
    assert objects(native) == before


def test_without_triggers_it_looks_at_everything_at_every_interval(native: Database) -> None:
    with (
        closing(native.role(SEED).connect(poll_interval=0.1)) as store,
        closing(native.role(SEED).connect(poll_interval=100.0)) as other,
    ):
        assert store.wait(PATIENCE) is None
        assert store.wait(PATIENCE) is None
        put(store, B, b"{}")  # machines with storefs announce by themselves
        assert hinted(other, B)


def test_without_delete_unlink_is_denied_and_names_the_grant(native: Database) -> None:
    role = native.role(SEED)
    with closing(role.connect()) as store:
        revision = put(store, B, b"{}")
        for batch in ([Delete(B, revision)], [Put("auths/c", b"{}", None), Delete(B, revision)]):
            error = failed(commit(store, *batch), AccessDenied)
            assert "GRANT " in str(error)
            assert f'DELETE ON "public"."auth_store" TO "{role.user}"' in str(
                error
            ) or 'DELETE, INSERT ON "public"."auth_store"' in str(error)
        assert set(store.snapshot()) == {A, B}
        assert "no DELETE" in store.traits()["deletes"]


def test_with_select_alone_it_is_read_only(native: Database) -> None:
    before = objects(native)
    with closing(native.role("GRANT SELECT ON auth_store, config_store TO {}").connect()) as store:
        assert store.read_only
        assert store.traits()["writes"] == "none"
        assert set(store.snapshot()) == {A}
        error = failed(commit(store, Put(B, b"{}", None)), AccessDenied)
        assert "GRANT INSERT ON" in str(error)
    assert objects(native) == before


def test_a_reader_of_exact_bytes(database: Database) -> None:
    with closing(database.connect()) as owner:
        put(owner, A, b'{ "exact": 1 }')
        grant = f"GRANT SELECT ON {BOTH}, auth_store_storefs TO {{}}"
        with closing(database.role(grant).connect()) as store:
            assert content(store, A) == b'{ "exact": 1 }'
            assert store.traits()["bytes"] == "exact"
            assert store.traits()["changes"] == "pushed"
            put(owner, B, b"{}")
            assert hinted(store, B)


def test_a_writer_without_the_side_table_is_seen_by_those_who_have_it(database: Database) -> None:
    with (
        closing(database.connect()) as owner,
        closing(database.role(SEED).connect()) as store,
    ):
        put(owner, A, b'{ "n": 1 }')
        blob = read(store, A)
        assert blob is not None
        assert blob.data == b'{"n": 1}'
        put_outcome = done(commit(store, Put(A, b'{"n":2}', blob.entry.revision)))
        assert content(owner, A) == b'{"n": 2}'
        assert read(store, A) is not None
        assert store.snapshot()[A] == put_outcome[A] == owner.snapshot()[A]


def test_tables_that_are_missing_and_may_not_be_made(database: Database) -> None:
    role = database.role()
    with pytest.raises(AccessDenied, match=r"does not exist.*doctor --sql"):
        role.connect()
    with pytest.raises(Unavailable, match=r"does not exist; a mount that may write makes it"):
        database.connect(read_only=True)
    assert objects(database) == []


def test_no_right_to_read(native: Database) -> None:
    role = native.role("GRANT SELECT ON auth_store TO {}")
    with pytest.raises(AccessDenied, match=f'GRANT SELECT ON .*config_store" TO "{role.user}"'):
        role.connect()


def test_a_table_that_is_something_else(database: Database) -> None:
    database.run("CREATE TABLE auth_store (id int, content int)")
    with pytest.raises(Corrupt, match="PGSTORE_AUTH_TABLE"):
        database.connect()


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"PGSTORE_SCHEMA": 'Proxy\'s "own" %s; DROP\nTABLE x'},
        {"PGSTORE_SCHEMA": "s" * 80, "PGSTORE_AUTH_TABLE": "t" * 63},
        {"pgstore_schema": "lower", "PGSTORE_CONFIG_TABLE": "c c", "PGSTORE_AUTH_TABLE": 'a"a'},
    ],
)
def test_what_doctor_prints_is_all_that_an_account_needs(
    database: Database, names: dict[str, str]
) -> None:
    role = replace(database.role(), more=names)
    database.run(f"DROP ROLE {role.user}")
    place = place_of(role.env(), 5.0)
    tables = tables_in(place.schema or "public", place.config_table, place.auth_table)
    for _ in range(2):
        with database.session() as admin:
            admin.execute(administration(tables, role.user).encode())
    database.run(f"ALTER ROLE {role.user} PASSWORD '{database.cluster.password}'")
    with closing(role.connect()) as store:
        assert store.traits()["bytes"] == "exact"
        assert store.traits()["changes"] == "pushed"
        assert "lacking" not in store.traits()
        assert "deletes" not in store.traits()
        revision = put(store, A, b'{ "a": 1 }')
        assert content(store, A) == b'{ "a": 1 }'
        assert done(commit(store, Delete(A, revision))) == {}


def test_search_path_decides_where_no_schema_is_named(native: Database) -> None:
    native.run("CREATE SCHEMA other")
    url = f"{native.dsn}?search_path=other%2Cpublic"
    with closing(native.connect(env={"PGSTORE_DSN": url})) as store:
        assert set(store.snapshot()) == {A}  # the first schema of the path that has the table
        first = store.identity
    native.run("CREATE TABLE other.auth_store (LIKE auth_store INCLUDING ALL)")
    native.run("CREATE TABLE other.config_store (LIKE config_store INCLUDING ALL)")
    with closing(native.connect(env={"PGSTORE_DSN": url})) as store:
        assert store.snapshot() == {}
        assert store.identity != first


def test_both_forms_of_the_dsn_and_the_go_drivers_keys(native: Database) -> None:
    cluster = native.cluster
    words = f"host=127.0.0.1 port={cluster.port} user={native.user} dbname='{native.name}' "
    words += f"password = '{cluster.password}' sslmode=prefer"
    go = "pool_max_conns=3 default_query_exec_mode=simple_protocol statement_timeout=4s"
    url = f"{native.dsn}?pool_max_conns=3&default_query_exec_mode=exec&application_name=x+y"
    identities = set()
    for dsn in (native.dsn, url, words, f"{words} {go}"):
        with closing(connect(native.settings(env={"PGSTORE_DSN": dsn}))) as store:
            assert store.concurrency == (3 if "pool" in dsn else 8)
            assert set(store.snapshot()) == {A}
            identities.add(store.identity)
            assert cluster.password not in store.identity
    assert len(identities) == 1


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (("PASSWORD@", "wrong@"), AccessDenied, "password"),
        (("owner:", "nobody:"), AccessDenied, "password"),
        (("/DB", "/missing"), Unavailable, "create it"),
        (("/DB", "/DB?sslmode=require"), Unavailable, "sslmode"),
        (("127.0.0.1", "no.such.host.invalid"), Unavailable, "host"),
        ((":PORT/", ":UNUSED/"), Unavailable, "host and port"),
        (("/DB", "/DB?nonsense_key=1"), Unavailable, "take the parameter out"),
        (("/DB", "/DB?sslmode=nonsense"), StoreError, "sslmode"),
    ],
)
def test_a_wrong_dsn_is_one_line_that_names_the_setting(
    database: Database, change: tuple[str, str], kind: type[StoreError], said: str
) -> None:
    cluster = database.cluster
    dsn = "postgresql://owner:PASSWORD@127.0.0.1:PORT/DB".replace(*change)
    dsn = dsn.replace("UNUSED", str(free_port())).replace("PORT", str(cluster.port))
    dsn = dsn.replace("PASSWORD", cluster.password).replace("DB", database.name)
    with pytest.raises(kind) as caught:
        connect(database.settings(env={"PGSTORE_DSN": dsn}))
    text = str(caught.value)
    assert "PGSTORE_DSN" in text
    assert said in text
    assert "\n" not in text
    assert cluster.password not in text


def test_a_server_that_is_too_old(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_catalog, "OLDEST", 99)  # none older than 10 can be had
    with pytest.raises(Unavailable, match=r"too old; storefs needs 99") as caught:
        database.connect()
    text = str(caught.value)
    assert "PGSTORE_DSN" in text
    assert "\n" not in text
    assert database.cluster.password not in text


@pytest.mark.parametrize(
    "dsn", ["", "hunter2", "postgresql://u:hunter2@h:port/db", "password='hunter2", "a=b hunter2"]
)
def test_a_dsn_that_cannot_be_understood_is_not_shown(database: Database, dsn: str) -> None:
    with pytest.raises(Quit) as caught:
        place_of({"PGSTORE_DSN": dsn}, 5.0)
    assert "PGSTORE_DSN" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__context__ or "") or not dsn


def test_what_the_dsn_leaves_open_comes_from_the_environment(database: Database) -> None:
    cluster = database.cluster
    env = {
        "PGSTORE_DSN": f"host=127.0.0.1 dbname={database.name}",
        "PGPORT": str(cluster.port),
        "PGUSER": database.user,
        "PGPASSWORD": cluster.password,
    }
    with closing(connect(database.settings(env=env))) as store:
        assert store.snapshot() == {}
    assert cluster.password not in repr(place_of(env, 5.0))


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_never_answers(database: Database, silent: int) -> None:
    dsn = f"postgresql://u:p@127.0.0.1:{silent}/db"
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            connect(database.settings(deadline=2.0, env={"PGSTORE_DSN": dsn}))
        except StoreError as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert isinstance(failures[0], Unavailable)
    assert "PGSTORE_DSN" in str(failures[0])
