"""Documents as the rows of the proxy's own PostgreSQL tables, shared live with its native store.

Whoever writes the rows without us wins and is noticed: every commit compares with what is there,
and triggers announce each change. Needs a session pool and one session that listens. Blocking;
thread-safe.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg

from storefs.backends import postgres_reads as reads
from storefs.backends.contract import LeftOut
from storefs.backends.postgres_announce import Announcer
from storefs.backends.postgres_dsn import place_of
from storefs.backends.postgres_errors import GONE, Gone, translate
from storefs.backends.postgres_inspect import inspect
from storefs.backends.postgres_known import Known, State, traits_of
from storefs.backends.postgres_pool import Sessions
from storefs.backends.postgres_schema import administration as administration_of
from storefs.backends.postgres_schema import quoted, tables_in
from storefs.backends.postgres_watch import Listener, listen
from storefs.backends.postgres_writes import Writes
from storefs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from storefs.backends.contract import Batch, Blob, Entry, Outcome
    from storefs.backends.postgres_dsn import Place
    from storefs.backends.postgres_pool import Session
    from storefs.settings import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)

_CHUNK = 256
"""Documents asked for at once."""

_SNAPSHOT_SECONDS = 60.0
_OPENING_SECONDS = 60.0
"""What is made for the first time may have to wait for writers of the tables."""


def connect(settings: Settings) -> Postgres:
    """Reach the database, and make in it what is missing and this account may make.

    A read-only mount makes nothing. Raises StoreError, Quit for a wrong setting.
    """
    place = place_of(settings.env, settings.deadline)
    backend = Postgres(place, settings.deadline, settings.poll_interval)
    try:
        backend.open(make=not settings.read_only)
    except BaseException as error:
        backend.close()
        if isinstance(error, psycopg.Error):
            raise translate("", error, place) from None
        raise
    return backend


def administration(settings: Settings) -> str:
    """The SQL that an administrator runs once for these settings; asks no server. Raises Quit."""
    place = place_of(settings.env, settings.deadline)
    tables = tables_in(place.schema or place.usual, place.config_table, place.auth_table)
    return administration_of(tables, place.conninfo.get("user") or "storefs")


class Postgres:
    """A Backend and Watcher over two tables, Described, Fingerprinted and Bulk.

    Revision: SHA-256 of the bytes that `read` returns, in hex.
    """

    def __init__(self, place: Place, deadline: float, interval: float) -> None:
        """`interval`: seconds between looks at everything where changes are not announced."""
        self.place, self._deadline, self._interval = place, deadline, interval
        self.concurrency = place.connections
        self.identity = place.where
        self._pooled = self._pushed = self._hears = False
        self._left_out = LeftOut()
        self._sessions = Sessions(place, deadline)
        self._announcer = Announcer(self._sessions, deadline)
        self._known: Known | None = None
        self._listener: Listener | None = None

    def open(self, *, make: bool) -> None:
        """Look, make, listen. Called once. Raises psycopg.Error, StoreError."""
        deadlines = self._sessions.deadlines
        with self._sessions.open() as session, deadlines.over(session, _OPENING_SECONDS):
            self._known = known = Known(self.place, session, make=make)
            self._pooled = session.pooled
            host, port = self.place.where.rsplit(":", 1)
            if not (self.place.conninfo.get("host") or self.place.conninfo.get("hostaddr")):
                host, port = session.info.host, str(session.info.port)
            database = known.state.look.database
        self.identity = f"postgresql://{host}:{port}/{database} {known.tables}"
        self._listener = Listener(
            known.tables, deadlines, self._sessions.live, self._listening, self._refreshed,
            self._interval, self._deadline,
        )  # fmt: skip
        self._listener.begin()

    @property
    def _now(self) -> State:
        assert self._known is not None
        return self._known.state

    @property
    def read_only(self) -> bool:
        """See Described.read_only."""
        return not self._now.look.may_write

    def traits(self) -> Mapping[str, str]:
        """See Described.traits."""
        return traits_of(self._now.look, pushed=self._pushed, pooled=self._pooled)

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot."""
        return self._call(
            lambda session: reads.snapshot(session, self._now, _SNAPSHOT_SECONDS, self._report),
            _SNAPSHOT_SECONDS,
        )

    def fingerprint(self) -> str:
        """See Fingerprinted.fingerprint."""
        return self._call(
            lambda session: reads.fingerprint(session, self._now, _SNAPSHOT_SECONDS),
            _SNAPSHOT_SECONDS,
        )

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read."""
        for start in range(0, len(paths), _CHUNK):
            wanted = paths[start : start + _CHUNK]
            found = self._call(partial(self._read, wanted))
            for path in wanted:
                yield path, found.get(path)

    def _read(self, wanted: Sequence[str], session: Session) -> Mapping[str, Blob]:
        return reads.read(session, self._now, wanted)  # as it is known by now, at each try

    def count(self) -> int:
        """See Bulk.count."""
        return self._call(lambda session: reads.count(session, self._now), _SNAPSHOT_SECONDS)

    def everything(self, most: int) -> Iterator[Sequence[tuple[str, Blob | int]]]:
        """See Bulk.everything."""
        try:
            with self._sessions.hold(_SNAPSHOT_SECONDS) as session:
                yield from reads.everything(
                    session, self._now, most, self._sessions.deadlines, _SNAPSHOT_SECONDS,
                    self._report,
                )  # fmt: skip
        except psycopg.Error as error:
            raise translate("", error, self.place, self._needs("SELECT")) from None

    def inspect(self) -> Mapping[str, object]:
        """See Inspected.inspect."""
        return self._call(lambda session: inspect(session, self._now.look.tables))

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit. Each batch is all or nothing; those of one document go together."""
        now = self._now
        until = time.monotonic() + timeout
        writes = Writes(
            self._sessions, self._announcer, self.place, now.look, now.statements, now.digest, until
        )
        outcomes = writes.apply(batches)
        if any(isinstance(outcome, Gone) for outcome in outcomes):
            self.look_again()
        return outcomes

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait."""
        assert self._listener is not None
        return self._listener.wait(timeout)

    def close(self) -> None:
        """See Backend.close."""
        if self._listener is not None:
            self._listener.close()
        self._announcer.close()
        self._sessions.close()

    def _call(self, ask: Callable[[Session], T], seconds: float = 0.0) -> T:
        """Ask in a session; again when that one had ended, or a table was made anew.

        Only for what changes nothing: after a restart of the server every session is a dead one.
        `seconds` for all tries, the deadline if 0. Raises StoreError.
        """
        until = time.monotonic() + (seconds or self._deadline)
        tries = self.place.connections + 1
        while True:
            tries, taken = tries - 1, False
            try:
                with self._sessions.use(until - time.monotonic()) as session:
                    taken = True
                    return ask(session)
            except psycopg.Error as error:
                over = tries <= 0 or time.monotonic() >= until
                if over or not taken or not self._mended(error):
                    raise translate("", error, self.place, self._needs("SELECT")) from None

    def _mended(self, error: psycopg.Error) -> bool:
        """Whether asking again may help: the session was bad, or what we knew was old."""
        if error.sqlstate in GONE:
            return self.look_again()
        return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))

    def look_again(self) -> bool:
        """Learn anew what the database holds; whether that could be done."""
        try:
            with self._sessions.use(self._deadline) as session:
                self._refreshed(session, anyway=True)
        except (psycopg.Error, StoreError):
            return False
        return True

    def _needs(self, right: str) -> str:
        found = self._now.look
        return f"{right} ON {found.tables.config}, {found.tables.auth} TO {quoted(found.user)}"

    def _listening(self) -> Session:
        session = self._sessions.open()
        self._sessions.live.discard(session.pid)
        try:
            with self._sessions.deadlines.over(session, self._deadline):
                self._hears = not session.pooled and listen(session, self._now.look.tables)
        except BaseException:
            session.close()
            raise
        return session

    def _refreshed(self, session: Session, *, anyway: bool = False) -> bool:
        """Look, make what is missing, go on with what there is; whether changes are announced."""
        assert self._known is not None
        found = self._known.refresh(session, anyway=anyway)
        pushed = found.hints and self._hears
        if pushed != self._pushed or self._listener is None:
            log.info("%s: changes are %s", self.identity, "pushed" if pushed else "polled")
        self._pushed = pushed
        return pushed

    def _report(self, path: str, reason: str) -> None:
        self._left_out.report(self.identity, path, reason)
