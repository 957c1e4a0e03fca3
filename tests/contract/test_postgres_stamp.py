"""The stamp of the catalog: another one whenever a look would find something else."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

from storefs.backends import postgres_catalog
from storefs.backends.postgres_schema import ROW_TRIGGER
from storefs.backends.postgres_stamp import stamp
from tests.contract.steps import put
from tests.contract.test_postgres import CONFIG, A, store  # noqa: F401 - a fixture
from tests.contract.test_postgres_rights import BOTH, native  # noqa: F401 - a fixture

if TYPE_CHECKING:
    import pytest

    from storefs.backends.postgres import Postgres
    from tests.servers.postgres_cluster import Database


def stamped(store: Postgres) -> str:  # noqa: F811
    with store._sessions.use(5) as session:
        return stamp(session, store._now.look.tables)


def test_it_stays_while_documents_change(store: Postgres, database: Database) -> None:  # noqa: F811
    before = stamped(store)
    put(store, A, b'{"a": 1}')
    put(store, CONFIG, b"a: 1\n")
    database.run("VACUUM ANALYZE auth_store")
    assert stamped(store) == before


def test_what_changes_the_tables_changes_it(store: Postgres, database: Database) -> None:  # noqa: F811
    look = store._now.look
    (function,) = database.run(
        f"SELECT tgfoid::regproc::text FROM pg_trigger WHERE tgname = '{ROW_TRIGGER}' LIMIT 1"
    )[0]
    seen = [stamped(store)]
    for statement in (
        f"ALTER TABLE auth_store DISABLE TRIGGER {ROW_TRIGGER}",
        f"ALTER TABLE auth_store ENABLE TRIGGER {ROW_TRIGGER}",
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'",
        f"DROP TRIGGER {ROW_TRIGGER} ON config_store",
        f"DROP TABLE {look.tables.side}",
        "ALTER TABLE config_store ALTER COLUMN content TYPE varchar",
        "ALTER TABLE auth_store RENAME TO away",
        "ALTER TABLE away RENAME TO auth_store",
        "ALTER SCHEMA public RENAME TO elsewhere",
    ):
        database.run(statement)
        seen.append(stamped(store))
    assert all(before != after for before, after in pairwise(seen))


def test_what_changes_the_rights_changes_it(native: Database) -> None:  # noqa: F811
    limited = native.role(f"GRANT SELECT ON {BOTH} TO {{}}")
    writer = native.role(f"GRANT DELETE ON {BOTH} TO {{}}")
    with closing(limited.connect()) as reader:
        seen = [stamped(reader)]
        for statement in (
            f"GRANT UPDATE ON auth_store TO {limited.user}",
            f"REVOKE UPDATE ON auth_store FROM {limited.user}",
            f"GRANT INSERT ON {BOTH} TO PUBLIC",
            f"GRANT CREATE ON SCHEMA public TO {limited.user}",
            f"GRANT CREATE ON DATABASE {native.name} TO {limited.user}",
            f"GRANT {writer.user} TO {limited.user}",
        ):
            native.run(statement)
            seen.append(stamped(reader))
    assert all(before != after for before, after in pairwise(seen))


def test_as_long_as_it_stays_nobody_looks(
    store: Postgres,  # noqa: F811
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, look = [], postgres_catalog.look

    def counted(*words: object) -> object:
        looks.append(words)
        return look(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(postgres_catalog, "look", counted)
    with store._sessions.use(5) as session:
        store._refreshed(session)
        looks.clear()
        store._refreshed(session)
        assert not looks
        assert store.look_again()
        assert looks.pop()
        database.run(f"ALTER TABLE auth_store DISABLE TRIGGER {ROW_TRIGGER}")
        store._refreshed(session)
        assert looks


def test_what_could_not_be_made_is_looked_for_again(native: Database) -> None:  # noqa: F811
    """An administrator may make it at any time; the stamp says so, and a look is no less sure."""
    with (
        closing(native.role(f"GRANT SELECT ON {BOTH} TO {{}}").connect()) as reader,
        reader._sessions.use(5) as session,
    ):
        reader._refreshed(session)
        assert reader._known is not None
        assert reader._known._stamp == ""
