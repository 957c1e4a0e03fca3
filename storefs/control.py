"""`.storefs/` in the mount: status, metrics, orders, and the copies that are kept.

`sync` takes orders that need no answer. `ask` takes those that do: open it for reading and
writing, write one order (a word and its arguments, one a line), fsync, and read the answer, or
why it was refused, from the same handle. The kept copies are plain files of the root; this
module only says which names there are.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs import disk
from storefs.errors import (
    AccessDenied,
    BackendFailed,
    Busy,
    Conflict,
    Denied,
    FileError,
    Invalid,
    InvalidArgument,
    NoEntry,
    NotFound,
    StoreError,
)
from storefs.inodes import Kind
from storefs.kept import Place

if TYPE_CHECKING:
    from storefs.inodes import Inode, Inodes

NAME = ".storefs"

MODES = {"status": 0o400, "metrics": 0o400, "sync": 0o200, "ask": 0o600}
"""The control files, and what may be done with them."""

ORDER_MAX = 65536
"""Bytes of one order."""

_PLACES = frozenset(place.value for place in Place)

_REFUSALS: dict[type[StoreError], type[FileError]] = {
    AccessDenied: Denied,
    Conflict: Busy,
    Invalid: InvalidArgument,
    NotFound: NoEntry,
}
"""What a file system call answers to each failure of a backend; the others are BackendFailed."""

Status = Mapping[str, object]

Answer = Callable[[Sequence[str]], Awaitable[bytes]]
"""Carries out an order with its arguments. Raises FileError, StoreError, OSError."""


@dataclass(slots=True)
class Control:
    """The control directory of one mount."""

    inodes: Inodes
    dir_fd: int
    status: Callable[[], Status]
    sync: Callable[[bool], Awaitable[None]]
    """Reconcile now; True accepts held deletions. Raises BackendFailed."""
    orders: Mapping[str, Callable[[str, str], Awaitable[None]]] = field(default_factory=dict)
    """What else `sync` takes: word -> what is done with a copy's name and a path (or "")."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """What `ask` takes: word -> who answers."""
    directory: Inode = field(init=False)

    def __post_init__(self) -> None:
        self.directory = self.inodes.add(self.inodes.root, NAME, Kind.DIRECTORY)
        for name in MODES:
            self.inodes.add(self.directory, name, Kind.CONTROL)
        for place in Place:
            name = place.value.removeprefix(f"{NAME}/")
            self.inodes.add(self.directory, name, Kind.DIRECTORY)

    def content(self, inode: Inode) -> bytes:
        """What a control file says now."""
        if inode.name == "status":
            return json.dumps(self.status(), indent=2, ensure_ascii=False).encode() + b"\n"
        if inode.name == "metrics":
            return metrics(self.status()).encode()
        return b""

    async def write(self, inode: Inode, data: bytes) -> None:
        """A program wrote to a control file and closed it. Raises FileError, OSError.

        An order is a line `WORD NAME`; a second line, if any, is a path.
        """
        if inode.name == "ask":
            raise InvalidArgument(f"{NAME}/ask: fsync after the order, then read the answer")
        if inode.name != "sync":
            return
        line, _, path = data.decode(errors="replace").strip("\n").partition("\n")
        word, _, name = line.partition(" ")
        if name and word in self.orders:
            await self.orders[word](name, path)
            return
        words = data.decode(errors="replace").split()
        if words not in ([], ["1"], ["accept-deletions"]):
            raise InvalidArgument(f"{NAME}/sync takes 1 or accept-deletions")
        await self.sync("accept-deletions" in words)

    async def answer(self, inode: Inode, data: bytes) -> bytes:
        """A program wrote an order to `ask` and waits for the answer. Raises FileError, OSError."""
        word, *arguments = data.decode(errors="surrogateescape").removesuffix("\n").split("\n")
        if inode.name != "ask" or word not in self.answers:
            raise InvalidArgument(f"{NAME}/ask takes one of: {', '.join(sorted(self.answers))}")
        if len(data) > ORDER_MAX:
            raise InvalidArgument(f"{NAME}/ask takes orders of at most {ORDER_MAX} bytes")
        try:
            return await self.answers[word](arguments)
        except StoreError as error:
            raise _REFUSALS.get(type(error), BackendFailed)(str(error)) from error

    def refresh(self, directory: Inode) -> None:
        """Bring the names of a directory of kept copies up to what lies on the disk."""
        if directory.path not in _PLACES:
            return
        assert directory.children is not None
        present = {entry.name for entry in disk.listing(self.dir_fd, directory.path)}
        for name in [*directory.children]:
            if name not in present:
                self.inodes.unlink(directory.children[name])
        for name in sorted(present - directory.children.keys()):
            with suppress(UnicodeEncodeError):
                name.encode()
                self.inodes.add(directory, name, Kind.LOCAL)


def metrics(status: Status) -> str:
    """The numbers of the status as Prometheus text."""
    lines = []
    for key, value in status.items():
        if isinstance(value, bool | int | float):
            lines.append(f"# TYPE storefs_{key} gauge")
            lines.append(f"storefs_{key} {float(value):g}")
    return "\n".join(lines) + "\n"
