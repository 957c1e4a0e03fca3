"""Letting names go that vanished from the backend: when it is believed, and how."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs.mirror import VANISHED
from storefs.paths import CONFIG
from storefs.raising import Event, Raise
from storefs.store import CHUNK
from storefs.vanishing import Vanishing

if TYPE_CHECKING:
    from storefs.documents import Documents
    from storefs.raising import Raiser
    from storefs.store import Store

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Removals:
    """The deletions part of reconcile."""

    store: Store
    documents: Documents
    raiser: Raiser
    vanishing: Vanishing = field(default_factory=Vanishing)
    _approved: set[str] = field(default_factory=set)
    """Deletions that were held back and may go now."""

    def after_snapshot(self, *, empty: bool) -> None:
        """After a snapshot: deletions that were held back are approved, or held on."""
        marks, vanishing = self.documents.marks, self.vanishing
        now = time.monotonic()
        if marks.accept_deletions:
            marks.accept_deletions = False
            self._approved = set(vanishing.absent)
        elif not empty:
            self._approved = set(vanishing.confirmed(now))
        if not vanishing.absent:
            vanishing.held_since = None
        elif vanishing.held_long_enough(now):
            vanishing.held_since = now

    def is_news(self, path: str, mark: int) -> bool:
        """Whether the absence of a known document, seen when generations stood at `mark`, is."""
        documents = self.documents
        return (
            documents.mirror.records[path].revision != VANISHED
            and path not in documents.held_back
            and not documents.generations.moved(path, mark)
            and not self.raiser.wants(Event.REMOVED, path)  # decided, only not told yet
        )

    def returned(self, path: str) -> None:
        """The backend holds it, so it does not vanish; a removal on its way is called back."""
        self.vanishing.returned(path)
        if self.raiser.wants(Event.REMOVED, path):
            self.documents.generations.advance(path)

    async def settle(self) -> None:
        """Believe in deletions that are old enough, and few or approved. Raises StoreError."""
        vanishing, now = self.vanishing, time.monotonic()
        self._pass_over()
        chosen = [path for path in vanishing.absent if path in self._approved]
        self._approved = set()
        if not chosen and (ripe := vanishing.ripe(now)):
            records = self.documents.mirror.records.values()
            known = sum(record.revision != VANISHED for record in records)
            if vanishing.too_many(known):
                self._hold(now, known)
            else:
                vanishing.held_since = None
                chosen = ripe
        for start in range(0, len(chosen), CHUNK):
            await self._confirm(chosen[start : start + CHUNK], now)

    def _pass_over(self) -> None:
        """Forget what a program of this machine removed, or renamed away, before it was due."""
        documents = self.documents
        for path in list(self.vanishing.absent):
            if path not in documents.mirror.records and documents.inodes.find(path) is None:
                self.vanishing.returned(path)

    async def _confirm(self, paths: list[str], now: float) -> None:
        """Ask once more for each path: only a clear "absent" lets its name go."""
        mark = self.documents.generations.now
        answers = dict(await self.store.read(paths))
        for path in paths:
            if path not in answers:  # it cannot be read: that is no deletion
                self.vanishing.returned(path)
            elif answers[path] is not None or self.documents.busy(path):
                self.documents.marks.dirty.add(path)
                self.vanishing.returned(path)
            elif not self.documents.generations.moved(path, mark):
                self.remove(path, now)

    def _hold(self, now: float, known: int) -> None:
        vanishing = self.vanishing
        if vanishing.held_since is None:
            vanishing.held_since = now
            log.error(
                "%s lacks %d of %d documents: nothing is deleted here; `storefs status` tells, "
                "`storefs sync --accept-deletions` deletes them",
                self.store.backend.identity,
                len(vanishing.absent),
                known,
            )
        elif vanishing.confirmed(now):
            self.documents.marks.mark_everything()

    def remove(self, path: str, now: float) -> None:
        """Let the name go away, with its event; config.yaml stays whatever happens."""
        documents, vanishing = self.documents, self.vanishing
        record = documents.mirror.records.get(path)
        inode = documents.inodes.find(path)
        if path == CONFIG and record is not None:
            log.error(
                "%s vanished from the backend: it stays here, the next save restores it", path
            )
            documents.mirror.touch(path, record.mtime_ns, VANISHED)
            vanishing.returned(path)
        elif inode is None:
            if record is not None:
                documents.mirror.drop(path)
                documents.generations.advance(path)
            vanishing.returned(path)
        elif (wait := documents.marks.removable_in(path)) > 0:
            if record is None:  # never a document, so not counted; shown again in a while
                documents.marks.shows.add(path)
            else:
                vanishing.absent[path] = now + wait
        else:
            vanishing.returned(path)
            generation = documents.generations.of(path)
            self.raiser.request(Raise(Event.REMOVED, path, generation))
