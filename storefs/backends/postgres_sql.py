"""The statements of a PostgreSQL store, written for its tables and for what the account may do.

The revision of a document is the digest of the bytes that `read` returns: those of the side
table where its row belongs to the present text of `content`, else that text itself. So whoever
writes `content` without us, wins, and need not know that the side table exists. Texts are
compared, not JSON values: for PostgreSQL 1 = 1.0.

A put of one document is one statement: it compares, changes the row and keeps the bytes. Under
READ COMMITTED an UPDATE that had to wait for another writer compares with what that one left.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.backends.postgres_schema import SWITCH, Table, Tables

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_ID = "config"
"""The one row of the config table that the native store knows."""

_TIME = (
    "CASE WHEN {0}.updated_at >= '1970-01-01Z' AND {0}.updated_at < '2262-01-01Z'"
    " THEN (extract(epoch FROM {0}.updated_at) * 1000000)::bigint ELSE 0 END"
)
"""Microseconds; 0 for what no file system can show, infinity among them."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest that the server and we compute alike."""

    function: str
    compute: Callable[[bytes], bytes]
    is_sha256: bool

    def of(self, text: str) -> str:
        """In SQL, of an expression of type text."""
        return f"{self.function.format(f'convert_to({text}, {_UTF8})')}"


_UTF8 = "'UTF8'"


def digest_for(version: int) -> Digest:
    """SHA-256; of the servers that storefs knows, PostgreSQL 10 alone has none."""
    if version >= 110_000:
        return Digest("sha256({})", lambda data: hashlib.sha256(data).digest(), is_sha256=True)
    return Digest(
        "decode(md5({}), 'hex')",
        lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
        is_sha256=False,
    )


@dataclass(frozen=True, slots=True)
class Statements:
    """Everything that is ever sent. Puts and deletes take id, expect, revision and data by name.

    Each put answers with one row when it was done, none when the document is not as expected:
    the time, and revision and size as `read` has them. Each delete answers with one row: whether
    it was done, and whether the document was there.
    """

    snapshot: bytes
    fingerprint: bytes
    """One row, another one whenever a row was written; empty for PostgreSQL 10, which cannot."""
    read_auth: bytes
    """Takes `ids`: rows of id, data, time."""
    read_config: bytes
    everything: bytes
    """Takes `most`, bytes: rows of whether it is the config, id, data, length, time; data is NULL
    where it is longer."""
    create_auth: bytes
    replace_auth: bytes
    delete_auth: bytes
    create_config: bytes
    replace_config: bytes
    delete_config: bytes
    lock: bytes
    """Takes `ids`: holds the rows of a batch, in one order whoever asks."""
    purge: bytes
    """Takes bytes away whose document was deleted by others; empty where we may not."""


def statements(
    tables: Tables, digest: Digest, *, reads: bool, writes: bool, purges: bool
) -> Statements:
    """`reads`, `writes`, `purges`: whether the side table is read, kept up, tidied."""
    side = tables.side if reads else None
    kept = tables.side if writes else None
    return Statements(
        snapshot=_snapshot(tables, side, digest),
        fingerprint=_fingerprint(tables, side) if digest.is_sha256 else b"",
        read_auth=_read(tables.auth, side, digest),
        read_config=_read(tables.config, None, digest),
        everything=_everything(tables, side, digest),
        create_auth=_put(tables.auth, side, kept, digest, "jsonb", create=True),
        replace_auth=_put(tables.auth, side, kept, digest, "jsonb", create=False),
        delete_auth=_delete(tables.auth, side, tables.side if purges else None, digest),
        create_config=_put(tables.config, None, None, digest, "text", create=True),
        replace_config=_put(tables.config, None, None, digest, "text", create=False),
        delete_config=_delete(tables.config, None, None, digest),
        lock=_lock(tables.auth).encode(),
        purge=_purge(tables).encode() if purges else b"",
    )


def _sql(table: Table) -> str:
    """The name, in a statement with placeholders."""
    return str(table).replace("%", "%%")


def _lock(table: Table) -> str:
    return f"SELECT id FROM {_sql(table)} WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE"


def _snapshot(tables: Tables, side: Table | None, digest: Digest) -> bytes:
    # The inner queries are kept apart (OFFSET 0) so that the text is made once a row.
    texts = f"SELECT id, content::text AS t, {_TIME.format('r')} AS m FROM {{0}} r {{1}} OFFSET 0"
    listed = (
        f"SELECT id, {digest.of('t')} AS d, octet_length(convert_to(t, {_UTF8})) AS n, m"
        f" FROM ({texts}) x OFFSET 0"
    )
    auth = listed.format(_sql(tables.auth), "")
    config = listed.format(_sql(tables.config), f"WHERE id = '{CONFIG_ID}'")
    if side is None:
        rows = f"SELECT false, a.id, a.d, a.n, a.m FROM ({auth}) a"
    else:
        rows = (
            "SELECT false, a.id, CASE WHEN s.digest = a.d THEN s.revision ELSE a.d END,"
            " CASE WHEN s.digest = a.d THEN octet_length(s.data) ELSE a.n END, a.m"
            f" FROM ({auth}) a LEFT JOIN {_sql(side)} s ON s.id = a.id"
        )
    return f"{rows} UNION ALL SELECT true, c.id, c.d, c.n, c.m FROM ({config}) c".encode()


