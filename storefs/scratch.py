"""Bytes that no close has committed: sent in the background, or given up when their time is over.

Empty or invalid bytes are scratch: this machine shows them for a while, and nobody else ever
sees them.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.commit import Committer
    from storefs.documents import Documents
    from storefs.inodes import Inode

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Scratch:
    """What becomes of bytes that were written and not committed."""

    documents: Documents
    committer: Committer
    background: Callable[[Inode, float], None]
    """Have an inode's changed bytes committed after so many seconds, by `commit_later`."""
    deadline: float
    """Seconds a commit may wait for the backend."""

    def after_release(self, inode: Inode, *, wrote: bool) -> None:
        """A handle that could write is gone; `wrote`: bytes came through it."""
        edit = inode.edit
        if edit is not None and edit.changed and inode.linked:
            if wrote and edit.refused != edit.sequence:
                edit.scheduled = True
                self.background(inode, 0.0)
            elif not self.documents.handles.wrote(inode):
                self.documents.keep_scratch(inode)
        self.documents.marks.over(inode.path)

    async def commit_later(self, inode: Inode, seconds: float) -> None:
        """The background commit: whoever wrote is gone, so a refusal is only logged."""
        await trio.sleep(seconds)
        try:
            await self.committer.flush(inode, trio.current_time() + self.deadline)
        except (FileError, OSError) as error:
            log.warning("%s", error)
        finally:
            if inode.edit is not None:
                inode.edit.scheduled = False
                self.after_release(inode, wrote=False)

    async def expire(self) -> None:
        """Give up empty and invalid bytes whose time is over; the last valid version returns."""
        now = time.monotonic()
        for inode in [inode for inode, due in self.documents.scratch.items() if due <= now]:
            await self.give_up(inode)

    async def give_up(self, inode: Inode) -> None:
        """Drop bytes that never became valid; what is not empty is kept aside."""
        self.documents.scratch.pop(inode, None)
        edit = inode.edit
        if edit is None or not edit.changed or not inode.linked:
            return
        sequence = edit.sequence
        try:
            if edit.data:
                deadline = trio.current_time() + self.deadline
                copy = await self.committer.keep(inode.path, bytes(edit.data), deadline)
                log.warning("%s: what was written was never sent; it is in %s", inode.path, copy)
        except OSError as error:  # a full disk: the bytes are nowhere else, so they stay
            log.error("%s: what was written is neither sent nor kept: %s", inode.path, error)
            if edit.sequence == sequence:
                self.documents.keep_scratch(inode)
            return
        if edit.sequence == sequence:
            edit.changed = False
            self.documents.marks.show(inode.path)
