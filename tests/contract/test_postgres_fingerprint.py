"""The fingerprint of the rows: whoever writes one, whatever the way, it is another."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from storefs.backends import postgres_reads
from tests.contract.steps import put, read
from tests.contract.test_postgres import CONFIG, A, store  # noqa: F401 - a fixture
from tests.contract.test_postgres_rights import BOTH, native  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from storefs.backends.postgres import Postgres
    from tests.servers.postgres_cluster import Database


@pytest.fixture(autouse=True)
def _not_the_oldest(database: Database) -> None:
    if database.version < 110_000:
        pytest.skip("PostgreSQL 10 cannot hash what a fingerprint is made of: there is none")


def test_it_stays_while_nobody_writes(store: Postgres, database: Database) -> None:  # noqa: F811
    put(store, A, b'{"a": 1}')
    put(store, CONFIG, b"a: 1\n")
    before = store.fingerprint()
    assert before
    database.run("SELECT * FROM auth_store FOR UPDATE")
    for table in ("auth_store", "config_store"):
        database.run(f"VACUUM (FREEZE, ANALYZE) {table}")
    assert read(store, A) is not None
    assert store.fingerprint() == before
    with closing(database.connect()) as other:
        assert other.fingerprint() == before


def test_every_way_to_change_a_row_changes_it(store: Postgres, database: Database) -> None:  # noqa: F811
    put(store, A, b'{"a": 1}')
    put(store, CONFIG, b"a: 1\n")
    side = store._now.look.tables.side
    seen = [store.fingerprint()]
    for statement in (
        "UPDATE auth_store SET content = '{\"a\": 2}'",
        "UPDATE auth_store SET content = '{\"a\": 1}'",
        "UPDATE auth_store SET content = content",
        "INSERT INTO auth_store (id, content) VALUES ('b.json', '{}')",
        "UPDATE auth_store SET id = 'c.json' WHERE id = 'b.json'",
        "DELETE FROM auth_store WHERE id = 'c.json'",
        f"DELETE FROM {side}",
        "UPDATE config_store SET content = 'a: 2'",
        "DELETE FROM config_store",
        "TRUNCATE auth_store",
        "INSERT INTO auth_store (id, content) VALUES ('a.json', '{\"a\": 1}')",
    ):
        database.run(statement)
        seen.append(store.fingerprint())
    assert all(before != after for before, after in pairwise(seen))


def test_rows_written_by_one_transaction_tell_tables_apart(
    store: Postgres,  # noqa: F811
    database: Database,
) -> None:
    """A restored dump gives all rows one stamp; here another table takes the name."""
    with database.session() as session:
        with session.transaction():
            session.execute("CREATE TABLE other (LIKE auth_store INCLUDING ALL)")
            for table, content in (("auth_store", "{}"), ("other", '{"another": 1}')):
                session.execute(f"INSERT INTO {table} VALUES ('a.json', '{content}')".encode())
        before, listing = store.fingerprint(), store.snapshot()
        with session.transaction():
            session.execute("ALTER TABLE auth_store RENAME TO away")
            session.execute("ALTER TABLE other RENAME TO auth_store")
    assert store.look_again()
    assert store.snapshot() != listing
    assert store.fingerprint() != before


def test_an_account_that_may_only_read_gets_one(native: Database) -> None:  # noqa: F811
    with closing(native.role(f"GRANT SELECT ON {BOTH} TO {{}}").connect()) as reader:
        before = reader.fingerprint()
        assert before
        native.run("UPDATE auth_store SET content = '{}'")
        assert reader.fingerprint() != before


def test_a_server_without_the_function_gives_none(store: Postgres) -> None:  # noqa: F811
    now = store._now
    with store._sessions.use(5) as session:
        old = replace(now, statements=replace(now.statements, fingerprint=b""))
        assert postgres_reads.fingerprint(session, old, 5) == ""
