"""Open files and directories (open to release)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from storefs.errors import BadHandle

if TYPE_CHECKING:
    from storefs.inodes import Inode

READY_TO_WRITE = 10.0
"""Seconds for which a write handle that has not written holds remote changes back."""


@dataclass(slots=True, eq=False)
class Handle:
    """One open file. `seen`: the generation of the remote change its opener could read."""

    inode: Inode
    writable: bool
    seen: int
    wrote: bool = False
    opened: float = field(default_factory=lambda: time.monotonic())
    frozen: bytes = b""
    """Of a control file: what it said when it was opened."""


class Listing(NamedTuple):
    """A directory, and what was in it when it was opened: two lists, since it may be long."""

    directory: Inode
    names: list[str]
    inodes: list[Inode]


class Handles:
    """The table of open handles, files and directory listings."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._files: dict[int, Handle] = {}
        self._listings: dict[int, Listing] = {}
        self._writers: dict[Inode, set[Handle]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def open(self, handle: Handle) -> int:
        """Register; returns the handle's number."""
        fh = next(self._numbers)
        self._files[fh] = handle
        handle.inode.opens += 1
        if handle.writable:
            self._writers.setdefault(handle.inode, set()).add(handle)
        return fh

    def get(self, fh: int) -> Handle:
        """Raises BadHandle for a number that is not open."""
        try:
            return self._files[fh]
        except KeyError:
            raise BadHandle(f"handle {fh} is not open") from None

    def close(self, fh: int) -> Handle:
        """Forget a released handle."""
        handle = self._files.pop(fh)
        handle.inode.opens -= 1
        writers = self._writers.get(handle.inode)
        if writers is not None:
            writers.discard(handle)
            if not writers:
                del self._writers[handle.inode]
        return handle

    def wrote(self, inode: Inode) -> bool:
        """Whether an open handle has written what is not committed yet."""
        return any(handle.wrote for handle in self._writers.get(inode, ()))

    def about_to_write(self, inode: Inode) -> bool:
        """Whether a handle was just opened for writing and may have read the document."""
        writers = self._writers.get(inode)
        if not writers:
            return False
        recent = time.monotonic() - READY_TO_WRITE
        return any(not handle.wrote and handle.opened > recent for handle in writers)

    def committed(self, inode: Inode, generation: int) -> None:
        """Everything written so far is settled: who wrote starts anew from what is there.

        Who has not written may still hold an older version in its head.
        """
        for handle in self._writers.get(inode, ()):
            if handle.wrote:
                handle.wrote = False
                handle.seen = generation
                handle.opened = 0.0

    def open_listing(self, listing: Listing) -> int:
        """Register a snapshot of a directory's names; returns its number."""
        fh = next(self._numbers)
        self._listings[fh] = listing
        return fh

    def listing(self, fh: int) -> Listing:
        """The snapshot that was registered under this number."""
        return self._listings[fh]

    def close_listing(self, fh: int) -> None:
        """Forget a listing."""
        del self._listings[fh]
