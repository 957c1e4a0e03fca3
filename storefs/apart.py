"""Whether mount point, root and local store lie apart: a mount that needs itself hangs for ever."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from storefs.settings import Settings

_Place = tuple[int, int, tuple[str, ...]]
"""Device and inode of what exists, and the names below it that do not exist yet."""


def check_places(settings: Settings, root: Path | None) -> None:
    """Raises Quit unless mount point, root and local store lie apart.

    A daemon that reads or writes below its own mount waits for itself, and nothing can kill it
    then. Sees through links and bind mounts, and places that do not exist yet.
    """
    places = [("the root", root, "--mirror DIR")] if root else []
    if settings.backend == "local":
        places.append(("the local store", settings.local_store, "--local-store DIR"))
    if settings.config_template:
        places.append(("the config template", settings.config_template, "--config-template FILE"))
    for what, place, option in places:
        if _lies_in(place, settings.mountpoint):
            raise Quit(
                Exit.SETTINGS,
                f"{what} {place} lies at or below the mount point {settings.mountpoint}, and the "
                f"mount would wait for itself: choose another place with {option}",
            )
        if _lies_in(settings.mountpoint, place):
            raise Quit(
                Exit.SETTINGS,
                f"the mount point {settings.mountpoint} lies below {what} {place}: choose another "
                f"mount point, or another place with {option}",
            )
    if settings.backend == "local" and root and _nested(root, settings.local_store):
        raise Quit(
            Exit.SETTINGS,
            f"the root {root} and the local store {settings.local_store} lie in one another, and "
            f"each would take the other's files for its own: choose another --mirror",
        )


def _nested(one: Path, other: Path) -> bool:
    return _lies_in(one, other) or _lies_in(other, one)


def _lies_in(inner: Path, outer: Path) -> bool:
    """Whether `inner` is `outer` or lies below it."""
    return _upwards(outer)[0] in _upwards(inner)


def _upwards(path: Path) -> list[_Place]:
    """The path and every directory above it."""
    real = Path(os.path.realpath(path))
    places: list[_Place] = []
    missing: list[tuple[str, ...]] = []
    for place in (real, *real.parents):
        try:
            info = os.stat(place)
        except OSError:
            # Missing, or hidden from us: known by its name below what is known.
            missing = [(place.name, *names) for names in [*missing, ()]]
            continue
        places += [(info.st_dev, info.st_ino, names) for names in [*missing, ()]]
        missing = []
    return places
