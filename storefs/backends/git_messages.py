"""Commit messages: the proxy's own first line, then what changed, where and by whom.

Each message is unique: two machines that make the same change in the same second would else
make the same commit, and both would take the other's push for their own.
"""

from __future__ import annotations

import platform
import re
import uuid
from typing import TYPE_CHECKING

from storefs.backends.contract import Put
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.backends.contract import Change

AUTHOR = ("CLIProxyAPI", "cliproxy@local")
"""Author and committer of the proxy's own store."""

INITIAL = "Initialize git token store"
_MACHINE, _COUNT, _ID = "Storefs-Machine", "Storefs-Commits", "Storefs-Id"


def initial() -> str:
    """The message of the first commit of an empty repository."""
    return f"{INITIAL}\n\n{_trailers(1)}"


def message(changes: Sequence[Change], count: int | None) -> str:
    """The message of a commit. `count`: how many commits the branch has with it, if known."""
    lines = [f"{'put' if isinstance(each, Put) else 'delete'} {each.path}" for each in changes]
    body = "\n".join(lines)
    return f"{_subject(changes)}\n\n{body}\n\n{_trailers(count)}"


def count(text: str) -> int | None:
    """How many commits the branch had with this one; None: not said."""
    found = _trailer(text, _COUNT)
    return int(found) if found.isascii() and found.isdigit() else None


def machine(text: str) -> str:
    """The machine that made the commit, empty if it does not say."""
    return _trailer(text, _MACHINE)


def _subject(changes: Sequence[Change]) -> str:
    if len(changes) != 1:
        return "Update auth store"
    (change,) = changes
    if change.path == CONFIG:
        return "Update config" if isinstance(change, Put) else "Delete config"
    name = change.path.removeprefix("auths/")
    return f"Update auth {name}" if isinstance(change, Put) else f"Delete auth {name}"


def _trailers(count: int | None) -> str:
    host = "".join(sign for sign in platform.node() if sign.isprintable()) or "unknown"
    lines = [f"{_MACHINE}: {host}", f"{_ID}: {uuid.uuid4()}"]
    if count is not None:
        lines.insert(1, f"{_COUNT}: {count}")
    return "\n".join(lines)


def _trailer(text: str, name: str) -> str:
    # Only the last paragraph: paths stand above it, and may be called anything.
    last = text.rstrip().rpartition("\n\n")[2]
    found = re.search(rf"^{name}: (.*)$", last, re.MULTILINE)
    return found[1].strip() if found else ""
