"""The token group of an auth document: its token, expiry and last-refresh keys, one unit.

A refresh replaces all of them together, and a refresh token is often good for one use only: half
of one group and half of another is a lost account. Pure functions; nothing is verified, times are
only compared.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from storefs.members import Member, NotObject, take_apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Sources: the expiry and last-refresh keys that the proxy reads (v7.2.140), the files it writes
# for claude, codex, antigravity (`timestamp`), kimi, xai and gemini (`token`), those of its forks
# (`accessToken`), and the token response of RFC 6749 section 5.1. Compared without case, `_`, `-`.
_JWT = frozenset({"accesstoken", "idtoken", "token"})
_REFRESHED = frozenset(
    {"lastrefresh", "lastrefreshed", "lastrefreshat", "lastrefreshedat", "timestamp"}
)
_EXPIRY = frozenset(
    {"expired", "expire", "expires", "expiresat", "expireat", "expiry", "expirydate"}
)
_NESTED = frozenset({"token", "tokens"})
_GROUP = _JWT | _REFRESHED | _EXPIRY | _NESTED | {"refreshtoken", "tokentype", "scope", "expiresin"}

_AHEAD = 300
"""Seconds that a time of issue may be ahead of this machine's clock and still be believed."""

_LATEST_SECONDS = 1e11
"""A larger number counts milli-, micro- or nanoseconds: as seconds it is the year 5138."""

_SMALL = 16 << 10
"""Bytes of a document that may stay in memory for its digest."""

_ODD = re.compile("[_-]")


def token_group(members: Mapping[str, Member]) -> dict[str, Member]:
    """Those of an auth document's top-level members that belong to its token group."""
    return {key: member for key, member in members.items() if _plain(key) in _GROUP}


def token_digest(data: bytes) -> bytes | None:
    """SHA-256 of the token group's JSON value, None where `data` has no group, is no object or too
    long to be taken apart.

    White space, key order and escapes do not matter; 1 and 1.0 differ.
    """
    return _digest_of_small(data) if len(data) <= _SMALL else _digest_of(data)


def _digest_of(data: bytes) -> bytes | None:
    try:
        group = token_group(take_apart(data).members)
        values = [(key, _canonical(group[key].value)) for key in sorted(group)]
        return hashlib.sha256(ascii(values).encode()).digest() if values else None
    except (NotObject, RecursionError):
        return None


_digest_of_small = lru_cache(maxsize=256)(_digest_of)
"""A version is looked at when it is written, when it stands, and when the next one replaces it."""


def is_newer(ours: Mapping[str, Member], theirs: Mapping[str, Member], now: float) -> bool:
    """Whether the group `ours` is the newer of two (rule 3); `now` in seconds since 1970.

    The later JWT `iat` decides, else the later last refresh, else the later expiry: the first of
    these that both groups have. Equal, missing, or issued more than five minutes ahead of `now`:
    not newer.
    """
    one, other = _stamps(ours), _stamps(theirs)
    if one.issued is not None and other.issued is not None:
        return other.issued < one.issued <= now + _AHEAD
    if one.refreshed is not None and other.refreshed is not None:
        return other.refreshed < one.refreshed <= now + _AHEAD
    if one.expiry is not None and other.expiry is not None:
        return other.expiry < one.expiry
    return False


def last_good(data: bytes) -> float | None:
    """When an auth document was last good: the latest of expiry, refresh and issue, in seconds
    since 1970. None: it names no expiry, or is no document."""
    try:
        stamps = _stamps(token_group(take_apart(data).members))
    except (NotObject, RecursionError):
        return None
    if stamps.expiry is None:
        return None
    return max(stamps.expiry, stamps.refreshed or 0.0, stamps.issued or 0.0)


@dataclass(frozen=True, slots=True)
class _Stamps:
    """Seconds since 1970; None: the group does not say."""

    issued: float | None
    refreshed: float | None
    expiry: float | None


def _stamps(group: Mapping[str, Member]) -> _Stamps:
    found = list(_values(group))
    return _Stamps(
        _latest(_issued(value) for key, value in found if key in _JWT),
        _latest(_time(value) for key, value in found if key in _REFRESHED),
        _latest(_time(value) for key, value in found if key in _EXPIRY),
    )


def _latest(times: Iterator[float | None]) -> float | None:
    # Go writes a time that was never set as the year 1; some write 0.
    return max((time for time in times if time is not None and time > 0), default=None)


def _values(group: Mapping[str, Member]) -> Iterator[tuple[str, str]]:
    """The text values and numbers of a group, those of a nested token included."""
    for key, member in group.items():
        try:
            value = json.loads(member.value, parse_int=str, parse_float=str)
        except RecursionError:
            continue
        inner = value if _plain(key) in _NESTED and isinstance(value, dict) else {key: value}
        for name, one in inner.items():
            if isinstance(one, str):
                yield _plain(name), one


def _plain(key: str) -> str:
    return _ODD.sub("", key).lower()


def _issued(token: str) -> float | None:
    """`iat` of a JSON Web Token (RFC 7519), its signature not verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = json.loads(payload, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    issued = claims.get("iat") if isinstance(claims, dict) else None
    return _time(issued) if isinstance(issued, str) else None


def _time(text: str) -> float | None:
    """RFC 3339 or a number of seconds to nanoseconds since 1970, as seconds."""
    try:
        number = float(text)
    except ValueError:
        return _date(text)
    if not math.isfinite(number):
        return None
    while number > _LATEST_SECONDS:
        number /= 1000
    return number


def _date(text: str) -> float | None:
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _canonical(raw: str) -> Any:
    """The value, numbers as their text in a tuple, objects as sorted pairs."""
    return json.loads(raw, parse_int=_number, parse_float=_number, object_pairs_hook=_pairs)


def _number(text: str) -> tuple[str]:
    return (text,)


def _pairs(pairs: list[tuple[str, Any]]) -> tuple[str, list[tuple[str, Any]]]:
    return "object", sorted(dict(pairs).items(), key=lambda pair: pair[0])
