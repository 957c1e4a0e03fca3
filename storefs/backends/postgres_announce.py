"""Tells other machines what this one has committed, behind the commits and many at a time.

Not by the triggers, in the commit's own transaction: one that announces holds a lock of the whole
database until it is on disk, and machines would commit one after the other. What a process that
is killed at this very moment leaves untold, the others find at their next look at everything.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import psycopg

from storefs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storefs.backends.postgres_pool import Sessions

log = logging.getLogger(__name__)

_STATEMENT = (
    b"SELECT set_config('synchronous_commit', 'off', true), pg_notify(c, i)"
    b" FROM unnest(%s::text[], %s::text[]) AS t(c, i) WHERE pg_notification_queue_usage() < 0.5"
)
_GATHER = 0.001
"""Seconds in which more may come; and whoever waits for the commit gets its answer first."""

_STREAM, _STREAM_GATHER = 0.016, 0.005
"""Seconds within which so many commits as `_MANY` are a stream of them, and seconds in which more
are then gathered: to announce each takes a fifth of all that a commit costs (measured)."""
_MANY = 8

_LAST_WORDS = 1.0
"""Seconds that `close` waits for what is untold."""


class Announcer:
    """One thread, begun when there is something to tell. Thread-safe."""

    def __init__(self, sessions: Sessions, deadline: float) -> None:
        self._sessions, self._deadline = sessions, deadline
        self._changed = threading.Condition()  # protects the rest
        self._untold: set[tuple[str, str]] = set()
        self._commits: deque[float] = deque([-math.inf], maxlen=_MANY)
        """When the last ones were, monotonic."""
        self._closed = False
        self._thread: threading.Thread | None = None

    def tell(self, marks: Iterable[tuple[str, str]]) -> None:
        """Announce each payload on its channel, soon. Does not wait."""
        with self._changed:
            self._untold.update(marks)
            self._commits.append(time.monotonic())
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="postgres-announce", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Tell what is untold, if that goes quickly. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_LAST_WORDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._untold or self._closed)
                if not self._untold:
                    return
                stream = self._commits[-1] - self._commits[0] < _STREAM
            time.sleep(_STREAM_GATHER if stream else _GATHER)
            with self._changed:
                marks, self._untold = sorted(self._untold), set()
            channels, payloads = zip(*marks, strict=True)
            try:
                with self._sessions.use(self._deadline) as session:
                    session.execute(_STATEMENT, (list(channels), list(payloads)))
            except (psycopg.Error, StoreError) as error:
                log.debug("%d changes stay unannounced: %s", len(marks), type(error).__name__)
