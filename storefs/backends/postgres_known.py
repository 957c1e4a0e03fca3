"""What a mount knows of its database: the last look, and the statements that follow from it."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.backends import postgres_catalog as catalog
from storefs.backends.postgres_sql import digest_for, statements
from storefs.backends.postgres_stamp import stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.postgres_catalog import Look
    from storefs.backends.postgres_dsn import Place
    from storefs.backends.postgres_pool import Session
    from storefs.backends.postgres_schema import Tables
    from storefs.backends.postgres_sql import Digest, Statements

log = logging.getLogger(__name__)

_LOOK_ANYWAY = 60.0
"""Seconds for which the catalog's stamp is believed."""

_MAKE_AGAIN = 30.0
"""Seconds between tries to make what is missing."""


@dataclass(frozen=True)
class State:
    """What was true at one look."""

    look: Look
    statements: Statements
    digest: Digest


class Known:
    """The last look; `state` is replaced as a whole. Thread-safe."""

    def __init__(self, place: Place, session: Session, *, make: bool) -> None:
        """Look, and with `make` make what is missing. Raises psycopg.Error, StoreError."""
        self._place, self._makes = place, make
        self._made = self._looked = -math.inf
        self._stamp = ""
        self._refreshing = threading.Lock()
        found = catalog.look(session, place)
        if make and catalog.make_native(session, found):
            found = catalog.look(session, place)
        catalog.check(found)
        self.tables: Tables = found.tables
        """For as long as the mount lives, wherever the search path leads later."""
        self.state = _state(self._completed(session, found))
        self._purge(session)

    def refresh(self, session: Session, *, anyway: bool) -> Look:
        """Look again, make what is missing, and go on with that. Raises as the beginning.

        Not `anyway`: only if there is something to make, or the catalog is not what it was.
        """
        with self._refreshing:
            now = stamp(session, self.tables)
            if not anyway and now == self._stamp and time.monotonic() < self._looked + _LOOK_ANYWAY:
                return self.state.look
            self._stamp = ""
            found = catalog.look(session, self._place, self.tables)
            catalog.check(found)
            found = self._completed(session, found)
            if found != self.state.look:
                self.state = _state(found)
            if not self._lacks(found):
                self._stamp, self._looked = now, time.monotonic()
            return found

    def _lacks(self, found: Look) -> bool:
        """Whether there is something to make, if only somebody might."""
        return not found.side.oid or not (found.config.current and found.auth.current)

    def _completed(self, session: Session, found: Look) -> Look:
        """Make the side table and the triggers, unless somebody tried a moment ago."""
        if self._makes and self._lacks(found) and time.monotonic() >= self._made + _MAKE_AGAIN:
            self._made = time.monotonic()
            if catalog.make_own(session, found):
                return catalog.look(session, self._place, self.tables)
        return found

    def _purge(self, session: Session) -> None:
        """Bytes whose document others deleted may be tokens: they do not stay."""
        if self._makes and not self.state.look.read_only and self.state.statements.purge:
            session.execute(self.state.statements.purge, {})


def _state(found: Look) -> State:
    digest = digest_for(found.version)
    made = statements(
        found.tables,
        digest,
        reads=found.exact_reads,
        writes=found.exact_reads and found.side.allows("INSERT", "UPDATE"),
        purges=found.exact_reads and found.side.allows("DELETE"),
    )
    return State(found, made, digest)


def traits_of(found: Look, *, pushed: bool, pooled: bool) -> Mapping[str, str]:
    """What a person should know."""
    said = {
        "bytes": "exact" if found.exact else "canonical",
        "changes": "pushed" if pushed else "polled",
        "writes": "compare-and-swap" if found.may_write else "none",
        "server": f"PostgreSQL {found.release.split()[0]}",
    }
    if found.may_write and not found.auth.allows("DELETE"):
        said["deletes"] = f"refused: no DELETE on {found.tables.auth}"
    if pooled:
        said["pooled"] = "PgBouncer: no LISTEN, no prepared statements"
    elif not found.exact or not pushed:
        said["lacking"] = "an administrator runs once what `storefs doctor --sql` prints"
    return said
