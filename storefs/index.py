"""The index: what the mirror holds, at which revision. SQLite, below the root.

It can be lost: everything in it is found again by asking the backend. Used by one thread at
a time (the start, then the mirror's writer).
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_FORMAT = 1
_SCHEMA = """
CREATE TABLE documents (
    path     TEXT PRIMARY KEY,
    revision TEXT NOT NULL,     -- the backend's; empty: it vanished there (config.yaml only)
    size     INTEGER NOT NULL,  -- bytes, in stored form
    mtime_ns INTEGER NOT NULL,  -- as shown, and as set on the mirror file
    digest   BLOB NOT NULL,     -- SHA-256 of the stored bytes
    previous BLOB NOT NULL      -- the digest before; explains a file that a crash left behind
) WITHOUT ROWID
"""
_SUPERSEDED = """
CREATE TABLE IF NOT EXISTS superseded (
    path   TEXT PRIMARY KEY,
    groups BLOB NOT NULL        -- digests of token groups that were replaced, the newest last
) WITHOUT ROWID
"""


class Row(NamedTuple):
    """One document as the index knows it; the columns are explained in the schema."""

    path: str
    revision: str
    size: int
    mtime_ns: int
    digest: bytes
    previous: bytes


class Index:
    """The table of documents. A file that cannot be used is set aside and begun anew."""

    def __init__(self, file: Path, *, expected: bool = False) -> None:
        """`expected`: the root was used before, so it is worth a warning when there is none."""
        self._file = file
        self._expected = expected
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError as error:
            aside = file.with_name(file.name + ".unusable")
            log.warning(
                "%s: the index cannot be used (%s); set aside as %s and rebuilt from the backend",
                file,
                error,
                aside.name,
            )
            self._set_aside(aside)
            self._expected = False
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            with closing(db.execute("PRAGMA user_version")) as cursor:
                found: int = cursor.fetchone()[0]
            if found == 0:
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA user_version={_FORMAT}")
                if self._expected:
                    log.warning("%s: the index is missing; rebuilt from the backend", self._file)
            elif found != _FORMAT:
                raise sqlite3.DatabaseError(f"format {found}, this version reads {_FORMAT}")
            db.execute(_SUPERSEDED)
            db.execute(f"SELECT {', '.join(Row._fields)} FROM documents LIMIT 0").close()
            with closing(db.execute("PRAGMA quick_check(1)")) as cursor:
                verdict: str = cursor.fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(" ".join(verdict.split()))
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, aside: Path) -> None:
        self._file.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)

    def rows(self) -> Iterator[Row]:
        """Every row. Raises sqlite3.Error.

        Paths are interned: the tables that know one share its bytes.
        """
        with closing(self._db.execute("SELECT * FROM documents ORDER BY path")) as cursor:
            for path, *rest in cursor:
                yield Row(sys.intern(path), *rest)

    def write(
        self,
        puts: Iterable[Row],
        deletes: Iterable[str],
        superseded: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Apply all in one transaction. Raises sqlite3.Error; then nothing is applied.

        `superseded`: by path, the digests to keep; empty: none any more.
        """
        db = self._db
        db.execute("BEGIN")
        try:
            db.executemany("DELETE FROM documents WHERE path = ?", ((p,) for p in deletes))
            db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)", puts)
            kept = [(path, groups) for path, groups in superseded.items() if groups]
            over = [(path,) for path, groups in superseded.items() if not groups]
            db.executemany("INSERT OR REPLACE INTO superseded VALUES (?, ?)", kept)
            db.executemany("DELETE FROM superseded WHERE path = ?", over)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has ended it already
                db.execute("ROLLBACK")
            raise

    def superseded(self) -> Iterator[tuple[str, bytes]]:
        """Path and joined digests of whose tokens were replaced. Raises sqlite3.Error."""
        with closing(self._db.execute("SELECT path, groups FROM superseded")) as cursor:
            yield from cursor

    def close(self) -> None:
        """Leave one complete file behind."""
        self._db.close()
