"""Which documents of the backend this mount shows; each one that it cannot is logged once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from storefs.paths import InvalidPath, check_path, may_be_shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.contract import Entry

log = logging.getLogger(__name__)


class Admission:
    """Remembers what was left out, for the status and so that the log says it once."""

    def __init__(self, top: str, max_size: int) -> None:
        """`top`: the part of the tree that is mounted, empty for all of it."""
        self._prefix = f"{top}/" if top else ""
        self.max_size = max_size
        self.skipped: dict[str, str] = {}
        self.too_large: set[str] = set()

    def concerns(self, path: str) -> bool:
        """Whether a document of this path belongs to the part that is mounted."""
        return path.startswith(self._prefix) and may_be_shared(path)

    def admits(self, path: str, size: int) -> bool:
        """Whether the document is shown."""
        if not self.concerns(path):
            return False
        try:
            check_path(path)
        except InvalidPath as error:
            self.skip(path, str(error))
            return False
        if size > self.max_size:
            if path not in self.too_large:
                log.warning("%s: %d bytes is more than --max-file-size; not shown", path, size)
            self.too_large.add(path)
            return False
        self.too_large.discard(path)
        return True

    def select(self, snapshot: Mapping[str, Entry]) -> dict[str, Entry]:
        """The part of a snapshot that is shown; what is no longer in it is no longer left out."""
        self.skipped = {path: why for path, why in self.skipped.items() if path in snapshot}
        self.too_large &= snapshot.keys()
        return {path: entry for path, entry in snapshot.items() if self.admits(path, entry.size)}

    def skip(self, path: str, reason: str) -> None:
        """Note a document that cannot be shown."""
        if path not in self.skipped:
            log.warning("%r is not shown: %s", path, reason)
            self.skipped[path] = reason
