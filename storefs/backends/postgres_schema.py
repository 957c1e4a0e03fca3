"""The tables of a PostgreSQL store: their names, how they are made, who may do what. Pure.

Two tables are the native store's own, column for column. Beside them: one table with the exact
bytes of documents, and triggers that announce every change, whoever makes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

_NAME_MAX = 63
"""Bytes; PostgreSQL cuts longer names, silently."""

PAYLOAD_MAX = 1000
"""Bytes of an id that is announced by name; a NOTIFY bears less than 8,000."""

SWITCH = "storefs.hint"
"""A parameter of the transaction: `off` when the writer announces by itself what it changed."""

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRIGGER")
"""What an account may be allowed on a table, as far as it matters here."""

ROW_TRIGGER, TRUNCATE_TRIGGER = "storefs_hint", "storefs_hint_truncate"
_FUNCTION = "storefs_hint"

BODY = f"""
BEGIN
  -- Whatever goes wrong here must never make the write fail that it only wants to announce.
  IF pg_catalog.current_setting('{SWITCH}', true) = 'off'
     OR pg_catalog.pg_notification_queue_usage() > 0.5 THEN
    RETURN NULL;
  END IF;
  IF TG_LEVEL = 'STATEMENT' THEN
    PERFORM pg_catalog.pg_notify(TG_ARGV[0], '');
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    PERFORM pg_catalog.pg_notify(TG_ARGV[0], CASE
      WHEN pg_catalog.octet_length(OLD.id) <= {PAYLOAD_MAX} THEN OLD.id ELSE '' END);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM pg_catalog.pg_notify(TG_ARGV[0], CASE
      WHEN pg_catalog.octet_length(NEW.id) <= {PAYLOAD_MAX} THEN NEW.id ELSE '' END);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END
"""


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def cut(name: str) -> str:
    """The name that PostgreSQL makes of a longer one."""
    return name.encode()[:_NAME_MAX].decode(errors="ignore")


@dataclass(frozen=True)
class Table:
    """One table by its full name."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def channel(self) -> str:
        """Where its changes are announced; one of its own for each table of a database."""
        whole = f"{self.schema}\0{self.name}".encode()
        return f"storefs_{hashlib.sha256(whole).hexdigest()[:24]}"


@dataclass(frozen=True)
class Tables:
    """The tables of one store."""

    config: Table
    auth: Table

    @cached_property
    def side(self) -> Table:
        """The exact bytes of auth documents."""
        suffix = "_storefs"
        name = self.auth.name + suffix
        if len(name.encode()) > _NAME_MAX:
            digest = hashlib.sha256(self.auth.name.encode()).hexdigest()[:12]
            name = f"{self.auth.name.encode()[:40].decode(errors='ignore')}_{digest}{suffix}"
        return Table(self.auth.schema, name)

    @cached_property
    def function(self) -> str:
        """The function of all triggers in this schema."""
        return f"{quoted(self.auth.schema)}.{quoted(_FUNCTION)}"

    def __str__(self) -> str:
        if self.config.schema == self.auth.schema:
            return f"{self.auth.schema} ({self.config.name}, {self.auth.name})"
        return f"{self.config.schema} ({self.config.name}), {self.auth.schema} ({self.auth.name})"


def tables_in(schema: str, config: str, auth: str) -> Tables:
    """The tables of these names, as PostgreSQL shortens them."""
    return Tables(Table(cut(schema), cut(config)), Table(cut(schema), cut(auth)))


def make_schema(table: Table) -> str:
    """Of the native store, word for word."""
    return f"CREATE SCHEMA IF NOT EXISTS {quoted(table.schema)}"


