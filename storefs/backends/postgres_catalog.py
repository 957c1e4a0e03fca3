"""What a PostgreSQL database holds for us and lets us do; and making what is missing.

The catalog is asked before anything is made: `CREATE … IF NOT EXISTS` is refused without the
right to create even where everything exists.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors as pg

from storefs.backends import postgres_schema as schema
from storefs.backends.postgres_schema import Table, Tables, cut, quoted
from storefs.errors import AccessDenied, Corrupt, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from storefs.backends.postgres_dsn import Place

log = logging.getLogger(__name__)

Session = psycopg.Connection[tuple[Any, ...]]

OLDEST = 10
_RACES = 5
"""Tries of a statement that another machine may be running at the same moment."""

_LOCK_WAIT = "2s"
"""Making a trigger waits for every writer of the table; then the mount does without."""

_SERVER = b"""
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
  pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
  coalesce(current_schema()::text, ''), current_user::text, current_database()::text,
  has_database_privilege(current_database(), 'CREATE')
"""
_SCHEMA_OF = b"""
SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s)
"""
_SCHEMA = b"""
SELECT has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE')
FROM pg_namespace WHERE nspname = %s
"""
_TABLE = f"""
SELECT c.oid::bigint, pg_has_role(c.relowner, 'USAGE'),
  ARRAY(SELECT r FROM unnest(ARRAY{[*schema.RIGHTS]}) r
    WHERE has_table_privilege(c.oid, r)),
  coalesce((SELECT a.atttypid::regtype::text FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attname = %s AND NOT a.attisdropped), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
""".encode()
_TRIGGERS = b"""
SELECT t.tgname::text, t.tgenabled::text IN ('O', 'A'), t.tgargs, p.prosrc
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = %s::bigint::oid AND t.tgname = ANY(%s)
"""


@dataclass(frozen=True)
class Held:
    """One table as the catalog has it. `content`: the type of the column that holds documents."""

    oid: int = 0
    owned: bool = False
    rights: frozenset[str] = frozenset()
    content: str = ""
    hints: bool = False
    """Its triggers are there, switched on, and announce on the right channel."""
    current: bool = False
    """They do what this version wants."""
    named: bool = False
    """There are triggers of these names, whatever they do."""

    def allows(self, *rights: str) -> bool:
        """Whether the account has all of these rights on it."""
        return self.rights.issuperset(rights)


@dataclass(frozen=True)
class Look:
    """One look at a database through one session."""

    version: int
    """As in server_version_num."""
    release: str
    read_only: bool
    """A standby, or an account whose transactions may not write."""
    user: str
    database: str
    tables: Tables
    config: Held
    auth: Held
    side: Held
    may_create: dict[str, bool] = field(hash=False)
    """By schema; for a schema that is missing, whether it may be made."""
    missing: frozenset[str]
    """Schemas that are missing."""

    @property
    def hints(self) -> bool:
        """Whether every change is announced, whoever makes it."""
        return self.config.hints and self.auth.hints

    @property
    def exact_reads(self) -> bool:
        """Whether there are exact bytes to read."""
        return bool(self.side.oid) and self.side.allows("SELECT")

    @property
    def exact(self) -> bool:
        """Whether exact bytes are kept."""
        return self.exact_reads and (self.side.allows("INSERT", "UPDATE") or not self.may_write)

    @property
    def may_write(self) -> bool:
        return not self.read_only and any(
            held.allows(right)
            for held in (self.config, self.auth)
            for right in ("INSERT", "UPDATE")
        )


def look(session: Session, place: Place, tables: Tables | None = None) -> Look:
    """Ask the catalog, about `tables` if they are known already.

    Raises psycopg.Error; Unavailable for a server that is too old, or where no schema is to be
    found; AccessDenied where one is closed.
    """
    row = session.execute(_SERVER).fetchone()
    assert row is not None
    version, release, read_only, current, user, database, may_make_schemas = row
    if version < OLDEST * 10_000:
        raise Unavailable(
            "", f"{place.where}: PostgreSQL {release} is too old; storefs needs {OLDEST} or newer: "
            "upgrade the server, or name another one in PGSTORE_DSN",
        )  # fmt: skip
    tables = tables or Tables(
        _named(session, place, place.config_table, current),
        _named(session, place, place.auth_table, current),
    )
    may_create, missing = {}, set()
    for name in {tables.config.schema, tables.auth.schema}:
        found = session.execute(_SCHEMA, (name,)).fetchone()
        if found is None:
            missing.add(name)
        elif not found[0]:
            raise AccessDenied("", _lacks(user, f"USAGE ON SCHEMA {quoted(name)}"))
        may_create[name] = may_make_schemas if found is None else found[1]
    return Look(
        version, release, read_only, user, database, tables,
        _held(session, tables.config, "content", hints=True),
        _held(session, tables.auth, "content", hints=True),
        _held(session, tables.side, "data", hints=False),
        may_create, frozenset(missing),
    )  # fmt: skip


def _named(session: Session, place: Place, name: str, current: str) -> Table:
    if place.schema:
        return Table(cut(place.schema), cut(name))
    found = session.execute(_SCHEMA_OF, (quoted(name),)).fetchone()
    if found is None and not current:
        raise Unavailable(
            "", f"{place.where}: no schema of the search path exists; set PGSTORE_SCHEMA, or "
            "search_path in PGSTORE_DSN",
        )  # fmt: skip
    return Table(found[0] if found else current, cut(name))


def _held(session: Session, table: Table, column: str, *, hints: bool) -> Held:
    found = session.execute(_TABLE, (column, table.schema, table.name)).fetchone()
    if found is None:
        return Held()
    oid, owned, rights, content = found
    if not hints:
        return Held(oid, owned, frozenset(rights), content)
    names = [schema.ROW_TRIGGER, schema.TRUNCATE_TRIGGER]
    triggers = session.execute(_TRIGGERS, (oid, names)).fetchall()
    wanted = table.channel.encode() + b"\0"
    right = [enabled and bytes(arguments) == wanted for _, enabled, arguments, _ in triggers]
    works = len(triggers) == len(names) and all(right)
    current = works and all(body == schema.BODY for *_, body in triggers)
    return Held(oid, owned, frozenset(rights), content, works, current, bool(triggers))


def check(found: Look) -> None:
    """Raises AccessDenied, Unavailable or Corrupt unless the native tables can be read."""
    for table, held, types in (
        (found.tables.config, found.config, ("text", "character varying")),
        (found.tables.auth, found.auth, ("jsonb", "json", "text")),
    ):
        if not held.oid:
            makes = not found.read_only and found.may_create.get(table.schema)
            step = "a mount that may write makes it" if makes else _ADVICE
            raise Unavailable("", f"the table {table} does not exist; {step}")
        if held.content not in types:
            raise Corrupt(
                "", f"{table}.content is {held.content or 'missing'}, not {types[0]}; set "
                "PGSTORE_SCHEMA, PGSTORE_CONFIG_TABLE or PGSTORE_AUTH_TABLE to the proxy's tables",
            )  # fmt: skip
        if not held.allows("SELECT"):
            raise AccessDenied("", _lacks(found.user, f"SELECT ON {table}"))


_ADVICE = "an administrator runs once what `storefs doctor --sql` prints"


def _lacks(user: str, right: str) -> str:
    return f"{user} lacks a right; an administrator runs: GRANT {right} TO {quoted(user)}"


def make_native(session: Session, found: Look) -> bool:
    """Make the native tables, and their schema, where they are missing; whether any was.

    Raises AccessDenied, psycopg.Error.
    """
    wanted = [
        (table, content)
        for table, held, content in (
            (found.tables.config, found.config, "TEXT"),
            (found.tables.auth, found.auth, "JSONB"),
        )
        if not held.oid
    ]
    for table, content in wanted:
        if found.read_only or not found.may_create[table.schema]:
            raise AccessDenied(
                "", f"the table {table} does not exist, and {found.user} may not make it; {_ADVICE}"
            )
        steps = [schema.make_schema(table)] if table.schema in found.missing else []
        _run(session, [*steps, schema.make_native(table, content)])
        log.info("made the table %s", table)
    return bool(wanted)


def make_own(session: Session, found: Look) -> bool:
    """Make the side table and the triggers as far as the account may; whether any was made."""
    if found.read_only or not (found.config.oid and found.auth.oid):
        return False
    tables, made = found.tables, False
    may_create = found.may_create[tables.auth.schema]
    if not found.side.oid and may_create and found.auth.allows("INSERT", "UPDATE"):
        made |= _try(session, "the table for exact bytes", [schema.make_side(tables)])
    both = ((tables.config, found.config), (tables.auth, found.auth))
    stale = [(table, held) for table, held in both if not held.current]
    # To replace what is there one must own it; to make what is missing the right is enough.
    if (
        stale
        and may_create
        and all(h.owned or (h.allows("TRIGGER") and not h.named) for _, h in stale)
    ):
        steps = [schema.make_function(tables)]
        for table, held in stale:
            steps += schema.drop_triggers(table) if held.named else []
            steps += schema.make_triggers(tables, table)
        made |= _try(session, "the triggers", steps)
    return made


def _try(session: Session, what: str, statements: Iterable[str]) -> bool:
    try:
        _run(session, statements)
    except psycopg.OperationalError as error:
        if not isinstance(error, pg.LockNotAvailable):
            raise
        log.warning("%s could not be made, other writers hold the tables: later", what)
        return False
    except psycopg.Error as error:
        log.info("%s could not be made: %s", what, error.diag.message_primary or error)
        return False
    log.info("made %s", what)
    return True


def _run(session: Session, statements: Iterable[str]) -> None:
    """In one transaction; again if another machine was making the same."""
    steps = list(statements)

    def once() -> None:
        with session.transaction():
            session.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'".encode())
            for step in steps:
                session.execute(step.encode())

    _again(once)


def _again(call: Callable[[], None]) -> None:
    for left in reversed(range(_RACES)):
        try:
            return call()
        except (
            pg.UniqueViolation, pg.DuplicateTable, pg.DuplicateObject, pg.DuplicateSchema,
            pg.InternalError_, pg.DeadlockDetected,
        ):  # fmt: skip
            if not left:
                raise
    return None
