"""What lies in the mirror at start: which files the index accounts for, and which it does not.

Blocking; once, before anybody else uses the mirror.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs import disk
from storefs.mirror import digest_of
from storefs.paths import SHARED, is_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storefs.admission import Admission
    from storefs.documents import Documents
    from storefs.index import Row

log = logging.getLogger(__name__)

_Stamp = tuple[int, int]
"""Size and mtime of a file: all that is kept of its status, there may be 100,000."""


@dataclass(slots=True)
class Survey:
    """One look, by `look`; afterwards what is still unexplained, and whatever else is there."""

    documents: Documents
    admission: Admission
    dir_fd: int
    strays: set[str] = field(default_factory=set)
    """Files in documents' places that the index does not account for."""
    locals: set[str] = field(default_factory=set)
    """Other files of the mirror."""
    directories: frozenset[str] = frozenset()

    def look(self, rows: Iterable[Row]) -> None:
        """Look at the disk, with the index in hand: the mirror then knows what agrees. Raises
        OSError."""
        self._adopt(rows, self._scan())

    def _scan(self) -> dict[str, _Stamp]:
        files: dict[str, _Stamp] = {}
        directories: set[str] = set()
        for top in SHARED:
            if self.documents.inodes.top in ("", top):
                for path, info in disk.walk(self.dir_fd, top):
                    if stat.S_ISREG(info.st_mode):
                        files[path] = info.st_size, info.st_mtime_ns
                    elif stat.S_ISDIR(info.st_mode):
                        directories.add(path)
                    else:
                        log.warning("%s: neither file nor directory; not shown", path)
        self.directories = frozenset(directories)
        return files

    def _adopt(self, rows: Iterable[Row], files: dict[str, _Stamp]) -> None:
        """Believe the index where the file agrees; know the path, but fetch it, where not."""
        mirror = self.documents.mirror
        for row in rows:
            if not self.admission.concerns(row.path):
                continue
            mirror.adopt(row)
            stamp = files.pop(row.path, None)
            if stamp is None:
                mirror.torn.add(row.path)
            elif stamp != (row.size, row.mtime_ns):
                self._examine(row)
        self.strays.update(path for path in files if is_document(path))
        self.locals = files.keys() - self.strays

    def _examine(self, row: Row) -> None:
        data = disk.read(self.dir_fd, row.path)
        if digest_of(data) == row.digest:
            return
        self.documents.mirror.torn.add(row.path)
        # A crash leaves the previous bytes, or none; anything else somebody put there.
        if data and digest_of(data) != row.previous:
            self.strays.add(row.path)

    def forget(self, path: str) -> None:
        """The file at `path` is explained, or no longer there."""
        self.strays.discard(path)
        self.locals.discard(path)
