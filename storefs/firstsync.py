"""The first synchronisation: from what lies on disk and what the backend holds to one tree.

Runs before the mount is made, so nothing is raised and nobody waits. A mirror file that the
index does not account for is never sent: it is what the backend has, or it moves to `found/`.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import wait
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import trio

from storefs import disk
from storefs.backends.contract import Entry, Put
from storefs.content import problem
from storefs.errors import Conflict, StoreError, Unavailable
from storefs.filling import Filling
from storefs.kept import Place
from storefs.mirror import VANISHED, Torn, digest_of
from storefs.paths import CONFIG, ancestors
from storefs.pending import PENDING
from storefs.store import CHUNK
from storefs.survey import Survey
from storefs.tree import grow

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from storefs.admission import Admission
    from storefs.backends.contract import Blob
    from storefs.commit import Committer
    from storefs.documents import Documents
    from storefs.index import Row
    from storefs.store import Store
    from storefs.vanishing import Vanishing

log = logging.getLogger(__name__)

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
    _survey: Survey = field(init=False)
    _committed: set[str] = field(default_factory=set)
    """What this run itself sent, after the snapshot."""

    def __post_init__(self) -> None:
        self._survey = Survey(self.documents, self.admission, self.dir_fd)

    async def run(self, rows: Iterator[Row], now: Callable[[], float]) -> None:
        """Make mirror, index and tree agree with the backend. Raises StoreError, Quit, OSError.

        `now` is the clock of deadlines.
        """
        disk.make_directory(self.dir_fd, disk.TEMPORARY)
        for left in disk.listing(self.dir_fd, disk.TEMPORARY):
            disk.remove(self.dir_fd, f"{disk.TEMPORARY}/{left.name}")
        await self._agree(rows, now)
        # Until this task is resumed once more trio holds what its last thread answered: the
        # snapshot, whose memory the tree can use.
        await trio.lowlevel.checkpoint()
        grow(self._survey)

    async def _agree(self, rows: Iterator[Row], now: Callable[[], float]) -> None:
        """Have what the backend has; what it said is dropped with the return. See `run`.

        The mirror is looked through while the backend answers.
        """
        first = next(rows, None)
        known = rows if first is None else chain([first], rows)
        survey = self.documents.mirror.submit(lambda: self._survey.look(known))
        if first is None and not self.documents.pending:
            await _end_of(survey)
            if await self._take_over():
                await self._conclude(self.documents.mirror.records.keys(), now)
                return
        answer: Mapping[str, Entry] | Unavailable
        try:
            answer = await self.store.snapshot()
        except Unavailable as error:
            answer = error
        await _end_of(survey)
        self._take_up_pending()
        if isinstance(answer, Unavailable):
            self._start_offline(answer)
        else:
            await self._follow(answer, now)

    async def _follow(self, answer: Mapping[str, Entry], now: Callable[[], float]) -> None:
        """Come to what the backend has listed."""
        listed = self.admission.select(answer)
        if self.fresh and not listed:
            with trio.CancelScope(shield=True):  # nothing would take up half a migration
                await self._take_in(now() + FIRST_DEADLINE)
            listed = self.admission.select(await self.store.snapshot())
        snapshot = {path: entry for path, entry in listed.items() if self._has_place(path)}
        await self._fetch(snapshot)
        await self._conclude(snapshot, now)

    async def _conclude(self, held: Container[str], now: Callable[[], float]) -> None:
        """What the backend holds is here; then the rest."""
        await self._make_first_config(now() + FIRST_DEADLINE)
        for path in sorted(self._survey.strays):
            self._set_aside(path)
        self._let_go(held)

    def _take_up_pending(self) -> None:
        """What an earlier run could not send is what programs of this machine see."""
        mirror = self.documents.mirror
        for change in self.documents.pending:
            path = change.path
            if change.data is None:
                self._survey.strays.discard(path)
                if path in mirror.records:
                    mirror.drop(path)
                continue
            record = mirror.records.get(path)
            held = record is not None and record.digest == digest_of(change.data)
            if not held or path in mirror.torn:
                if path in self._survey.strays and disk.read(self.dir_fd, path) != change.data:
                    self._set_aside(path)
                mtime_ns = int(change.since * 1e9)
                mirror.install(path, change.data, Entry(PENDING, len(change.data), 0), mtime_ns)
            self._survey.forget(path)

    def _start_offline(self, error: Unavailable) -> None:
        """Nobody answers: show what this machine has. Raises `error` where that is nothing."""
        if self.fresh or not self.documents.mirror.records:
            raise error
        identity = self.store.backend.identity
        log.error("%s cannot be reached (%s): starting from this machine's mirror", identity, error)
        for path in sorted(self._survey.strays):
            self._set_aside(path)
        self.documents.marks.mark_everything()

    def _has_place(self, path: str) -> bool:
        """Whether no directory or local file of this machine is in the document's way."""
        if path in self._survey.directories:
            self.admission.skip(path, "a directory of this machine has that name")
            return False
        for above in ancestors(path) if self._survey.locals else ():
            if above in self._survey.locals:
                self.admission.skip(path, f"{above} is a file")
                return False
        return True

    async def _take_in(self, deadline: float) -> None:
        """Migration by restarting: commit what a native store left in a brand-new root."""
        for path in sorted(self._survey.strays):
            data = disk.read(self.dir_fd, path)
            if reason := problem(path, data):
                log.warning("%s: left out: %s", path, reason)
                continue
            with suppress(Conflict):  # another machine has taken its own in: it is fetched
                await self._commit(path, data, deadline)
                self._survey.strays.discard(path)
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
        async with Filling(mirror, len(wanted)) as filling:
            for start in range(0, len(wanted), CHUNK):
                blobs = await self.store.read(wanted[start : start + CHUNK])
                for path, blob in blobs:
                    if blob is None:
                        snapshot.pop(path)
                there = ((path, blob) for path, blob in blobs if blob is not None)
                await filling.take(self._admit(there))

    async def _take_over(self) -> bool:
        """Everything at once, into an empty mirror; whether that was all there is to fetch.

        If not, what came is known, and the backend is listed and read for the rest.
        """
        try:
            total = await self.store.count()
            if not total:
                return False
            async with (
                Filling(self.documents.mirror, total) as filling,
                aclosing(self.store.everything(self.admission.max_size)) as portions,
            ):
                async for portion in portions:
                    await filling.take(self._admit(portion))
        except StoreError as error:
            log.info("not everything came at once (%s): listing it", error)
            return False
        return bool(self.documents.mirror.records)

    def _admit(self, portion: Iterable[tuple[str, Blob | int]]) -> list[tuple[str, Blob]]:
        """What of it is shown; what lies in its place makes way."""
        admitted: list[tuple[str, Blob]] = []
        for path, blob in portion:
            size = blob if isinstance(blob, int) else len(blob.data)
            if not self.admission.admits(path, size) or isinstance(blob, int):
                continue
            if self._has_place(path):
                self._make_way(path, blob)
                admitted.append((path, blob))
        return admitted

    def _make_way(self, path: str, blob: Blob) -> None:
        known = path in self._survey.strays or path in self._survey.locals
        if known and disk.read(self.dir_fd, path) != blob.data:
            self._set_aside(path)
        self._survey.forget(path)

    def _install(self, path: str, data: bytes, entry: Entry) -> None:
        self.documents.mirror.install(path, data, entry, entry.mtime_ns or time.time_ns())

    def _set_aside(self, path: str) -> None:
        self._survey.strays.discard(path)
        place = self.committer.kept.take_in(path)
        log.warning("%s: the mirror's file is not what was synchronised; it is in %s", path, place)

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

    def _let_go(self, held: Container[str]) -> None:
        """Documents that vanished from the backend since this machine saw them."""
        mirror = self.documents.mirror
        known = [
            path
            for path, record in mirror.records.items()
            if record.revision != VANISHED and path not in self.documents.pending
        ]
        gone = [path for path in known if path not in held and path not in self._committed]
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


async def _end_of(work: Future[None]) -> None:
    """Wait for it, and raise what it raised."""
    await trio.to_thread.run_sync(wait, [work])
    work.result()
