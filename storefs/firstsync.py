"""The first synchronisation: from what lies on disk and what the backend holds to one tree.

Runs before the mount is made, so nothing is raised and nobody waits. A mirror file that the
index does not account for is never sent: it is what the backend has, or it moves to `found/`.
"""

from __future__ import annotations

import logging
import stat
import time
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from storefs import disk
from storefs.backends.contract import Entry, Put
from storefs.content import problem
from storefs.errors import Conflict, Unavailable
from storefs.inodes import Kind
from storefs.kept import Place
from storefs.mirror import VANISHED, Torn, digest_of
from storefs.paths import CONFIG, SHARED, ancestors, is_document
from storefs.pending import PENDING
from storefs.progress import Progress
from storefs.store import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

    from storefs.admission import Admission
    from storefs.backends.contract import Blob
    from storefs.commit import Committer
    from storefs.documents import Documents
    from storefs.index import Row
    from storefs.store import Store
    from storefs.vanishing import Vanishing

log = logging.getLogger(__name__)

_Stamp = tuple[int, int]
"""Size and mtime of a file: all that is kept of its status, there may be 100,000."""

FIRST_DEADLINE = 60.0
"""Seconds for committing the first config: nobody waits behind a lock yet."""


@dataclass(slots=True)
class FirstSync:
    """One run of it; `run` is called once."""

    store: Store
    documents: Documents
    committer: Committer
    admission: Admission
    vanishing: Vanishing
    dir_fd: int
    fresh: bool
    """The root is brand new: files in it are taken in if the backend is empty. Never where the
    mount may only read."""
    first_config: Callable[[], tuple[bytes, str]] | None
    """Makes the config of an empty backend; None: this mount makes none."""
    _strays: set[str] = field(default_factory=set)
    """Files in documents' places that the index does not account for."""
    _locals: set[str] = field(default_factory=set)
    """Other files of the mirror."""
    _committed: set[str] = field(default_factory=set)
    """What this run itself sent, after the snapshot."""

    async def run(self, rows: Iterable[Row], now: Callable[[], float]) -> None:
        """Make mirror, index and tree agree with the backend. Raises StoreError, Quit, OSError.

        `now` is the clock of deadlines.
        """
        disk.make_directory(self.dir_fd, disk.TEMPORARY)
        for left in disk.listing(self.dir_fd, disk.TEMPORARY):
            disk.remove(self.dir_fd, f"{disk.TEMPORARY}/{left.name}")
        directories = await self._agree(rows, now)
        # Until this task is resumed once more trio holds what its last thread answered: the
        # snapshot, whose memory the tree can use.
        await trio.lowlevel.checkpoint()
        self._grow(directories)

    async def _agree(self, rows: Iterable[Row], now: Callable[[], float]) -> list[str]:
        """Have what the backend has; what it said is dropped with the return. See `run`.

        Returns the directories of the mirror, which is looked through while the backend answers.
        """
        survey = self.documents.mirror.submit(lambda: self._survey(rows))
        answer: Mapping[str, Entry] | Unavailable
        try:
            answer = await self.store.snapshot()
        except Unavailable as error:
            answer = error
        await trio.to_thread.run_sync(wait, [survey])
        directories: list[str] = survey.result()
        self._take_up_pending()
        if isinstance(answer, Unavailable):
            self._start_offline(answer)
            return directories
        taken = frozenset(directories)
        listed = self.admission.select(answer)
        if self.fresh and not listed:
            with trio.CancelScope(shield=True):  # nothing would take up half a migration
                await self._take_in(now() + FIRST_DEADLINE)
            listed = self.admission.select(await self.store.snapshot())
        snapshot = {path: entry for path, entry in listed.items() if self._has_place(path, taken)}
        await self._fetch(snapshot)
        await self._make_first_config(now() + FIRST_DEADLINE)
        for path in sorted(self._strays):
            self._set_aside(path)
        self._let_go(snapshot)
        return directories

    def _survey(self, rows: Iterable[Row]) -> list[str]:
        """Look at what lies on disk, with the index in hand; returns the directories."""
        files, directories = self._scan()
        self._adopt(rows, files)
        return directories

    def _scan(self) -> tuple[dict[str, _Stamp], list[str]]:
        files: dict[str, _Stamp] = {}
        directories: list[str] = []
        for top in SHARED:
            if self.documents.inodes.top in ("", top):
                for path, info in disk.walk(self.dir_fd, top):
                    if stat.S_ISREG(info.st_mode):
                        files[path] = info.st_size, info.st_mtime_ns
                    elif stat.S_ISDIR(info.st_mode):
                        directories.append(path)
                    else:
                        log.warning("%s: neither file nor directory; not shown", path)
        return files, directories

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
        self._strays.update(path for path in files if is_document(path))
        self._locals = files.keys() - self._strays

    def _take_up_pending(self) -> None:
        """What an earlier run could not send is what programs of this machine see."""
        mirror = self.documents.mirror
        for change in self.documents.pending:
            path = change.path
            if change.data is None:
                self._strays.discard(path)
                if path in mirror.records:
                    mirror.drop(path)
                continue
            record = mirror.records.get(path)
            held = record is not None and record.digest == digest_of(change.data)
            if not held or path in mirror.torn:
                if path in self._strays and disk.read(self.dir_fd, path) != change.data:
                    self._set_aside(path)
                mtime_ns = int(change.since * 1e9)
                mirror.install(path, change.data, Entry(PENDING, len(change.data), 0), mtime_ns)
            self._strays.discard(path)
            self._locals.discard(path)

    def _start_offline(self, error: Unavailable) -> None:
        """Nobody answers: show what this machine has. Raises `error` where that is nothing."""
        if self.fresh or not self.documents.mirror.records:
            raise error
        log.error(
            "%s cannot be reached (%s): starting from this machine's mirror",
            self.store.backend.identity, error,
        )  # fmt: skip
        for path in sorted(self._strays):
            self._set_aside(path)
        self.documents.marks.mark_everything()

    def _examine(self, row: Row) -> None:
        data = disk.read(self.dir_fd, row.path)
        if digest_of(data) == row.digest:
            return
        self.documents.mirror.torn.add(row.path)
        # A crash leaves the previous bytes, or none; anything else somebody put there.
        if data and digest_of(data) != row.previous:
            self._strays.add(row.path)

    def _has_place(self, path: str, directories: frozenset[str]) -> bool:
        """Whether no directory or local file of this machine is in the document's way."""
        if path in directories:
            self.admission.skip(path, "a directory of this machine has that name")
            return False
        for above in ancestors(path):
            if above in self._locals:
                self.admission.skip(path, f"{above} is a file")
                return False
        return True

    async def _take_in(self, deadline: float) -> None:
        """Migration by restarting: commit what a native store left in a brand-new root."""
        for path in sorted(self._strays):
            data = disk.read(self.dir_fd, path)
            if reason := problem(path, data):
                log.warning("%s: left out: %s", path, reason)
                continue
            with suppress(Conflict):  # another machine has taken its own in: it is fetched
                await self._commit(path, data, deadline)
                self._strays.discard(path)
                log.info("%s: taken in from the root", path)

    async def _commit(self, path: str, data: bytes, deadline: float) -> None:
        entries = await self.store.commit([Put(path, data, None)], deadline)
        self._install(path, data, entries[path])
        self._committed.add(path)

    async def _fetch(self, snapshot: dict[str, Entry]) -> None:
        mirror = self.documents.mirror
        wanted = sorted(
            path
            for path, entry in snapshot.items()
            if path not in self.documents.pending
            and (
                path not in mirror.records
                or mirror.records[path].revision != entry.revision
                or path in mirror.torn
            )
        )
        written: Future[object] | None = None
        with Progress("fetching", len(wanted)) as progress:
            for start in range(0, len(wanted), CHUNK):
                progress.show(start)
                blobs = await self.store.read(wanted[start : start + CHUNK])
                arrived: list[tuple[str, Blob]] = []
                for path, blob in blobs:
                    if blob is None:
                        snapshot.pop(path)
                    elif self.admission.admits(path, len(blob.data)):
                        self._make_way(path, blob)
                        arrived.append((path, blob))
                if written is not None:  # what the disk has not taken yet stays in memory
                    await trio.to_thread.run_sync(written.result)
                written = mirror.fill(arrived)
        if written is not None:
            await trio.to_thread.run_sync(written.result)

    def _make_way(self, path: str, blob: Blob) -> None:
        known = path in self._strays or path in self._locals
        if known and disk.read(self.dir_fd, path) != blob.data:
            self._set_aside(path)
        self._strays.discard(path)
        self._locals.discard(path)

    def _install(self, path: str, data: bytes, entry: Entry) -> None:
        self.documents.mirror.install(path, data, entry, entry.mtime_ns or time.time_ns())

    def _set_aside(self, path: str) -> None:
        self._strays.discard(path)
        place = self.committer.kept.take_in(path)
        log.warning(
            "%s: the file in the mirror is not what was synchronised; it is in %s", path, place
        )

    async def _make_first_config(self, deadline: float) -> None:
        known = CONFIG in self.documents.mirror.records or CONFIG in self.documents.pending
        if self.first_config is None or known:
            return
        data, origin = self.first_config()
        try:
            await self._commit(CONFIG, data, deadline)
        except Conflict:  # another machine made one at the same moment
            for path, blob in await self.store.read([CONFIG]):  # a listing may lag behind
                if blob is not None and self.admission.admits(path, len(blob.data)):
                    self._make_way(path, blob)
                    self._install(path, blob.data, blob.entry)
            return
        log.info("%s: made from %s", CONFIG, origin)

    def _let_go(self, snapshot: dict[str, Entry]) -> None:
        """Documents that vanished from the backend since this machine saw them."""
        mirror = self.documents.mirror
        known = [
            path
            for path, record in mirror.records.items()
            if record.revision != VANISHED and path not in self.documents.pending
        ]
        gone = [path for path in known if path not in snapshot and path not in self._committed]
        self.vanishing.note(gone, time.monotonic())
        if self.vanishing.too_many(len(known)):
            return  # reconcile holds them back, and says so
        for path in gone:
            self.vanishing.returned(path)
            if path == CONFIG:
                log.error("%s vanished from the backend: it stays, the next save restores it", path)
                mirror.touch(path, mirror.records[path].mtime_ns, VANISHED)
            else:
                self._trash(path)

    def _trash(self, path: str) -> None:
        mirror = self.documents.mirror
        try:
            self.committer.kept.keep(Place.TRASH, path, mirror.content(path))
        except (Torn, OSError) as error:
            log.info("%s: not kept in the trash: %s", path, error)
        mirror.drop(path)

    def _grow(self, directories: list[str]) -> None:
        """Build the tree of names; a file wins over deeper names."""
        inodes, records = self.documents.inodes, self.documents.mirror.records
        for top in SHARED:
            disk.make_directory(self.dir_fd, top)
            if not inodes.top:
                inodes.add_path(top, Kind.DIRECTORY)
        for path in sorted(records):
            blocked = [above for above in ancestors(path) if above in records]
            if blocked:
                self.admission.skip(path, f"{blocked[0]} is a file")
                self.documents.mirror.drop(path)
            else:
                inodes.add_path(path, Kind.DOCUMENT)
        for path in directories:
            if inodes.find(path) is None:
                inodes.add_path(path, Kind.DIRECTORY)
        for path in sorted(self._locals):
            if inodes.find(path) is None:
                inodes.add_path(path, Kind.LOCAL)
