"""Commits to a PostgreSQL store: which statements go out together, and what their end means.

Batches of one document, which is almost all of them, are one statement each. Those of one call
are sent at once, in the order of their paths, as one transaction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from storefs.backends.contract import (
    Batch,
    Change,
    Delete,
    Entry,
    Outcome,
    Revision,
    check_place,
)
from storefs.backends.postgres_errors import AGAIN, GONE, translate
from storefs.backends.postgres_schema import PAYLOAD_MAX, quoted
from storefs.backends.postgres_sql import CONFIG_ID
from storefs.errors import Conflict, Invalid, StoreError
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from psycopg import Cursor

    from storefs.backends.postgres_announce import Announcer
    from storefs.backends.postgres_catalog import Look
    from storefs.backends.postgres_dsn import Place
    from storefs.backends.postgres_pool import Session, Sessions
    from storefs.backends.postgres_schema import Table
    from storefs.backends.postgres_sql import Digest, Statements

_AUTHS = "auths/"
_LEAST = 0.05
_NO_REVISION = b""
"""Equal to none: what is expected is no digest at all."""

_Row = tuple[Any, ...]


class _Refused(Exception):
    """A path of the batch is not as expected: its transaction must not be."""

    def __init__(self, failure: StoreError) -> None:
        super().__init__()
        self.failure = failure


@dataclass(frozen=True)
class Writes:
    """One call of commit. `until`: monotonic time at which everybody has given up."""

    sessions: Sessions
    announcer: Announcer
    place: Place
    look: Look
    statements: Statements
    digest: Digest
    until: float

    def apply(self, batches: Sequence[Batch]) -> list[Outcome]:
        """The outcome of each batch, in their order. Raises nothing."""
        outcomes: dict[int, Outcome] = {}
        single: list[tuple[int, Change]] = []
        for number, batch in enumerate(batches):
            try:
                for change in batch:
                    _check(change.path)
            except StoreError as refusal:
                outcomes[number] = refusal
                continue
            if len(batch) == 1:
                single.append((number, batch[0]))
        outcomes.update(self._singles(sorted(single, key=lambda item: item[1].path)))
        for number, batch in enumerate(batches):
            if number not in outcomes:
                outcomes[number] = self._tried(batch)
        return [outcomes[number] for number in range(len(batches))]

    def _singles(self, items: Sequence[tuple[int, Change]]) -> dict[int, Outcome]:
        """Together if that goes well; else each by itself, for one error undoes them all."""
        if len(items) > 1:
            try:
                found = self._together([change for _, change in items])
            except psycopg.Error as error:
                if error.sqlstate is None or error.sqlstate in GONE:
                    return {number: self._failure([change], error) for number, change in items}
            except StoreError as failure:
                return {number: failure for number, _ in items}
            else:
                return {number: one for (number, _), one in zip(items, found, strict=True)}
        return {number: self._tried([change]) for number, change in items}

    def _tried(self, batch: Batch) -> Outcome:
        """One batch; again after a deadlock and the like, as long as there is time."""
        while True:
            try:
                if len(batch) == 1:
                    return self._together(batch)[0]
                return self._whole(batch)
            except psycopg.Error as error:
                if error.sqlstate not in AGAIN or time.monotonic() >= self.until:
                    return self._failure(batch, error)
            except StoreError as failure:
                return failure

    def _together(self, changes: Sequence[Change]) -> list[Outcome]:
        """Single changes, one round trip, one transaction. Raises psycopg.Error, StoreError."""
        with self._session() as session:
            if len(changes) == 1:
                rows = [self._send(session, changes[0]).fetchone()]
            else:
                with session.pipeline():  # without BEGIN, its end is that of the transaction
                    cursors = [self._send(session, change) for change in changes]
                rows = [cursor.fetchone() for cursor in cursors]
        found = [self._outcome(change, row) for change, row in zip(changes, rows, strict=True)]
        self._announce(changes)
        return found

    def _whole(self, batch: Batch) -> Outcome:
        """Several changes, all or none. Raises psycopg.Error, StoreError."""
        changes = sorted(batch, key=lambda change: change.path)
        entries: dict[str, Entry] = {}
        with self._session() as session:
            try:
                with session.transaction():
                    ids = [_id(change.path) for change in changes if change.path != CONFIG]
                    session.execute(self.statements.lock, {"ids": ids})
                    for change in changes:
                        found = self._outcome(change, self._send(session, change).fetchone())
                        if isinstance(found, StoreError):
                            raise _Refused(found)
                        entries.update(found)
            except _Refused as refused:
                return refused.failure
        self._announce(changes)
        return entries

    def _session(self) -> AbstractContextManager[Session]:
        return self.sessions.use(max(self.until - time.monotonic(), _LEAST))

    def _send(self, session: Session, change: Change) -> Cursor[_Row]:
        statements, config = self.statements, change.path == CONFIG
        values: dict[str, Any] = {"id": _id(change.path)}
        if change.expect is not None:
            values["expect"] = _expected(change.expect)
        if isinstance(change, Delete):
            statement = statements.delete_config if config else statements.delete_auth
        else:
            values["data"] = change.data
            values["revision"] = self.digest.compute(change.data)
            if change.expect is None:
                statement = statements.create_config if config else statements.create_auth
            else:
                statement = statements.replace_config if config else statements.replace_auth
        return session.execute(statement, values, binary=True)

    def _outcome(self, change: Change, row: _Row | None) -> Outcome:
        if isinstance(change, Delete):
            assert row is not None
            gone, was_there = row[:2]
            if gone or not was_there:
                return {}
        elif row is not None:
            time_us, revision, size = row[:3]
            return {change.path: Entry(Revision(revision.hex()), size, time_us * 1000)}
        return Conflict(change.path, "is not at the expected revision")

    def _announce(self, changes: Iterable[Change]) -> None:
        """Tell the others. What had no effect is announced too: a mark is not data."""
        names = [(self._table(change).channel, _id(change.path)) for change in changes]
        self.announcer.tell(
            (channel, name if len(name.encode()) <= PAYLOAD_MAX else "") for channel, name in names
        )

    def _table(self, change: Change) -> Table:
        tables = self.look.tables
        return tables.config if change.path == CONFIG else tables.auth

    def _failure(self, batch: Batch, error: psycopg.Error) -> StoreError:
        rights: dict[str, set[str]] = {}
        for change in batch:
            wanted = rights.setdefault(str(self._table(change)), set())
            if isinstance(change, Delete):
                wanted.add("DELETE")
            else:
                wanted.add("INSERT" if change.expect is None else "UPDATE")
        needs = "; GRANT ".join(
            f"{', '.join(sorted(wanted))} ON {table} TO {quoted(self.look.user)}"
            for table, wanted in sorted(rights.items())
        )
        return translate(batch[0].path, error, self.place, needs)


def _check(path: str) -> None:
    """Raises Invalid unless a row can stand for the path."""
    check_place(path)
    if path != CONFIG and not path.startswith(_AUTHS):
        raise Invalid(path, f"PostgreSQL holds {CONFIG} and {_AUTHS}, and nothing else")


def _id(path: str) -> str:
    return CONFIG_ID if path == CONFIG else path.removeprefix(_AUTHS)


def _expected(revision: Revision) -> bytes:
    try:
        return bytes.fromhex(revision)
    except ValueError:
        return _NO_REVISION
