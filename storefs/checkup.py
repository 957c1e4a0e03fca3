"""The looks of `storefs doctor` that may block: each runs in a child process, and only reads."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from storefs import backends
from storefs import mountpoint as mountpoints
from storefs import root as roots
from storefs.admission import Admission
from storefs.backends.contract import Described
from storefs.content import problem
from storefs.errors import Exit, Quit, StoreError
from storefs.store import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from storefs.backends.contract import Backend, Entry
    from storefs.settings import Settings


@dataclass(slots=True)
class Said:
    """What the backend said. `newest`: of its documents, unix seconds."""

    error: str = ""
    identity: str = ""
    documents: int = 0
    checked: int = 0
    """Documents whose content was read before the time was over."""
    newest: float = 0.0
    invalid: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    traits: dict[str, str] = field(default_factory=dict)
    """As a mount's status has them, but how it writes: that is tried by mounts alone."""


class _Collect(logging.Handler):
    """Backends only log what they leave out."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def watch() -> str:
    """Take an inotify instance and a watch. Raises OSError."""
    from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

    with INotify() as inotify:
        inotify.add_watch("/", flags.DELETE_SELF)
    return ""


def mountpoint(place: Path, *, empty: bool) -> str:
    """Whether a mount can be made here, over an `empty` directory or any. Raises Quit."""
    if os.path.lexists(place):
        if mountpoints.check_directory(place, empty=empty):
            return f"{place} is a directory to mount on; documents in it move in"
        return f"{place} is an empty directory to mount on"
    _check_makeable(place)
    return f"{place} does not exist yet; `storefs mount` makes it"


def writable(place: Path) -> str:
    """Whether documents can be kept here. Raises Quit."""
    if os.path.lexists(place):
        _check_rights(place)
        return f"{place} is writable"
    _check_makeable(place)
    return f"{place} does not exist yet; `storefs mount` makes it"


def root(settings: Settings, identity: str, room: int) -> str:
    """Whether a mount could use its root, with so many bytes left. Raises Quit, OSError."""
    path = roots.check_root(settings, identity)
    said = writable(path)
    info = os.statvfs(_existing(path))
    if info.f_bavail * info.f_frsize < room or (info.f_files and not info.f_favail):
        raise Quit(Exit.SETTINGS, f"the disk of the root {path} is full: free some space")
    return f"root: {said}"


def _existing(place: Path) -> Path:
    return next(one for one in (place, *place.parents) if os.path.lexists(one))


def _check_makeable(place: Path) -> None:
    _check_rights(_existing(place))


def _check_rights(place: Path) -> None:
    if not os.path.isdir(place):
        raise Quit(Exit.SETTINGS, f"{place} is not a directory: choose another place")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise Quit(
            Exit.SETTINGS,
            f"{place} is not writable for user {os.geteuid()}: correct its owner and mode",
        )


def backend(settings: Settings, ends: float) -> bytes:
    """A Said as JSON: connects, takes a snapshot, reads documents until `ends` (monotonic)."""
    said = Said()
    logging.getLogger().addHandler(_Collect(said.skipped))
    if settings.backend == "local" and not settings.local_store.exists():
        # Connecting would make it.
        said.identity = f"local:{os.path.realpath(settings.local_store)}"
    else:
        try:
            # Read-only, so that nothing is made: neither tables, nor a bucket, nor a probe in it.
            with closing(backends.connect(replace(settings, read_only=True))) as opened:
                _ask(opened, settings, said, ends)
        except StoreError as error:
            said.error = str(error)
    return json.dumps(asdict(said)).encode()


def _ask(opened: Backend, settings: Settings, said: Said, ends: float) -> None:
    said.identity = opened.identity
    shown = Admission(settings.subdir, settings.max_file_size).select(opened.snapshot())
    if isinstance(opened, Described):  # by now it knows
        said.traits = {name: text for name, text in opened.traits().items() if name != "writes"}
    said.documents = len(shown)
    said.newest = max((entry.mtime_ns for entry in shown.values()), default=0) / 1e9
    for path, data in _contents(opened, shown, ends):
        said.checked += 1
        if reason := problem(path, data):
            said.invalid.append(f"{path} {reason}")


def _contents(
    opened: Backend, shown: Mapping[str, Entry], ends: float
) -> Iterator[tuple[str, bytes]]:
    paths = iter(shown)
    while (chunk := list(islice(paths, CHUNK))) and time.monotonic() < ends:
        for path, blob in opened.read(chunk):
            if blob is not None:
                yield path, blob.data
