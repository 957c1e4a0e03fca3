"""The variables of the proxy's own stores: which backend they choose, and how to hide them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Mapping

_NATIVE = {"PGSTORE_DSN": "postgres", "OBJECTSTORE_ENDPOINT": "s3", "GITSTORE_GIT_URL": "git"}
"""The variables by which the proxy's own stores are switched on, the strongest first."""

_STORE_VARIABLES = (
    "PGSTORE_DSN", "PGSTORE_SCHEMA", "PGSTORE_LOCAL_PATH",
    "OBJECTSTORE_ENDPOINT", "OBJECTSTORE_BUCKET", "OBJECTSTORE_ACCESS_KEY",
    "OBJECTSTORE_SECRET_KEY", "OBJECTSTORE_LOCAL_PATH",
    "GITSTORE_GIT_URL", "GITSTORE_GIT_USERNAME", "GITSTORE_GIT_TOKEN", "GITSTORE_GIT_BRANCH",
    "GITSTORE_LOCAL_PATH",
)  # fmt: skip
"""All that the proxy itself reads of them."""


def blanked(env: Mapping[str, str]) -> dict[str, str]:
    """An environment for a program that must not open the store itself.

    Every variable of the native stores is there in both spellings, and blank: the proxy takes
    blank for unset, and its own `.env` reading leaves alone what is there.
    """
    known = {*_STORE_VARIABLES, *(name.upper() for name in env if of_store(name))}
    spellings = known | {name.lower() for name in known} | {name for name in env if of_store(name)}
    return {**env, **dict.fromkeys(spellings, "")}


def of_store(name: str) -> bool:
    """Whether a variable is one of the native stores', in either spelling."""
    return name.upper().startswith(("PGSTORE_", "OBJECTSTORE_", "GITSTORE_"))


def choose(named: object, env: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """The backend, the sentence that says why, and the variables that name others.

    `named`: the one that was asked for by name, if any.

    Raises Quit for a backend that is named, and whose place is not.
    """
    present = [name for name in _NATIVE if value(env, name)]
    if named:
        backend, cause = str(named), "it was asked for by name"
        ignored = [name for name in present if _NATIVE[name] != backend]
        for name in _NATIVE:
            if _NATIVE[name] == backend and name not in present:
                raise Quit(Exit.SETTINGS, f"{name} must be set for the backend {backend}")
    elif present:
        backend, cause, ignored = _NATIVE[present[0]], f"{present[0]} is set", present[1:]
    else:
        backend, cause, ignored = "local", f"none of {', '.join(_NATIVE)} is set", []
    chosen = f"backend {backend}: {cause}"
    return backend, f"{chosen}; ignored: {', '.join(ignored)}" if ignored else chosen, ignored


def value(env: Mapping[str, str], name: str) -> str:
    """A variable of the native stores: either spelling, trimmed, blank = unset."""
    return env.get(name, "").strip() or env.get(name.lower(), "").strip()
