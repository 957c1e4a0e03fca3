"""What PostgreSQL's failures mean, and what to tell a person: never a secret, never content.

By SQLSTATE where the server gives one. A failure to connect has none; its text is the server's
or libpq's own, and in another language it only loses the advice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg

from storefs.errors import AccessDenied, Corrupt, Invalid, StoreError, Unavailable

if TYPE_CHECKING:
    from storefs.backends.postgres_dsn import Place

AGAIN = {"40001", "40P01"}
"""Serialization failure, deadlock: nothing was done, the same may succeed at once."""

GONE = {"42P01", "42883", "3F000"}
"""A table, a function, a schema that was there before."""


class Gone(Unavailable):
    """What this session relied on was taken away: the next look at the catalog says more."""


_LONGEST = 300
_ADVICE: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "password authentication failed|no password supplied|role .* does not exist"
        "|authentication failed|is not permitted to log in",
        AccessDenied,
        "check user and password in PGSTORE_DSN",
    ),
    (
        "database .* does not exist",
        Unavailable,
        "create it, or correct the database in PGSTORE_DSN",
    ),
    (
        "no pg_hba.conf entry.*(SSL off|no encryption)|SSL connection is required",
        AccessDenied,
        "it may take no connection without TLS: sslmode=require in PGSTORE_DSN; else have"
        " pg_hba.conf of the server changed",
    ),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects",
        AccessDenied,
        "have pg_hba.conf of the server changed, or correct PGSTORE_DSN",
    ),
    (
        "does not support SSL",
        Unavailable,
        "the server has no TLS: correct sslmode in PGSTORE_DSN",
    ),
    (
        "certificate|SSL error|sslrootcert|sslcert|sslkey|private key",
        Unavailable,
        "check sslmode, sslrootcert, sslcert and sslkey in PGSTORE_DSN",
    ),
    (
        "translate host name|resolve host|Name or service not known",
        Unavailable,
        "check the host in PGSTORE_DSN, and the network",
    ),
    (
        "permission denied for database",
        AccessDenied,
        "an administrator runs GRANT CONNECT ON DATABASE, or correct PGSTORE_DSN",
    ),
    (
        "startup parameter|configuration parameter|invalid value for parameter",
        Unavailable,
        "take the parameter out of PGSTORE_DSN",
    ),
    (
        "too many clients|remaining connection slots|too many connections",
        Unavailable,
        "raise max_connections, or lower pool_max_conns in PGSTORE_DSN",
    ),
    (
        "invalid sslmode|invalid .* value|invalid port|invalid connection option",
        Unavailable,
        "correct PGSTORE_DSN",
    ),
)


def translate(path: str, error: Exception, place: Place, needs: str = "") -> StoreError:
    """What a failure about `path` (empty: about the store) means to whoever asked.

    `needs`: the right that the statement wanted, as GRANT writes it. What is neither a missing
    right nor an impossible document may pass, so it is Unavailable.
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if not isinstance(error, psycopg.Error) or state is None:
        return _connecting(path, error, place)
    said = place.hide(error.diag.message_primary or type(error).__name__)[:_LONGEST]
    if state == "42501":
        step = f"an administrator runs: GRANT {needs}" if needs else "check the account's rights"
        return AccessDenied(path, f"{place.where}: {said}; {step}")
    if state == "25006":
        return Unavailable(path, f"{place.where} only reads by now ({said}); it may be a standby")
    if state[:2] in ("22", "54"):
        return Invalid(path, f"PostgreSQL cannot hold it: {_reason(error, said)}")
    if state[:2] == "28":
        return AccessDenied(path, f"{place.where}: {said}; check user and password in PGSTORE_DSN")
    if state in GONE:
        return Gone(
            path, f"{place.where}: {said}; what was there before is gone: bring it back, or run "
            "what `storefs doctor --sql` prints",
        )  # fmt: skip
    if state[:2] == "42":
        return Corrupt(path, f"{place.where}: {said}; the tables are not the proxy's own")
    if state == "57014":
        return Unavailable(path, f"{place.where}: no answer in time; another session may lock it")
    return Unavailable(path, f"{place.where}: {said} ({state})")


def _reason(error: psycopg.Error, said: str) -> str:
    """The server's words without those that quote the document."""
    if error.sqlstate == "22P05" and error.diag.message_detail:
        return f"{said} ({error.diag.message_detail})"  # always one of a few fixed sentences
    return said.partition(":")[0]


def _connecting(path: str, error: Exception, place: Place) -> StoreError:
    text = place.hide(str(error))
    said = re.split(r"failed: (?:FATAL: +|ERROR: +)?", text)[-1].partition("Multiple conn")[0]
    said = said.strip()[:_LONGEST] or type(error).__name__
    for pattern, kind, step in _ADVICE:
        if re.search(pattern, text, re.IGNORECASE):
            return kind(path, f"{place.where}: {said}; {step}")
    return Unavailable(
        path, f"{place.where}: {said}; check host and port in PGSTORE_DSN, and whether it is up"
    )