def _fingerprint(tables: Tables, side: Table | None) -> bytes:
    # Who writes a row stamps it with the number of the transaction (xmin). Numbers of another
    # server, or of a restored dump, may be the same: so the tables and the server count too.
    rows = " UNION ALL ".join(
        f"SELECT id, tableoid::bigint << 32 | xmin::text::bigint FROM {_sql(table)}"
        for table in (tables.auth, tables.config, side)
        if table is not None
    )
    return (
        "SELECT concat_ws(' ', pg_postmaster_start_time(), count(*),"
        f" sum(hashtextextended(id, stamp))) FROM ({rows}) x(id, stamp)"
    ).encode()


def _read(table: Table, side: Table | None, digest: Digest) -> bytes:
    return _contents(table, side, digest, "id = ANY(%(ids)s)").encode()


def _everything(tables: Tables, side: Table | None, digest: Digest) -> bytes:
    auth = _contents(tables.auth, side, digest, "true")
    config = _contents(tables.config, None, digest, f"id = '{CONFIG_ID}'")
    return (
        "SELECT c, id, CASE WHEN n <= %(most)s THEN d END, n, m FROM ("
        f"SELECT c, id, d, octet_length(d) AS n, m FROM (SELECT false, a.* FROM ({auth}) a"
        f" UNION ALL SELECT true, c.* FROM ({config}) c) x(c, id, d, m) OFFSET 0) y"
    ).encode()


def _contents(table: Table, side: Table | None, digest: Digest, which: str) -> str:
    # Documents that only others wrote have no row in the side table, and need no digest.
    present = f"SELECT id, content::text AS t, {_TIME.format('r')} AS m FROM {_sql(table)} r"
    present = f"({present} WHERE {which} OFFSET 0) a"
    data, joined = f"convert_to(a.t, {_UTF8})", ""
    if side is not None:
        exact = f"s.id IS NOT NULL AND s.digest = {digest.of('a.t')}"
        data = f"CASE WHEN {exact} THEN s.data ELSE {data} END"
        joined = f" LEFT JOIN {_sql(side)} s ON s.id = a.id"
    return f"SELECT a.id, {data}, a.m FROM {present}{joined}"


def _present(side: Table | None, digest: Digest) -> str:
    """The revision of the row `a`."""
    own = digest.of("a.content::text")
    if side is None:
        return own
    return (
        f"coalesce((SELECT s.revision FROM {_sql(side)} s"
        f" WHERE s.id = a.id AND s.digest = {own}), {own})"
    )


def _put(
    table: Table, side: Table | None, kept: Table | None, digest: Digest, kind: str, *, create: bool
) -> bytes:
    content = f"convert_from(%(data)b, {_UTF8})::{kind}"
    told = f"RETURNING a.id, a.content::text AS t, {_TIME.format('a')} AS m"
    if create:
        change = (
            f"INSERT INTO {_sql(table)} AS a (id, content, created_at, updated_at)"
            f" VALUES (%(id)s, {content}, NOW(), NOW()) ON CONFLICT (id) DO NOTHING {told}"
        )
    else:
        change = (
            f"UPDATE {_sql(table)} AS a SET content = {content}, updated_at = NOW()"
            f" WHERE a.id = %(id)s AND {_present(side, digest)} = %(expect)s {told}"
        )
    changed = f"WITH changed AS ({change})"
    quiet = f"set_config('{SWITCH}', 'off', true)"
    if kept is not None:
        return (
            f"{changed}, kept AS (INSERT INTO {_sql(kept)} AS s (id, digest, revision, data)"
            f" SELECT id, {digest.of('t')}, %(revision)s, %(data)b FROM changed"
            f" ON CONFLICT (id) DO UPDATE SET digest = EXCLUDED.digest,"
            f" revision = EXCLUDED.revision, data = EXCLUDED.data)"
            f" SELECT m, %(revision)s::bytea, octet_length(%(data)b::bytea), {quiet} FROM changed"
        ).encode()
    own = digest.of("c.t")
    if side is None:
        return (
            f"{changed} SELECT m, {own}, octet_length(convert_to(c.t, {_UTF8})), {quiet}"
            " FROM changed c"
        ).encode()
    return (
        f"{changed} SELECT m, coalesce(s.revision, {own}),"
        f" coalesce(octet_length(s.data), octet_length(convert_to(c.t, {_UTF8}))), {quiet}"
        f" FROM changed c LEFT JOIN {_sql(side)} s ON s.id = c.id AND s.digest = {own}"
    ).encode()


def _delete(table: Table, side: Table | None, kept: Table | None, digest: Digest) -> bytes:
    tidy = (
        f", tidied AS (DELETE FROM {_sql(kept)} WHERE id IN (SELECT id FROM gone))" if kept else ""
    )
    return (
        f"WITH gone AS (DELETE FROM {_sql(table)} a WHERE a.id = %(id)s"
        f" AND {_present(side, digest)} = %(expect)s RETURNING a.id){tidy}"
        f" SELECT EXISTS (SELECT 1 FROM gone),"
        f" EXISTS (SELECT 1 FROM {_sql(table)} WHERE id = %(id)s),"
        f" set_config('{SWITCH}', 'off', true)"
    ).encode()


def _purge(tables: Tables) -> str:
    # By xmin: a row that somebody has written anew meanwhile is not the one that was left over.
    return (
        f"DELETE FROM {_sql(tables.side)} s USING (SELECT id, xmin AS x FROM {_sql(tables.side)} o"
        f" WHERE NOT EXISTS (SELECT 1 FROM {_sql(tables.auth)} a WHERE a.id = o.id)) left_over"
        f" WHERE s.id = left_over.id AND s.xmin = left_over.x"
    )
