"""Bringing the mirror to what the backend holds, and raising the events of it.

Hints and snapshots only mark paths. For each path: ask, check that nothing changed here
meanwhile, and take what was answered (arrivals, removals). The path lock is never taken.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from storefs.errors import BackendFailed, StoreError, Unavailable
from storefs.outgoing import finished
from storefs.store import CHUNK

if TYPE_CHECKING:
    from storefs.admission import Admission
    from storefs.arrivals import Arrivals
    from storefs.documents import Documents
    from storefs.removals import Removals
    from storefs.store import Store

log = logging.getLogger(__name__)

_RETRY = 1.0
"""Seconds before the backend is asked again after it failed, and between looks at paths whose
local change was under way."""

_REFUSED = 10.0
"""Seconds at most before one that refuses is asked again: hosts lock out who insists."""

_SYNC_DEADLINES = 4
"""Deadlines that `sync` waits: a snapshot is longer than a call."""

_SLOW, _RESTS, _REST_MOST = 0.02, 4, 0.5
"""Several changes that took longer than so many seconds: nothing is looked at for so many times
as long, at most so many seconds. This machine has more to do than it can; what changes again
meanwhile is taken in once. 32 mounts on one that all write commit twice as much for it."""

_ENDING = "the mount is ending"
_FAULT = "a fault nobody expected; see this machine's log"

_GENERATIONS = 20_000

_PASSES = 9
"""Times in a row that a fingerprint is believed; then all is listed, whatever it says."""


@dataclass(slots=True)
class _Sync:
    """Somebody who wants to be told when everything is looked at, and why if it was not."""

    done: trio.Event = field(default_factory=trio.Event)
    refusal: str = ""

    def refuse(self, why: str) -> None:
        """Tell it; empty: everything is looked at."""
        self.refusal = why
        self.done.set()


@dataclass(slots=True)
class Reconcile:
    """The outside world's driver of one tree. `run`, `show` and `watch` are tasks of the mount."""

    store: Store
    documents: Documents
    admission: Admission
    removals: Removals
    arrivals: Arrivals
    interval: float
    """Seconds between full snapshots."""
    _woken: trio.Event = field(default_factory=trio.Event)
    _to_show: trio.Event = field(default_factory=trio.Event)
    _asked: list[_Sync] = field(default_factory=list)
    _next_full: float = 0.0
    _not_before: float = 0.0
    _stopped: str = ""
    """Why nobody looks now."""
    _looked: int = 0
    """Paths that this pass asked for."""
    _rest_until: float = 0.0
    _seen: str = ""
    """The backend's fingerprint when everything was looked at last, without a failure."""
    _passed: int = 0
    """How often since then it was the same, and nothing was listed."""

    async def run(self) -> None:
        """Reconcile whenever something is marked, until cancelled."""
        self.documents.marks.wake = self._wake
        self._next_full, self._stopped = trio.current_time() + self.interval, ""
        stopped = _ENDING
        try:
            while True:
                with trio.move_on_at(self._deadline()):
                    await self._woken.wait()
                self._woken = trio.Event()
                began, self._looked = trio.current_time(), 0
                await self.once()
                if self._looked > 1:  # what the disk does not bear counts, and is never hoarded
                    await finished(self.documents.mirror.written())
                self._rest(trio.current_time() - began)
        except Exception:
            stopped = _FAULT
            raise
        finally:
            self._stopped = stopped
            for sync in self._asked:
                sync.refuse(stopped)
            self._asked.clear()

    def _rest(self, took: float) -> None:
        """Leave what comes next alone for a while, if there was much to do and nobody waits."""
        if self._looked > 1 and took > _SLOW and not self._asked:
            self._rest_until = trio.current_time() + min(took * _RESTS, _REST_MOST)
            self._not_before = max(self._not_before, self._rest_until)

    async def show(self) -> None:
        """Show what the mirror holds where it must be shown: also while the backend hangs."""
        marks = self.documents.marks
        while True:
            with trio.move_on_after(_RETRY if marks.shows else math.inf):
                await self._to_show.wait()
            self._to_show = trio.Event()
            self.show_once()

    def show_once(self) -> None:
        """One pass over what must be shown; what is being changed stays marked."""
        for path in sorted(self.documents.marks.shows):
            self.arrivals.show(path)

    def _wake(self) -> None:
        self._woken.set()
        if self.documents.marks.shows:
            self._to_show.set()

    def _deadline(self) -> float:
        marks, now = self.documents.marks, trio.current_time()
        times = [self._next_full]
        if (look := self.removals.vanishing.next_look()) is not None:
            times.append(now + look - time.monotonic())
        if marks.deferred:
            times.append(now + _RETRY)
        if marks.dirty or marks.everything:
            times.append(self._not_before)
        return max(min(times), self._not_before)

    async def once(self) -> None:
        """One pass over what is marked or due; a failing backend is asked again later."""
        marks = self.documents.marks
        for path in [path for path in marks.deferred if not self.documents.busy(path)]:
            marks.over(path)
        if trio.current_time() < self._not_before:
            return
        asked, self._asked = self._asked, []
        seen, refusal = self._seen, ""
        try:
            if marks.everything or trio.current_time() >= self._next_full:
                seen = await self._full("" if asked else seen)
                await self.removals.settle()
            while marks.dirty:
                chosen = sorted(marks.dirty)[:CHUNK]
                marks.dirty.difference_update(chosen)
                await self._look(chosen)
            await self.removals.settle()
            self._seen = seen  # not before: what failed is looked at again
        except StoreError as error:
            log.debug("reconcile: %s", error)
            marks.everything = True
            pause = _RETRY if isinstance(error, Unavailable) else max(_RETRY, self.interval)
            self._not_before = trio.current_time() + min(pause, _REFUSED)
            refusal = str(error)
        except BaseException:
            self._asked = asked + self._asked  # `run` tells them why nobody looks
            raise
        for sync in asked:
            sync.refuse(refusal)
        if len(self.documents.generations) > _GENERATIONS:
            self.documents.generations.forget(self.documents.generations.now - _GENERATIONS)

    async def watch(self) -> None:
        """Turn the backend's hints into marks, until cancelled."""
        marks = self.documents.marks
        while True:
            await trio.sleep_until(self._rest_until)
            try:
                paths = await self.store.wait(self.interval)
            except StoreError as error:
                log.warning("%s: no hints: %s", self.store.backend.identity, error)
                marks.mark_everything()
                await trio.sleep(_RETRY)
                continue
            if paths is None:
                marks.mark_everything()
            else:
                marks.mark(path for path in paths if self.admission.concerns(path))

    async def sync(self, accept_deletions: bool) -> None:
        """Take a full snapshot now and install what it shows. Raises BackendFailed."""
        marks, asked = self.documents.marks, _Sync()
        if self._stopped:
            raise BackendFailed(f"{self.store.backend.identity}: {self._stopped}")
        self._asked.append(asked)
        marks.accept_deletions |= accept_deletions
        self._not_before = 0.0
        marks.mark_everything()
        with trio.move_on_after(self.store.deadline * _SYNC_DEADLINES):
            await asked.done.wait()
            if not asked.refusal:
                return
        marks.accept_deletions = False  # said of another state of the backend
        why = asked.refusal or self.store.error or "no answer"
        raise BackendFailed(f"{self.store.backend.identity}: {why}")

    async def _full(self, seen: str) -> str:
        """Look at everything, unless the fingerprint is `seen` still. Returns it; StoreError."""
        self.documents.marks.everything = False
        now = await self.store.fingerprint()
        left = self.removals.vanishing.absent or self.admission.skipped
        if now and now == seen and not left and self._passed < _PASSES:
            self._passed += 1
            for path in self.documents.mirror.records:
                self.arrivals.announce(path)
        else:
            self._passed = 0
            await self._compare()
        self._next_full = trio.current_time() + self.interval
        return now

    async def _compare(self) -> None:
        """Take a snapshot, look at what differs from it, note what is absent."""
        documents, removals = self.documents, self.removals
        mark = documents.generations.now
        shown = self.admission.select(await self.store.snapshot())
        records = documents.mirror.records
        changed = [
            path
            for path, entry in shown.items()
            if path not in records
            or records[path].revision != entry.revision
            or path in documents.mirror.torn
        ]
        gone = [
            path
            for path in records
            if path not in shown and path not in documents.pending and removals.is_news(path, mark)
        ]
        for path in shown:
            removals.returned(path)
            self.arrivals.announce(path)
        for start in range(0, len(changed), CHUNK):
            await self._look(changed[start : start + CHUNK])
        removals.vanishing.note(gone, time.monotonic())
        removals.after_snapshot(empty=not shown)

    async def _look(self, paths: list[str]) -> None:
        """Ask for the contents of paths and install what is new. Raises StoreError."""
        documents = self.documents
        ready = [path for path in paths if not documents.busy(path)]
        documents.marks.deferred.update(set(paths) - set(ready))
        if not ready:
            return
        mark = documents.generations.now
        self._looked += len(ready)
        try:
            answers = await self.store.read(ready)
        except StoreError:
            documents.marks.dirty.update(ready)
            raise
        for path, blob in answers:
            if documents.busy(path):
                documents.marks.deferred.add(path)
            elif documents.generations.moved(path, mark):
                documents.marks.dirty.add(path)
            else:
                self.arrivals.take(path, blob)
