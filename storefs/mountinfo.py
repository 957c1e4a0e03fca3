"""What /proc/self/mountinfo says is mounted, read without touching any mount."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPE = "fuse.storefs"
"""What /proc/self/mountinfo calls our mounts; follows from `subtype=storefs`."""

_MOUNTINFO = Path("/proc/self/mountinfo")
_LINKS_MAX = 40


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo."""

    path: Path
    fstype: str
    source: str


def mounts() -> list[Mounted]:
    """The mounts this process sees, those on top later. Fields: proc(5), /proc/pid/mountinfo."""
    found = []
    for line in _MOUNTINFO.read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        fstype, source = rest.split(b" ")[:2]
        path = Path(_unescape(fields.split(b" ")[4]))
        found.append(Mounted(path, _unescape(fstype), _unescape(source)))
    return found


def _unescape(field: bytes) -> str:
    """Space, tab, newline and backslash stand there as three octal digits."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), field))


def top(mounts: Sequence[Mounted], place: Path) -> Mounted | None:
    """The mount that is seen at a place without links."""
    return next((mount for mount in reversed(mounts) if mount.path == place), None)


def resolve(path: Path, mounts: Sequence[Mounted]) -> Path:
    """The path without links, asking neither mount points nor anything below our own mounts."""
    points = {mount.path for mount in mounts}
    ours = {mount.path for mount in mounts if mount.fstype == TYPE}
    done = Path("/")
    todo = list(reversed(path.parts[1:]))
    links = 0
    while todo and done not in ours:
        name = todo.pop()
        done = done.parent if name == ".." else done / name
        if done in points or links == _LINKS_MAX:
            continue
        with suppress(OSError):
            target = Path(os.readlink(done))
            links += 1
            done = Path("/") if target.is_absolute() else done.parent
            todo += reversed([part for part in target.parts if part != "/"])
    return done.joinpath(*reversed(todo))
