"""Commits the filled config template at a start, when its text is not the one filled last.

Runs between the first synchronisation and the mount. What was filled last is known by a digest in
the root: the config itself tells nothing, for the proxy and people change it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs import disk
from storefs.backends.contract import Put
from storefs.errors import StoreError
from storefs.kept import Place
from storefs.mirror import Torn
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from storefs.documents import Documents
    from storefs.kept import Kept
    from storefs.store import Store
    from storefs.template import Template

log = logging.getLogger(__name__)

LAST = ".storefs/template"
"""SHA-256 of the text filled last, below the root."""


@dataclass(slots=True)
class Refresh:
    """The config template of one mount."""

    template: Template
    wanted: bool
    """Whether a changed text is committed; else it is only remembered what the first one was."""
    store: Store
    documents: Documents
    kept: Kept
    dir_fd: int

    async def run(self, deadline: float) -> None:
        """`deadline` is a time of the store's clock. Raises Quit for a template that is none.

        A store that does not take it is no reason not to start: the next start tries again.
        """
        data = self.template.fill() if self.wanted else self.template.filled
        if data is None or (digest := hashlib.sha256(data).hexdigest().encode()) == self._last():
            return
        record = self.documents.mirror.records.get(CONFIG)
        if CONFIG in self.documents.pending or record is None:
            log.warning("%s: not refreshed: a change of it waits for the store", CONFIG)
            return
        try:
            if (before := self.documents.mirror.content(CONFIG)) != data:
                self.kept.keep(Place.TRASH, CONFIG, before)
                entries = await self.store.commit([Put(CONFIG, data, record.revision)], deadline)
                entry = entries[CONFIG]
                self.documents.mirror.install(
                    CONFIG, data, entry, entry.mtime_ns or record.mtime_ns
                )
                log.info("%s: refreshed from %s", CONFIG, self.template.path)
        except (StoreError, Torn, OSError) as error:
            log.warning("%s: not refreshed, the next start tries again: %s", CONFIG, error)
            return
        disk.replace(self.dir_fd, LAST, digest, durable=True)

    def _last(self) -> bytes:
        try:
            return disk.read(self.dir_fd, LAST)
        except FileNotFoundError:
            return b""
