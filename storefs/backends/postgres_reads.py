"""What a PostgreSQL store holds: listed, by path, or everything at once.

Rows that no file system can show are left out, and told of by `report`. All may raise
psycopg.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storefs import paths
from storefs.backends.contract import Blob, Entry, Revision
from storefs.backends.postgres_sql import CONFIG_ID
from storefs.paths import CONFIG, InvalidPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from storefs.backends.postgres_known import State
    from storefs.backends.postgres_pool import Deadlines, Session

    Report = Callable[[str, str], None]

AUTHS = "auths/"
_PORTION = 256
"""Rows fetched at once of everything."""

_LIMITS = (
    b"SELECT set_config('statement_timeout', %(ms)s, true),"
    b" set_config('idle_in_transaction_session_timeout', %(ms)s, true),"
    b" set_config('cursor_tuple_fraction', '1', true)"
)
"""Of one transaction, for what takes longer than a call may; all rows are wanted, not the first."""


def snapshot(session: Session, now: State, seconds: float, report: Report) -> dict[str, Entry]:
    """The complete listing."""
    rows = _patiently(session, now.statements.snapshot, seconds)
    entries: dict[str, Entry] = {}
    for is_config, name, digest, size, time_us in rows:
        path = CONFIG if is_config else AUTHS + name
        if _is_shown(path, report):
            entries[path] = Entry(Revision(digest.hex()), size, time_us * 1000)
    return entries


def fingerprint(session: Session, now: State, seconds: float) -> str:
    """See Fingerprinted.fingerprint. Of 10,000 documents 1.4 ms, a listing is 63 (measured)."""
    if not now.statements.fingerprint:
        return ""
    ((found,),) = _patiently(session, now.statements.fingerprint, seconds)
    return str(found)


def _patiently(session: Session, statement: bytes, seconds: float) -> list[tuple[Any, ...]]:
    """What reads all rows may take longer than a call."""
    with session.transaction():
        session.execute(_LIMITS, {"ms": str(int(seconds * 1000))})
        return session.execute(statement, {}, binary=True).fetchall()


def read(session: Session, now: State, wanted: Sequence[str]) -> Mapping[str, Blob]:
    """Those of the wanted documents that are there."""
    held = [path for path in wanted if _may_be(path)]
    ids = [path.removeprefix(AUTHS) for path in held if path != CONFIG]
    rows: list[Any] = []
    if ids:
        rows = session.execute(now.statements.read_auth, {"ids": ids}, binary=True).fetchall()
    found = {AUTHS + name: (data, time_us) for name, data, time_us in rows}
    if len(ids) < len(held):
        config = {"ids": [CONFIG_ID]}
        rows = session.execute(now.statements.read_config, config, binary=True).fetchall()
        for _, data, time_us in rows:
            found[CONFIG] = data, time_us
    return {path: _blob(now, data, time_us) for path, (data, time_us) in found.items()}


def count(session: Session, now: State) -> int:
    """See Bulk.count."""
    tables = now.look.tables
    auth, config = (f"(SELECT count(*) FROM {table})" for table in (tables.auth, tables.config))
    ((rows,),) = session.execute(f"SELECT {auth} + {config}".encode()).fetchall()
    return int(rows)


def everything(
    session: Session, now: State, most: int, deadlines: Deadlines, seconds: float, report: Report
) -> Iterator[list[tuple[str, Blob | int]]]:
    """See Bulk.everything. `seconds`: for each portion.

    By a cursor: one snapshot, and never more than a portion in memory, here or there.
    """
    with session.transaction(), session.cursor("everything") as cursor:
        with deadlines.over(session, seconds):
            session.execute(_LIMITS, {"ms": str(int(seconds * 1000))})
            cursor.execute(now.statements.everything, {"most": most}, binary=True)
        while True:
            with deadlines.over(session, seconds):
                rows = cursor.fetchmany(_PORTION)
            if not rows:
                return
            yield list(_documents(rows, now, report))


def _documents(
    rows: Iterable[tuple[Any, ...]], now: State, report: Report
) -> Iterator[tuple[str, Blob | int]]:
    for is_config, name, data, size, time_us in rows:
        path = CONFIG if is_config else AUTHS + name
        if _is_shown(path, report):
            yield path, size if data is None else _blob(now, data, time_us)


def _blob(now: State, data: bytes, time_us: int) -> Blob:
    digest = now.digest.compute(data)
    entry = Entry(Revision(digest.hex()), len(data), time_us * 1000)
    return Blob(data, entry, digest if now.digest.is_sha256 else b"")


def _is_shown(path: str, report: Report) -> bool:
    try:
        paths.check_path(path)
    except InvalidPath as error:
        report(path, str(error))
        return False
    return paths.may_be_shared(path)


def _may_be(path: str) -> bool:
    """Whether a row can stand for the path."""
    try:
        paths.check_path(path)
    except InvalidPath:
        return False
    return paths.may_be_shared(path) and (path == CONFIG or path.startswith(AUTHS))