def make_native(table: Table, content: str) -> str:
    """A table of the native store; `content` is the type of its one column that differs."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (\n"
        f"  id TEXT PRIMARY KEY,\n"
        f"  content {content} NOT NULL,\n"
        f"  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),\n"
        f"  updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW()\n)"
    )


def make_side(tables: Tables) -> str:
    """`digest`: of the text of `content` that `data` belongs to; `revision`: of `data`."""
    return (
        f"CREATE TABLE IF NOT EXISTS {tables.side} (\n"
        f"  id TEXT PRIMARY KEY,\n"
        f"  digest BYTEA NOT NULL,\n"
        f"  revision BYTEA NOT NULL,\n"
        f"  data BYTEA NOT NULL\n)"
    )


def make_function(tables: Tables) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {tables.function}() RETURNS trigger\n"
        f"LANGUAGE plpgsql AS $storefs${BODY}$storefs$"
    )


def drop_triggers(table: Table) -> list[str]:
    """For what is there of these names and is not what this version wants."""
    names = (ROW_TRIGGER, TRUNCATE_TRIGGER)
    return [f"DROP TRIGGER IF EXISTS {name} ON {table}" for name in names]


def make_triggers(tables: Tables, table: Table) -> list[str]:
    call = f"EXECUTE PROCEDURE {tables.function}('{table.channel}')"
    return [
        f"CREATE TRIGGER {ROW_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {table}\n"
        f"  FOR EACH ROW {call}",
        f"CREATE TRIGGER {TRUNCATE_TRIGGER} AFTER TRUNCATE ON {table}\n  FOR EACH STATEMENT {call}",
    ]


def grants(tables: Tables, role: str, *, delete: bool) -> list[str]:
    """What an account needs for everything, with or without the right to delete documents."""
    whom = quoted(role)
    native = "SELECT, INSERT, UPDATE" + (", DELETE" if delete else "")
    schemas = sorted({tables.config.schema, tables.auth.schema})
    return [
        *(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {whom}" for schema in schemas),
        f"GRANT {native} ON {tables.config}, {tables.auth} TO {whom}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables.side} TO {whom}",
    ]


def administration(tables: Tables, role: str) -> str:
    """What an administrator runs once, by psql, for accounts that may make nothing."""
    whom, native = quoted(role), f"{tables.config}, {tables.auth}"
    schemas = {table.schema: table for table in (tables.config, tables.auth)}
    triggers = [
        statement
        for table in (tables.config, tables.auth)
        for statement in (*drop_triggers(table), *make_triggers(tables, table))
    ]
    made = [
        *(make_schema(table) for schema, table in sorted(schemas.items()) if schema != "public"),
        make_native(tables.config, "TEXT"),
        make_native(tables.auth, "JSONB"),
        make_side(tables),
        make_function(tables),
        *triggers,
    ]
    parts = [
        _comment(
            "The tables of the proxy's own store, the exact bytes of documents beside them, and\n"
            "triggers that announce every change. Run it once, by psql, in the database of the\n"
            "store; it may be run again."
        ),
        "BEGIN;",
        *(f"{statement};" for statement in made),
        _comment(f"The account of the mounts; then set its password: \\password {whom}"),
        f"DO $storefs$ BEGIN\n"
        f"  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {_literal(role)}) THEN\n"
        f"    CREATE ROLE {whom} LOGIN;\n  END IF;\nEND $storefs$;",
        *(f"{statement};" for statement in grants(tables, role, delete=True)),
        _comment(
            "An account that may not delete documents (`unlink` fails with EACCES):\n"
            f"REVOKE DELETE ON {native} FROM {whom};"
        ),
        _comment(
            "An account that only reads (the mount is read-only) needs no more than\n"
            f"GRANT SELECT ON {native}, {tables.side} TO {whom};"
        ),
        _comment(
            "For queries of your own; storefs needs neither:\n"
            f"CREATE INDEX IF NOT EXISTS {_index(tables, 'updated_at')} ON {tables.auth} "
            "(updated_at);\n"
            f"CREATE INDEX IF NOT EXISTS {_index(tables, 'content')} ON {tables.auth} "
            "USING gin (content);"
        ),
        "COMMIT;",
    ]
    return "\n\n".join(parts) + "\n"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _comment(text: str) -> str:
    """Every line of it: a name may hold a line break."""
    return "\n".join(f"-- {line}" for line in text.splitlines())


def _index(tables: Tables, column: str) -> str:
    return quoted(f"{tables.auth.name.encode()[:40].decode(errors='ignore')}_{column}_idx")
