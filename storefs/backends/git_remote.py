"""The calls over the network: which branches there are, fetch, push with a lease.

Every call ends: libgit2's own time-outs bound each wait for the server, and `end` (a monotonic
time) the whole. Not thread-safe; the caller holds the lock of the repository.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pygit2
from pygit2.enums import CredentialType

from storefs.backends.git_errors import (
    Late,
    LostRace,
    Refused,
    Rejected,
    cleaned,
    is_of_network,
    is_race,
    is_too_much,
    translate,
)
from storefs.backends.git_sockets import hasten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from storefs.backends.git_place import Place

T = TypeVar("T")

_Credentials = pygit2.Username | pygit2.UserPass | pygit2.Keypair

TRACKING = "refs/storefs/tip"
"""Where the clone has the branch as the server had it last."""

NEXT = "refs/storefs/next"
"""Where the clone has the commit that is being pushed."""

_NONE = "0" * 40
_HEADS = "refs/heads/"


def set_time_outs(deadline: float) -> None:
    """Bound every wait of libgit2, in the whole process. `deadline` in seconds."""
    # Both together stay below the deadline: a call that connects and then hears nothing.
    pygit2.settings.server_connect_timeout = max(1, int(deadline * 300))
    pygit2.settings.server_timeout = max(1, int(deadline * 500))


@dataclass(frozen=True, slots=True)
class Heads:
    """The branches of a remote, by name, and the one its HEAD names ("" if there is none)."""

    branches: dict[str, str]
    default: str


class Asked:
    """One conversation with the remote, which a fetch can go on with."""

    def __init__(self, place: Place, repository: pygit2.Repository, end: float) -> None:
        self._place = place
        self._remote = repository.remotes.create_anonymous(place.url)
        self._callbacks = _Callbacks(place, end)

    def heads(self) -> Heads:
        """What the server has. Raises StoreError."""

        def ask() -> Heads:
            found = self._remote.list_heads(callbacks=self._callbacks, proxy=True)
            names = {head.name: str(head.oid) for head in found if head.name}
            targets = [head.symref_target for head in found if head.name == "HEAD"]
            branches = {
                name.removeprefix(_HEADS): oid
                for name, oid in names.items()
                if name.startswith(_HEADS)
            }
            return Heads(branches, _default(branches, targets, names.get("HEAD", "")))

        return self._call(ask)

    def fetch(self, branch: str, depth: int) -> None:
        """Bring TRACKING to the branch, whatever it was before: histories are rewritten.

        Raises StoreError; pygit2.GitError when the clone seems to be at fault.
        """
        spec = f"+{_HEADS}{branch}:{TRACKING}"
        hasten()
        self._call(
            lambda: self._remote.fetch([spec], callbacks=self._callbacks, depth=depth, proxy=True)
        )

    def push(self, branch: str, expect: str | None) -> None:
        """Make the branch the commit at NEXT, if it is still at `expect` (None: absent).

        Raises LostRace, Rejected, StoreError; pygit2.GitError when the clone seems at fault.
        """
        self._callbacks.expect = expect or _NONE
        # `+` alone would overwrite blindly: it is the look at what the server says it has, and
        # the server's own comparison with what it said, that make this a compare-and-swap.
        spec = f"+{NEXT}:{_HEADS}{branch}"
        self._call(lambda: self._remote.push([spec], callbacks=self._callbacks, proxy=True))
        refusals = self._callbacks.refusals
        if not self._callbacks.answered:
            raise translate(self._place, Late())
        if refusals:
            said = " ".join([*refusals, *self._callbacks.said])
            if is_race(" ".join(refusals)):
                raise LostRace(cleaned(self._place, said))
            cause = cleaned(self._place, f"the server refuses the change: {said}")
            raise Rejected(cause, lasting=True)

    @property
    def sent(self) -> bool:
        """Whether a push got so far that the server may have carried it out."""
        return self._callbacks.sent

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (LostRace, Rejected):
            raise
        except (Late, Refused) as error:
            raise translate(self._place, error) from None
        except (pygit2.GitError, OSError, ValueError, TypeError) as error:
            if is_race(str(error)):
                raise LostRace(cleaned(self._place, str(error))) from None
            if is_too_much(str(error)):
                cause = f"the server cannot take that much, or its disk is full: {error}"
                raise Rejected(cleaned(self._place, cause), lasting=False) from None
            if not is_of_network(error):
                raise
            # `from None`: what libgit2 says may hold what a server or a URL put into it.
            raise translate(self._place, error) from None


def _default(branches: dict[str, str], targets: Sequence[str | None], oid: str) -> str:
    """The branch HEAD names; old servers tell its commit only."""
    for target in targets:
        if target and target.startswith(_HEADS):
            return target.removeprefix(_HEADS)
    same = [name for name, its in branches.items() if its == oid]
    return next((name for name in ("main", "master") if name in same), same[0] if same else "")


class _Callbacks(pygit2.RemoteCallbacks):  # type: ignore[misc, unused-ignore]
    """What libgit2 asks and tells on the way. An exception raised here ends the call."""

    def __init__(self, place: Place, end: float) -> None:
        super().__init__()
        self.expect = _NONE
        self.sent = False
        self.answered = False
        self.refusals: list[str] = []
        self.said: list[str] = []
        """What a hook printed."""
        self._place = place
        self._end = end
        self._offers = _offers(place)

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> _Credentials:
        """Each means once: asked again, the server has refused the one before."""
        if allowed_types & CredentialType.USERNAME:
            return pygit2.Username(self._place.user)
        for offer in self._offers:
            if offer.credential_type & allowed_types:
                return offer
        raise Refused(_advice(self._place))

    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:
        # Without this pygit2 lets every SSH host in, known or not.
        if valid:
            return True
        name = host.decode(errors="replace")
        if self._place.scheme == "ssh":
            raise Refused(
                f"the SSH key of {name} is not in ~/.ssh/known_hosts: check it with who runs the "
                f"host, then ssh-keyscan {name} >> ~/.ssh/known_hosts"
            )
        raise Refused(
            f"the certificate of {name} is not trusted: install its authority, or set SSL_CERT_FILE"
        )

    def push_negotiation(self, updates: list[pygit2.remotes.PushUpdate]) -> None:
        for update in updates:
            if str(update.src) != self.expect:
                raise LostRace(f"the branch is at {str(update.src)[:10]}")
        self._check()
        hasten()
        self.sent = True

    def push_update_reference(self, refname: str, message: str | None) -> None:
        self.answered = True
        if message is not None:
            self.refusals.append(message)

    def sideband_progress(self, string: str) -> None:
        if self.sent:
            self.said.append(string.strip())
        self._check()

    def transfer_progress(self, stats: object) -> None:
        self._check()

    def push_transfer_progress(self, objects: int, total: int, sent: int) -> None:
        self._check()

    def _check(self) -> None:
        if time.monotonic() > self._end:
            raise Late


def _offers(place: Place) -> Iterator[_Credentials]:
    """The means to get in, in the order in which they are offered."""
    if place.scheme == "ssh":
        # No agent: asking for one would be an error, not a refusal.
        if os.environ.get("SSH_AUTH_SOCK"):
            yield pygit2.KeypairFromAgent(place.user)
        for key in place.keys:
            public = key.with_name(f"{key.name}.pub")
            yield pygit2.Keypair(place.user, str(public) if public.is_file() else None, key, "")
    if place.token:
        yield pygit2.UserPass(place.user, place.token)


def _advice(place: Place) -> str:
    if place.scheme == "ssh":
        return (
            "the server refuses every SSH key it was offered: add one to the account, start "
            "ssh-agent, or name a key in GITSTORE_GIT_SSH_KEY"
        )
    if place.token:
        return (
            f"the server refuses the token of user {place.user}: it may have expired or lack a "
            "right; set a new GITSTORE_GIT_TOKEN"
        )
    return "the server asks for a token: set GITSTORE_GIT_TOKEN"
