"""Attributes as the kernel takes them: filled in, and of listed documents kept.

What makes an empty entry is given by `fuse`, which alone imports the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfuse3 import EntryAttributes

    from storefs.vfs import Attributes

CACHE_SECONDS = 3600.0
"""How long the kernel may keep names and attributes: what changes is invalidated."""

_KEPT = 4096
"""Documents whose entry is kept for the next listing: some 1.5 MB."""


class Entries:
    """The entries of one mount, all of one owner."""

    def __init__(
        self, make: Callable[[], EntryAttributes], uid: int, gid: int, document: Attributes
    ) -> None:
        """`document`: what all documents have in common."""
        self.known: dict[int, tuple[int, int, EntryAttributes]] = {}
        """Documents that were listed, by inode: size, mtime (ns), and the entry that shows them."""
        self._make, self._owner, self._document = make, (uid, gid), document
        self._spare = self.of(document)

    def of(self, attributes: Attributes) -> EntryAttributes:
        """A new entry."""
        entry = self._make()
        entry.st_uid, entry.st_gid = self._owner
        ino, mode, size, mtime_ns, ctime_ns, links, cacheable, disk = attributes
        entry.st_ino = ino
        entry.st_mode = mode
        entry.st_size = size
        entry.st_nlink = links
        entry.st_mtime_ns = mtime_ns
        entry.st_ctime_ns = ctime_ns
        if disk is None:
            entry.st_atime_ns = mtime_ns
            entry.st_blocks = (size + 511) // 512
        else:
            entry.st_atime_ns = disk.st_atime_ns
            entry.st_blocks = disk.st_blocks
        entry.entry_timeout = entry.attr_timeout = CACHE_SECONDS if cacheable else 0.0
        return entry

    def listed(self, ino: int, size: int, mtime_ns: int) -> tuple[int, int, EntryAttributes]:
        """As in `known`, after the document has changed, or when it is listed for the first time.

        Beyond the number that is kept all share one entry, good until the next call.
        """
        keep = ino in self.known or len(self.known) < _KEPT
        entry = self.of(self._document) if keep else self._spare
        entry.st_ino = ino
        entry.st_size = size
        entry.st_blocks = (size + 511) // 512
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = mtime_ns
        found = size, mtime_ns, entry
        if keep:
            self.known[ino] = found
        return found

    def forget(self, ino: int) -> None:
        """The kernel does not know the inode any more."""
        self.known.pop(ino, None)
