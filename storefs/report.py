"""What `.storefs/status` and the metrics say: one mapping, made when it is read."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs import __version__
from storefs.kept import Place
from storefs.logs import LOG
from storefs.mirror import VANISHED
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    from storefs.commit import Committer
    from storefs.handles import Handles
    from storefs.inodes import Inodes
    from storefs.reconcile import Reconcile
    from storefs.rename import Renames
    from storefs.settings import Settings
    from storefs.store import Store


@dataclass(slots=True)
class Report:
    """Reads the parts of one mount; changes nothing."""

    settings: Settings
    root: Path
    store: Store
    committer: Committer
    renames: Renames
    reconcile: Reconcile
    inodes: Inodes
    handles: Handles
    since: float = field(default_factory=time.time)

    def status(self) -> dict[str, object]:
        """Times are unix seconds or null, sizes bytes. Holds no secret and no content."""
        return {**self._place(), **self._state(), **self._troubles(), **self._numbers()}

    def _place(self) -> dict[str, object]:
        settings = self.settings
        return {
            "version": __version__,
            "pid": os.getpid(),
            "backend": settings.backend,
            "identity": self.store.backend.identity,
            "mountpoint": str(settings.mountpoint),
            "subdir": settings.subdir,
            "root": str(self.root),
            "log": str(self.root / LOG),
            "read_only": settings.read_only or self.store.read_only,
            "traits": self.store.traits(),
        }

    def _state(self) -> dict[str, object]:
        return {
            "since": self.since,
            "online": not self.store.error,
            "turned": self.store.turned,
            "error": self.store.error or self.store.refusal,
            "documents": len(self.committer.documents.mirror.records),
            "last_in": self.reconcile.arrivals.last,
            "last_out": self.committer.outgoing.last,
        }

    def _troubles(self) -> dict[str, object]:
        kept, pending = self.committer.kept, self.committer.documents.pending
        vanishing = self.reconcile.removals.vanishing
        held = len(vanishing.absent) if vanishing.held_since is not None else 0
        return {
            "pending": len(pending.waiting()),
            "pending_since": min((change.since for change in pending), default=None),
            "refused": len(pending.refused()),
            "conflicts": kept.count(Place.CONFLICTS),
            "found": kept.count(Place.FOUND),
            "held_deletions": held,
            "only_in_backup": [*self.store.only_in_backup()],
            "skipped": sorted(self.reconcile.admission.skipped),
            "too_large": sorted(self.reconcile.admission.too_large),
            "warnings": self._warnings(),
        }

    def _warnings(self) -> list[str]:
        warnings = []
        documents = self.committer.documents
        if self.renames.config_replaced:
            warnings.append("config replaced: programs that watch the old file are deaf")
        record = documents.mirror.records.get(CONFIG)
        if record is not None and record.revision == VANISHED:
            warnings.append(f"{CONFIG} vanished from the backend; the next save restores it")
        if documents.config_view.refused:
            warnings.append(f"auth-dir is shown as stored: {documents.config_view.refused}")
        if documents.mirror.error:
            warnings.append(f"the mirror's disk: {documents.mirror.error}")
        return warnings

    def _numbers(self) -> dict[str, object]:
        mirror = self.committer.documents.mirror
        return {
            "commits": self.store.commits,
            "raised": self.reconcile.arrivals.raiser.raised,
            "raises_waiting": self.reconcile.arrivals.raiser.waiting,
            "cache_hits": mirror.hits,
            "cache_misses": mirror.misses,
            "inodes": len(self.inodes),
            "open_files": len(self.handles),
        }
