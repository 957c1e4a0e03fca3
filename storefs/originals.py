"""The files that lie under a mount point before the mount is made: which of them are documents.

Finds and reads them, and sets them aside by renaming; never deletes one, never asks a store.
Blocking. Directories on which something is mounted are not entered: that could hang.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs import disk, mountpoint, paths
from storefs.backends import local_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BEFORE = ".before-storefs"
"""Ends the name of the directory beside the mount point that takes the originals."""

STATE = ".storefs/moved-in"
"""Below the root: what was taken in, and what was told of the rest."""

NATIVE = ("pgstore", "objectstore", "gitstore")
"""What the proxy's own stores make below WRITABLE_PATH."""

_ROOT = ".storefs"
"""In a native directory: it is the root of a mount, and none of its files are originals."""


@dataclass(frozen=True, slots=True)
class Original:
    """A file that would be a document. `name` is relative to the mount point."""

    name: str
    path: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Survey:
    """What lies there. Of `others` directories end with a slash."""

    originals: list[Original] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def document_of(name: str, subdir: str) -> str | None:
    """The document that the file `name` under the mount point is, None: it is none.

    Layouts: the tree as the mount shows it; flat, as `~/.cli-proxy-api` is without storefs; and
    the trees that the native stores left there. `subdir` is the part of the tree that is mounted.
    """
    top, _, below = name.partition("/")
    if top in NATIVE:
        path = below
    elif subdir:
        path = f"{subdir}/{name}"
    elif not below:
        path = paths.CONFIG if name == "config.yaml" else f"auths/{name}"
    else:
        path = name
    with suppress(paths.InvalidPath):
        paths.check_path(path)
        if paths.is_document(path) and path.startswith(f"{subdir}/" if subdir else ""):
            return path
    return None


def survey(place: Path, subdir: str) -> Survey:
    """Look through a mount point on which nothing is mounted. Raises OSError."""
    found = Survey()
    taken = mountpoint.places()
    for name, status in _walk(place, "", subdir, taken, found.others):
        path = document_of(name, subdir)
        if path is None or not stat.S_ISREG(status.st_mode):
            found.others.append(name)
        else:
            found.originals.append(Original(name, path, status.st_size, status.st_mtime_ns))
    # Of two originals of one document the one written last comes first.
    found.originals.sort(key=lambda one: (one.path, -one.mtime_ns, one.name))
    found.others.sort()
    return found


def _walk(
    place: Path, directory: str, subdir: str, taken: set[Path], others: list[str]
) -> Iterator[tuple[str, os.stat_result]]:
    """Files, and directories as far as documents can lie in them."""
    for item in _listed(place, directory, others):
        name = f"{directory}/{item.name}" if directory else item.name
        if place / name in taken:
            others.append(f"{name}/")
        elif not item.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield name, item.stat(follow_symlinks=False)
        elif _may_hold(place, name, subdir):
            yield from _walk(place, name, subdir, taken, others)
        elif _listed(place, name, others):
            others.append(f"{name}/")


def _listed(place: Path, directory: str, others: list[str]) -> list[os.DirEntry[str]]:
    """What a directory holds; one below the mount point that is closed to us is one of `others`."""
    try:
        with os.scandir(place / directory) as items:
            return sorted(items, key=lambda item: item.name)
    except PermissionError:
        if not directory:
            raise
        others.append(f"{directory}/")
        return []


def _may_hold(place: Path, name: str, subdir: str) -> bool:
    top, _, below = name.partition("/")
    if top in NATIVE:
        if os.path.lexists(place / top / _ROOT):
            return False
        return not below or below == "config" or _holds(below)
    if subdir:
        return _holds(f"{subdir}/{name}")
    return name == "config" or _holds(name)


def _holds(path: str) -> bool:
    """Whether a token can lie in the directory."""
    return paths.is_document(f"{path}/x.json")


def read(place: Path, original: Original) -> bytes | None:
    """The content; None where it is gone, or changes just now. Raises OSError."""
    above, _, last = original.name.rpartition("/")
    try:
        with local_files.top(place) as top, local_files.opened(above or ".", top) as directory:
            data, status = local_files.read(last, directory)
    except FileNotFoundError:
        return None
    return data if (status.st_size, status.st_mtime_ns) == _stamp(original) else None


def _stamp(original: Original) -> tuple[int, int]:
    return original.size, original.mtime_ns


def before(place: Path) -> Path:
    """Where originals go."""
    return place.with_name(place.name + BEFORE)


def set_aside(place: Path, original: Original) -> bool:
    """Rename an original to its place in `before(place)`; durable.

    False: it changed since it was looked at, and stays. Raises OSError.
    """
    source, target = place / original.name, before(place) / original.name
    try:
        status = os.lstat(source)
    except FileNotFoundError:
        return False
    if (status.st_size, status.st_mtime_ns) != _stamp(original):
        return False
    _make_directories(place, target.parent)
    _move(source, target)
    for directory in {source.parent, target.parent}:
        _sync(directory)
    for directory in source.parents:
        if directory == place:
            break
        with suppress(OSError):  # it holds something else
            directory.rmdir()
    return True


def _move(source: Path, target: Path) -> None:
    """Rename, never over anything: what lies there already keeps its name."""
    free, number = target, 0
    while True:
        try:
            os.link(source, free, follow_symlinks=False)
        except FileExistsError:
            if os.path.samestat(os.lstat(source), os.lstat(free)):  # a kill came between
                break
            number += 1
            free = target.with_name(f"{target.name}.{number}")
        except OSError:  # no links here, or not of this file
            if not os.path.lexists(free):
                os.rename(source, free)
                return
            number += 1
            free = target.with_name(f"{target.name}.{number}")
        else:
            break
    os.unlink(source)


def _make_directories(place: Path, directory: Path) -> None:
    """Private, and the mount point's owner's, where root mounts for somebody."""
    owner = os.stat(place)
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for one in reversed(missing):
        one.mkdir(0o700)
        if os.geteuid() == 0:
            os.chown(one, owner.st_uid, owner.st_gid)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(slots=True)
class Memory:
    """What the root remembers of earlier starts."""

    taken: dict[str, str] = field(default_factory=dict)
    """Name -> SHA-256 of an original that was taken in and is still there."""
    told: list[str] = field(default_factory=list)
    """The other files that a start has listed."""


def load(dir_fd: int) -> Memory:
    """What is remembered; nothing, where that cannot be read."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        found: Mapping[str, object] = json.loads(disk.read(dir_fd, STATE))
        return Memory(**found)  # type: ignore[arg-type]  # as `save` wrote it
    return Memory()


def save(dir_fd: int, memory: Memory) -> None:
    """Durable. Raises OSError."""
    text = json.dumps({"taken": memory.taken, "told": memory.told})
    disk.replace(dir_fd, STATE, text.encode(), durable=True)
