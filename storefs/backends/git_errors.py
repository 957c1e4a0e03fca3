"""What goes wrong with a Git remote, as one clear line each; no line ever holds a token.

libgit2 tells kinds of failures apart by wording only. Phrases as in libgit2 1.9 (src/libgit2/
transports, src/util) and as GitHub, GitLab, Bitbucket and plain Git answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from storefs.backends.contract import Put
from storefs.errors import AccessDenied, Invalid, StoreError, Unavailable

if TYPE_CHECKING:
    from storefs.backends.contract import Batch
    from storefs.backends.git_place import Place


class LostRace(Exception):
    """The branch is not where this machine saw it last: somebody else pushed first."""


class Rejected(Exception):
    """The server answered a push and did not take it."""

    def __init__(self, cause: str, *, lasting: bool) -> None:
        """`lasting`: by a rule (a hook, a protected branch) that will say the same again."""
        super().__init__(cause)
        self.lasting = lasting


class Late(Exception):
    """The time of a call is over."""


class Refused(Exception):
    """The server asks for credentials that are missing, or refuses those there are."""


_Kind = type[AccessDenied] | type[Unavailable]

_PHRASES: tuple[tuple[str, _Kind, str], ...] = (
    (
        "status code: 401|authentication replays|authentication required",
        AccessDenied,
        "the server refuses the token: it may have expired; set a new GITSTORE_GIT_TOKEN",
    ),
    (
        "status code: 403",
        AccessDenied,
        "the token lacks a right: it must be allowed to read and write the repository's contents",
    ),
    (
        "status code: 404|repository not found|does not appear to be a git repository"
        "|no such repository|could not be found",
        Unavailable,
        "there is no such repository, or the account may not see it: check GITSTORE_GIT_URL and "
        "what the token may read",
    ),
    (
        "status code: 429",
        Unavailable,
        "the server says that it is asked too often; raise STOREFS_POLL_INTERVAL",
    ),
    (
        r"status code: 5\d\d",
        Unavailable,
        "the server has a fault of its own; try again later",
    ),
    (
        "failed to resolve address|name or service not known|temporary failure in name",
        Unavailable,
        "the host name is not known: check GITSTORE_GIT_URL, and the network",
    ),
    (
        "hostkey|host key|known_hosts",
        AccessDenied,
        "the host's SSH key is not the known one: check it, then ssh-keyscan HOST >> "
        "~/.ssh/known_hosts",
    ),
    (
        "certificate",
        AccessDenied,
        "the server's certificate is not trusted: install its authority, or set SSL_CERT_FILE",
    ),
    (
        "failed to authenticate ssh|publickey|username/publickey|ssh-agent|no auth sock",
        AccessDenied,
        "the server refuses every SSH key it was offered: add one to the account, or to ssh-agent",
    ),
    (
        "timed out|timeout|would block|resource temporarily",
        Unavailable,
        "no answer in time; try again, and look at the network",
    ),
    (
        "failed to connect|connection refused|unreachable|no route to host",
        Unavailable,
        "no connection; look at the network, and whether the server runs",
    ),
    (
        "early eof|unexpected eof|unexpected disconnect|connection reset|broken pipe|closed"
        "|socket|ssl error|http|ssh|proxy",
        Unavailable,
        "the connection broke; try again, and look at the network",
    ),
)

_TOO_MUCH = re.compile("unpack|status code: 413")
_RACES = re.compile(
    "fetch first|failed to update ref|cannot lock ref|failed to lock"
    "|incorrect old value|reference already exists|stale info|not present locally"
)
"""How servers, and libgit2 itself, say that the branch moved meanwhile."""

_LARGE = 32 * 1024
"""Bytes that no token has. Servers word a full disk and their limit alike: one of fewer bytes
waits for a disk with room, a larger one would be refused for ever, and would hold others up."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_LONGEST = 300


def is_race(message: str) -> bool:
    """Whether a refusal of a branch says that somebody else was first."""
    return _RACES.search(message.lower()) is not None


def is_too_much(message: str) -> bool:
    """Whether the server could not take the objects: too large, or its disk is full."""
    return _TOO_MUCH.search(message.lower()) is not None


def refusal_of(refusal: Rejected, batch: Batch) -> StoreError:
    """What the server's refusal of this batch alone means to who made it."""
    path = batch[0].path
    if refusal.lasting:
        return AccessDenied(path, str(refusal))
    size = sum(len(change.data) for change in batch if isinstance(change, Put))
    return Invalid(path, str(refusal)) if size > _LARGE else Unavailable(path, str(refusal))


def is_of_network(error: BaseException) -> bool:
    """Whether the connection or the server is to blame, not this machine's clone."""
    if isinstance(error, StoreError | Late | Refused | LostRace | Rejected):
        return True
    text = str(error).lower()
    return any(re.search(phrase, text) for phrase, _, _ in _PHRASES)


def translate(place: Place, error: BaseException) -> StoreError:
    """What a failure of a network call means. Never holds the token."""
    if isinstance(error, StoreError):
        return error
    text = cleaned(place, str(error))
    if isinstance(error, Late):
        return Unavailable("", f"{place.url} did not answer in time; look at the network")
    if isinstance(error, OSError):
        return Unavailable("", f"this machine's clone: {text}; look at the disk below the root")
    if isinstance(error, Refused):
        return AccessDenied("", f"{place.url}: {text}")
    for phrase, kind, advice in _PHRASES:
        if re.search(phrase, text.lower()):
            return kind("", f"{place.url}: {advice} ({text})")
    return Unavailable("", f"{place.url}: {text}; try again, and look at the server's log")


def cleaned(place: Place, text: str) -> str:
    """One short line without credentials, whatever a server or libgit2 put into it."""
    if place.token:
        text = text.replace(place.token, "***")
    line = " ".join(_CREDENTIALS.sub("", text).split())
    line = "".join(sign for sign in line if sign.isprintable())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
