"""Which paths exist for storefs, and which of them are documents. Pure functions.

A path is POSIX-relative (`auths/team/a.json`), checked once where it enters.
"""

from __future__ import annotations

import re

CONFIG = "config/config.yaml"
SHARED = ("config", "auths")
"""The two directories of the tree that backends hold."""

NAME_MAX = 255
"""Bytes of one name, as on any Linux file system."""

_PATH_MAX = 4096
_SURELY_SHORT = NAME_MAX // 4
"""Characters; each is at most four bytes of UTF-8."""

_NO_NAMES = frozenset(("", ".", ".."))
_NEVER = re.compile("[\x00-\x1f\x7f/\ud800-\udfff]")
_LOCAL_TREES = ("config/static/", "auths/logs/")
"""The proxy's panel and logs: prompts and answers, never sent whatever they are named."""


class InvalidPath(ValueError):
    """The path or name can never exist here; the message says why."""


def check_name(name: str) -> None:
    """Raises InvalidPath unless `name` can be one component of a path, its length aside."""
    if name in _NO_NAMES:
        raise InvalidPath(f"{name!r} is not a name")
    if (found := _NEVER.search(name)) is not None:
        if "\ud800" <= found[0] <= "\udfff":
            raise InvalidPath(f"{name!r} is not UTF-8")
        raise InvalidPath(f"{name!r} holds a slash or a control character")


def check_path(path: str) -> None:
    """Raises InvalidPath unless every component is a name of at most 255 bytes."""
    for name in path.split("/"):
        check_name(name)
        if len(name) > _SURELY_SHORT and len(name.encode()) > NAME_MAX:
            raise InvalidPath(f"{name[:40]!r}… is longer than {NAME_MAX} bytes")
    if len(path) > _SURELY_SHORT and len(path.encode()) >= _PATH_MAX:
        raise InvalidPath(f"{path[:40]!r}… is longer than {_PATH_MAX - 1} bytes")


def may_be_shared(path: str) -> bool:
    """Whether a document of a backend is shown under this path.

    Anything below the two prefixes is, except hidden names and the proxy's own local trees.
    """
    top, _, rest = path.partition("/")
    if top not in SHARED or not rest or path.startswith(_LOCAL_TREES):
        return False
    return rest[0] != "." and "/." not in rest


def is_document(path: str) -> bool:
    """Whether a program that writes this path writes a document."""
    if path == CONFIG:
        return True
    return path.startswith("auths/") and path.endswith(".json") and may_be_shared(path)


def parent(path: str) -> str:
    """The path of the directory that holds `path`, empty for a name at the top."""
    return path.rpartition("/")[0]


def ancestors(path: str) -> list[str]:
    """The directories above `path`, outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
