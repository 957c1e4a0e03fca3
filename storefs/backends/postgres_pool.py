"""Sessions for calls on a PostgreSQL store: psycopg's pool, with an end to every wait.

The pool keeps and opens sessions. On top of it: one that broke while it lay idle is thrown away
before it is used, a failure to connect is told at once to whoever waits, and a call that
outlives its time loses its connection, whatever swallowed the packets.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from storefs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storefs.backends.postgres_dsn import Place

_GLANCE = 0.05
"""Seconds between looks whether a session that is being opened failed."""

_RECONNECT = 1.0
"""Seconds for which the pool tries again by itself; then the next call does."""

_SERVER_SHARE = 0.8
"""Of the deadline: the server gives up first, so that what became of a statement is known."""

_SETTINGS = (
    ("statement_timeout", "{0}"),
    ("idle_in_transaction_session_timeout", "{0}"),
    ("default_transaction_isolation", "read committed"),
    ("jit", "off"),
)
_SET = b"SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s"


class Deadlines:
    """Ends connections whose call took too long. One thread; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # protects the rest
        self._calls: dict[int, tuple[float, int]] = {}
        self._soonest = math.inf
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="postgres-deadlines", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def over(self, session: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
        """Give the calls in the block so long; then they fail with OperationalError."""
        key = id(session)
        until = time.monotonic() + seconds
        with self._changed:
            self._calls[key] = until, session.fileno()
            if until < self._soonest:
                self._changed.notify()
        try:
            yield
        except psycopg.Error as error:
            if not self._ends(key):
                raise psycopg.OperationalError(f"no answer within {seconds:.3g} s") from error
            raise
        finally:
            self._ends(key)

    def _ends(self, key: int) -> bool:
        """Take a call off the list; whether it was on it still."""
        with self._changed:
            return self._calls.pop(key, None) is not None

    def close(self) -> None:
        """End the thread; what runs is no longer bounded."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for key, (until, descriptor) in list(self._calls.items()):
                    if until <= now:
                        del self._calls[key]
                        _cut_off(descriptor)
                self._soonest = min((until for until, _ in self._calls.values()), default=math.inf)
                wait = None if self._soonest is math.inf else self._soonest - now
                self._changed.wait(wait)


def _cut_off(descriptor: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A session that is in `live`, by its process on the server, while it is open."""

    live: set[int] | None = None
    pid: int = 0
    pooled: bool = False
    """Behind PgBouncer: what one session sets, or prepares, others meet."""

    @classmethod
    def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, told: Callable[[Exception], None] | None = None, **more: Any
    ) -> Session:
        """As psycopg's; `told` hears of a failure, which the pool keeps for itself."""
        try:
            return super().connect(conninfo, **more)
        except psycopg.Error as error:
            if told is not None:
                told(error)
            raise

    def close(self) -> None:
        if self.live is not None:
            self.live.discard(self.pid)
        super().close()


class Sessions:
    """At most `place.connections` for calls, and one to announce. Thread-safe."""

    def __init__(self, place: Place, deadline: float) -> None:
        self._place, self._deadline = place, deadline
        self.deadlines = Deadlines()
        self.live: set[int] = set()
        """The server's processes of the sessions that are open."""
        self._failure: tuple[float, Exception] | None = None
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it tells of every attempt
        self._pool = ConnectionPool(
            "",
            connection_class=Session,
            kwargs={**self._arguments(), "told": self._note},
            configure=self._configure,
            min_size=0,
            max_size=place.connections + 1,
            max_lifetime=24 * 3600.0,
            reconnect_timeout=_RECONNECT,
            num_workers=min(3, place.connections),
            open=False,
            name="storefs",
        )
        self._pool.open()

    def open(self) -> Session:
        """A session outside the pool: the first one, and the one that listens.

        Raises psycopg.Error.
        """
        session = Session.connect(**self._arguments())
        try:
            self._configure(session)
        except BaseException:
            session.close()
            raise
        return session

    def _arguments(self) -> dict[str, Any]:
        return {**self._place.conninfo, "autocommit": True, "prepare_threshold": None}

    def _note(self, failure: Exception) -> None:
        self._failure = time.monotonic(), failure

    def _configure(self, session: Session) -> None:
        session.pid, session.live = session.info.backend_pid, self.live
        self.live.add(session.pid)
        with self.deadlines.over(session, self._deadline):
            row = session.execute(b"SELECT pg_backend_pid()").fetchone()
            # PgBouncer gives out process ids of its own making.
            session.pooled = row is None or row[0] != session.pid
            if session.pooled or self._place.plain:
                return
            session.prepare_threshold = 0
            limit = int(self._deadline * _SERVER_SHARE * 1000)
            with session.pipeline():
                for name, value in _SETTINGS:
                    session.execute(_SET, (value.format(limit), name))

    @contextlib.contextmanager
    def use(self, seconds: float) -> Iterator[Session]:
        """A session for one call of at most so many seconds. See `hold`."""
        until = time.monotonic() + seconds
        with (
            self.hold(seconds) as session,
            self.deadlines.over(session, max(until - time.monotonic(), _GLANCE)),
        ):
            yield session

    @contextlib.contextmanager
    def hold(self, seconds: float) -> Iterator[Session]:
        """A session that is at hand within so many seconds, for several calls.

        One that failed in the block is not used again unless the server said so in order.
        Raises psycopg.Error, Unavailable.
        """
        session = self._take(time.monotonic() + seconds)
        try:
            yield session
        except psycopg.Error as error:
            if error.sqlstate is None or isinstance(error, psycopg.OperationalError):
                session.close()
            raise
        except BaseException:
            session.close()
            raise
        finally:
            self._give_back(session)

    def _give_back(self, session: Session) -> None:
        with contextlib.suppress(PoolClosed, ValueError):
            self._pool.putconn(session)

    def _take(self, until: float) -> Session:
        began = time.monotonic()
        while True:
            try:
                session = self._pool.getconn(timeout=_GLANCE)
            except PoolTimeout:
                failure = self._failure
                if failure is not None and failure[0] >= began:
                    raise failure[1] from None
                if time.monotonic() >= until:
                    why = "no session in time: the server does not answer, or all are busy"
                    raise Unavailable("", f"{self._place.where}: {why}") from None
                continue
            except PoolClosed:
                raise Unavailable("", f"{self._place.where}: closed") from None
            if not _broken(session):
                return session
            session.close()
            self._give_back(session)

    def close(self) -> None:
        """Close the sessions that lie idle; the others when they are given back."""
        self._pool.close(timeout=1.0)
        self.deadlines.close()


def _broken(session: Session) -> bool:
    """Whether the server ended it, or said something, while nobody asked: then it is no use."""
    if session.closed:
        return True
    line = select.poll()
    line.register(session.fileno(), select.POLLIN)
    return bool(line.poll(0))
