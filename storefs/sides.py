"""The two sides of `storefs copy`: what SOURCE and TARGET name, and how each is reached.

`local:DIR`, `flat:DIR`, or `postgres`, `s3`, `git` as the variables say; `postgres:ENVFILE` takes
the variables of that store from a file of its own, so that both sides can be of one kind.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from storefs import backends, mountpoint, natives, paths
from storefs import settings as options
from storefs.backends.flat import Flat, path_of
from storefs.backends.memory import Memory
from storefs.errors import Exit, Quit, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from storefs.backends.contract import Backend
    from storefs.settings import Settings

_STORES = ("postgres", "s3", "git")
_FORMS = "local:DIR, flat:DIR, postgres, s3 or git (or postgres:ENVFILE, s3:ENVFILE, git:ENVFILE)"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a copy. `directory` is set for `local` and `flat`."""

    words: str
    """As the person named it."""
    settings: Settings
    directory: Path | None = None
    flat: bool = False


def parse(words: str, given: Mapping[str, object], environ: Mapping[str, str], cwd: Path) -> Side:
    """The side that `words` name; asks no store. `given`: options, as settings.load takes them.

    Raises Quit: usage for words that name nothing, settings for what the store lacks.
    """
    kind, _, rest = words.partition(":")
    if kind in ("local", "flat") and rest:
        directory = options.locate(rest, environ, cwd)
        named = {**given, "backend": "local", "local_store": directory}
        flat = kind == "flat" or _is_flat(directory)
        return Side(words, options.load(named, environ, cwd), directory, flat)
    if kind not in _STORES:
        raise Quit(Exit.USAGE, f"{words!r} names no store: use {_FORMS}")
    named = {**given, "backend": kind}
    if rest:
        # Only what this file says counts: the other side may have the same variables.
        environ = {name: text for name, text in environ.items() if not natives.of_store(name)}
        named["env_file"] = [rest]
    return Side(words, options.load(named, environ, cwd))


def _is_flat(directory: Path) -> bool:
    """Whether documents lie directly in it. A new or an empty directory becomes a tree."""
    _refuse_mount(directory)
    if not directory.is_dir() or any((directory / top).is_dir() for top in paths.SHARED):
        return False
    return any(path_of(file.name) for file in directory.iterdir())


def check_apart(source: Side, target: Side) -> None:
    """Raises Quit where one directory lies in the other, or in a mount."""
    for side in (source, target):
        if side.directory is not None:
            _refuse_mount(side.directory)
    if source.directory is None or target.directory is None:
        return
    one, other = source.directory.resolve(), target.directory.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise Quit(Exit.USAGE, f"{one} and {other} lie in one another: name two that do not")


def _refuse_mount(directory: Path) -> None:
    place, _ = mountpoint.on_top(directory)
    for mount in mountpoint.ours():
        if mount == place or mount in place.parents:
            raise Quit(
                Exit.USAGE,
                f"{directory} lies in the storefs mount at {mount}, which shows auth-dir as this "
                "machine needs it: name the store behind it (`storefs status` tells)",
            )


def is_missing(side: Side) -> bool:
    """Whether it is a directory that is still to be made."""
    return side.directory is not None and not side.directory.is_dir()


@contextmanager
def nothing_yet(side: Side) -> Iterator[Backend]:
    """Stands for a directory that is still to be made, and must not be."""
    backend = Memory()
    backend.identity = f"local:{side.directory}"
    yield backend
    backend.close()


@contextmanager
def opened(side: Side, *, writes: bool) -> Iterator[Backend]:
    """The store of a side. One that is not written to is left without new tables or buckets.

    Raises Quit where it cannot be reached.
    """
    with TemporaryDirectory(prefix="storefs-copy-") as scratch:
        try:
            backend = _connect(side, Path(scratch), writes=writes)
        except StoreError as error:
            raise Quit(Exit.UNREACHABLE, f"{side.words}: {error}") from None
        try:
            yield backend
        finally:
            backend.close()


def _connect(side: Side, scratch: Path, *, writes: bool) -> Backend:
    if side.directory is not None:
        if is_missing(side):
            if not writes:
                raise Quit(Exit.SETTINGS, f"{side.words}: there is no such directory")
            side.directory.mkdir(0o700, parents=True, exist_ok=True)
        if side.flat:
            return Flat(side.directory)
    elif side.settings.backend == "git":
        # A clone of its own: the one in the root may be in use by a mount.
        (scratch / ".storefs").mkdir()
        return backends.connect(replace(side.settings, mirror=scratch))
    return backends.connect(replace(side.settings, read_only=not writes))
