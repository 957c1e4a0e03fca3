"""Which Git repository the settings mean, and with what it is reached. Asks nobody."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import pygit2

from storefs import natives
from storefs import settings as words
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from storefs.settings import Settings

USER = "git"
"""The user name where none is set, as in the proxy's own store."""

MAX_COMMITS = 1000
_SCHEMES = {"http": "http", "https": "https", "git": "git", "ssh": "ssh", "git+ssh": "ssh",
            "ssh+git": "ssh"}  # fmt: skip
_SCP = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>[^@/:]+|\[[0-9a-fA-F:.]+\]):(?P<path>.+)")
"""`git@example.com:you/store.git`, which is SSH."""

_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_EXAMPLES = "https://github.com/you/store.git or git@github.com:you/store.git"


@dataclass(frozen=True, slots=True)
class Place:
    """A repository, a branch, and the means to get in."""

    scheme: str
    """`https`, `http`, `ssh` or `git`."""
    url: str
    """Without token or password, so that no message of libgit2 can hold one."""
    branch: str
    """Empty: the remote's default branch."""
    user: str
    token: str = field(repr=False)
    keys: tuple[Path, ...]
    """Private SSH keys to offer after the agent's."""
    max_commits: int

    @property
    def identity(self) -> str:
        """See Backend.identity."""
        return f"git:{self.url.rstrip('/')}" + (f"#{self.branch}" if self.branch else "")


def place(settings: Settings) -> Place:
    """The repository of the GITSTORE_* variables. Raises Quit for a missing or impossible one."""
    env = settings.env
    url = natives.value(env, "GITSTORE_GIT_URL")
    if not url:
        raise _quit(f"the git backend needs GITSTORE_GIT_URL, such as {_EXAMPLES}")
    known = _scp(url) or _parsed(url)
    user = natives.value(env, "GITSTORE_GIT_USERNAME") or known.user or USER
    return Place(
        scheme=known.scheme,
        url=known.url.format(user=f"{user}@" if known.scheme == "ssh" else ""),
        branch=_branch(natives.value(env, "GITSTORE_GIT_BRANCH")),
        user=user,
        token=natives.value(env, "GITSTORE_GIT_TOKEN") or known.password,
        keys=_keys(settings) if known.scheme == "ssh" else (),
        max_commits=_max_commits(env),
    )


class _Known(NamedTuple):
    scheme: str
    url: str
    """With `{user}` where the user name belongs; no password."""
    user: str
    password: str


def _scp(url: str) -> _Known | None:
    if "://" in url or url.startswith((".", "/", "~")):
        return None
    if (found := _SCP.fullmatch(url)) is None or not url.isprintable():
        return None
    host, path = (_literal(found[name]) for name in ("host", "path"))
    return _Known("ssh", f"{{user}}{host}:{path}", found["user"] or "", "")


def _parsed(url: str) -> _Known:
    if not url.isprintable() or " " in url:
        raise _quit("GITSTORE_GIT_URL holds a space or a control character")
    scheme, found, _ = url.partition("://")
    if not found or scheme.lower() == "file":
        raise _refuse_path()
    if scheme.lower() not in _SCHEMES:
        raise _quit(f"GITSTORE_GIT_URL must be a https, http, ssh or git URL, such as {_EXAMPLES}")
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete or parts.path in ("", "/"):
        raise _quit(f"GITSTORE_GIT_URL needs a host and the path of a repository: {_EXAMPLES}")
    if parts.query or parts.fragment:
        raise _quit("GITSTORE_GIT_URL must end with the path; a token goes to GITSTORE_GIT_TOKEN")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    rest = _literal(f"{host}:{parts.port}{parts.path}" if parts.port else f"{host}{parts.path}")
    scheme = _SCHEMES[scheme.lower()]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return _Known(scheme, f"{scheme}://{{user}}{rest}", user, password)


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _branch(name: str) -> str:
    name = name.removeprefix("refs/heads/")
    if name and not pygit2.reference_is_valid_name(f"refs/heads/{name}"):
        raise _quit(f"GITSTORE_GIT_BRANCH: {name!r} cannot be the name of a branch")
    return name


def _keys(settings: Settings) -> tuple[Path, ...]:
    if named := natives.value(settings.env, "GITSTORE_GIT_SSH_KEY"):
        key = words.locate(named, settings.env, settings.directory)
        if not key.is_file():
            raise _quit(f"GITSTORE_GIT_SSH_KEY: there is no file {key}")
        return (key,)
    directory = words.home(settings.env) / ".ssh"
    return tuple(key for name in _KEYS if (key := directory / name).is_file())


def _max_commits(env: Mapping[str, str]) -> int:
    text = natives.value(env, "GITSTORE_MAX_COMMITS")
    if not text:
        return MAX_COMMITS
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1_000_000:
        raise _quit("GITSTORE_MAX_COMMITS must be a number from 1 to 999999; 1 keeps no history")
    return int(text)


def _refuse_path() -> Quit:
    return _quit(
        "GITSTORE_GIT_URL is a path: a push to a path compares nothing, so that two machines "
        "would lose each other's changes. Serve the repository by HTTP or SSH, such as "
        "ssh://localhost/srv/store.git, or use --backend local for a shared directory"
    )


def _quit(message: str) -> Quit:
    return Quit(Exit.SETTINGS, message)
