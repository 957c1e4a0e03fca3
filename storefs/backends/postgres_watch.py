"""The session that listens: what triggers and other machines announce becomes marks.

Announcements made while there is no session are lost, so after every new one the answer is
"look at everything". Where changes are not announced, that is the answer at every interval.
Thread-safe: `wait` belongs to one thread, `close` may come from any other.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import ConnStatus

from storefs.errors import StoreError
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from storefs.backends.postgres_pool import Deadlines, Session
    from storefs.backends.postgres_schema import Tables

log = logging.getLogger(__name__)

_PAUSE = 0.25
"""Seconds between tries to connect."""

_CHECK = 5.0
"""Seconds of silence after which the session is asked whether it is alive."""


def path_of(payload: str, channel: str, tables: Tables) -> str | None:
    """The path that an announcement marks; empty: none of ours; None: everything."""
    if not payload:
        return None
    if channel == tables.config.channel:
        return CONFIG if payload == "config" else ""
    return f"auths/{payload}"


class Listener:
    """Waits for announcements on the channels of one store."""

    def __init__(
        self,
        tables: Tables,
        deadlines: Deadlines,
        own: Collection[int],
        connect: Callable[[], Session],
        refresh: Callable[[Session], bool],
        interval: float,
        deadline: float,
    ) -> None:
        """`connect` makes a session that listens; `refresh` looks at the database through it,
        and says whether every change is announced. Both raise psycopg.Error, StoreError.
        `own`: the server's processes whose announcements are our own."""
        self._tables, self._deadlines, self._own = tables, deadlines, own
        self._connect, self._refresh = connect, refresh
        self._interval, self._deadline = interval, deadline
        self._session: Session | None = None
        self._pushed = False
        self._checked = self._polled = time.monotonic()
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waking = threading.Lock()  # guards the descriptor against its end
        self._using = threading.Lock()  # held by whoever uses the session

    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait."""
        until = time.monotonic() + timeout
        with self._using:
            try:
                while not self._closed:
                    marks = self._step(max(until - time.monotonic(), 0.0))
                    if marks is None or marks or time.monotonic() >= until:
                        return marks
                return frozenset()
            finally:
                if self._closed:
                    self._free()

    def begin(self) -> None:
        """Listen from now on. Raises psycopg.Error, StoreError."""
        with self._using:
            self._open()

    def close(self) -> None:
        """Wake `wait`, and end the session: at once, or when `wait` has left it."""
        self._closed = True
        with self._waking:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)
        if self._using.acquire(timeout=1.0):
            try:
                self._free()
            finally:
                self._using.release()

    def _free(self) -> None:
        self._end()
        with self._waking:
            wake, self._wake = self._wake, -1
            if wake >= 0:
                os.close(wake)

    def _open(self) -> None:
        self._session = self._connect()
        try:
            self._pushed = self._ask(self._session)
        except BaseException:
            self._end()
            raise
        self._polled = time.monotonic()

    def _ask(self, session: Session) -> bool:
        with self._deadlines.over(session, self._deadline):
            pushed = self._refresh(session)
        self._checked = time.monotonic()
        return pushed

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _step(self, left: float) -> Collection[str] | None:
        """One wait of at most `left` seconds: marks, none, or None for everything."""
        try:
            if self._session is None:
                self._open()
                return None
            if time.monotonic() >= self._checked + _CHECK:
                was, self._pushed = self._pushed, self._ask(self._session)
                if self._pushed and not was:
                    return None
                # What came while it was asked is at hand already, and wakes nobody.
                if (marks := self._heard(self._session)) is None or marks:
                    return marks
            return self._listen(self._session, left)
        except (psycopg.Error, StoreError) as error:
            log.debug("no announcements: %s", type(error).__name__)
            self._end()
            self._sleep(min(left, _PAUSE))
            return self._due()

    def _listen(self, session: Session, left: float) -> Collection[str] | None:
        pause = min(left, max(self._checked + _CHECK - time.monotonic(), 0.0))
        if not self._pushed:
            pause = min(pause, max(self._polled + self._interval - time.monotonic(), 0.0))
        ready = select.poll()
        ready.register(session.fileno(), select.POLLIN)
        ready.register(self._wake, select.POLLIN)
        fired = [descriptor for descriptor, _ in ready.poll(pause * 1000)]
        if session.fileno() not in fired:
            return self._due()
        marks = self._heard(session)
        if marks is not None and not marks and session.pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError("the session ended")
        return marks

    def _heard(self, session: Session) -> Collection[str] | None:
        """What was announced; never waits."""
        marks: set[str] = set()
        everything = False
        for announced in session.notifies(timeout=0):
            if announced.pid not in self._own:
                path = path_of(announced.payload, announced.channel, self._tables)
                everything |= path is None
                marks.add(path or "")
        marks.discard("")
        return None if everything else marks

    def _due(self) -> Collection[str] | None:
        """None when it is time to look at everything, because nobody announces."""
        now = time.monotonic()
        if (self._pushed and self._session is not None) or now < self._polled + self._interval:
            return frozenset()
        self._polled = now
        return None

    def _sleep(self, seconds: float) -> None:
        ready = select.poll()
        ready.register(self._wake, select.POLLIN)
        ready.poll(seconds * 1000)


def listen(session: Session, tables: Tables) -> bool:
    """Whether this server lets us listen: a standby does not. Raises psycopg.OperationalError."""
    try:
        for table in (tables.config, tables.auth):
            session.execute(f"LISTEN {table.channel}".encode())
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    return True
