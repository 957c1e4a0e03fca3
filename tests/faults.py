"""Faults on demand around a real backend: the driver stays real, only the answer is spoilt.

Thread-safe. In force are, in this order: what `at` asks for this call, what `always` asks, and
a file `<op>.<fault>` in the control directory, which other processes can put there.

fail-before   the inner backend is not asked
fail-after    it is, and does its work; the outcome is lost
hang          it is asked only when `release`, `clear` or the file's removal ends the hang
slow          it is asked after the given seconds (the content of a control file)

Failures are Unavailable: raised by snapshot and read, returned for each batch by commit. `wait`
may not raise: failing before it answers None at once, failing after it the hints are lost.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

from storefs.backends.contract import (
    Backend,
    Batch,
    Blob,
    Bulk,
    Copied,
    Described,
    Entry,
    Fingerprinted,
    Historic,
    Inspected,
    Outcome,
    Put,
    Revision,
    Version,
    Watcher,
)
from storefs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

Op = Literal["snapshot", "fingerprint", "read", "commit", "wait"]
Kind = Literal["fail-before", "fail-after", "hang", "slow"]

KINDS: tuple[Kind, ...] = ("fail-before", "fail-after", "hang", "slow")
_LOOK = 0.01
"""Seconds between two looks at a control file during a hang."""


class _Fault(NamedTuple):
    kind: Kind | None
    seconds: float = 0.0
    file: Path | None = None


_NONE = _Fault(None)


class _Injected(Unavailable):
    def __init__(self, op: Op, kind: Kind | None) -> None:
        super().__init__("", f"{op}: {kind} was asked for")
        self.kind = kind


class Faults:
    """A Backend that fails as told. It has each ability that `inner` has."""

    def __new__(cls, inner: Backend, control: Path | None = None) -> Faults:
        able = [part for ability, part in _ABILITIES.items() if isinstance(inner, ability)]
        return super().__new__(type(cls.__name__, (*able, cls), {}) if able else cls)

    def __init__(self, inner: Backend, control: Path | None = None) -> None:
        """`control`: directory of fault files, made when missing; `log` in it gets a line per
        commit: a JSON list of ["put" | "delete", path], written before anything else happens."""
        self.inner = inner
        self.calls: Counter[Op] = Counter()
        """How often each operation was begun; `read` begins with its first item."""
        self._control = control
        self._scheduled: dict[tuple[Op, int], _Fault] = {}
        self._standing: dict[Op, _Fault] = {}
        self._releases = 0
        self._closed = False
        self._changed = threading.Condition()  # protects all of the above
        if control is not None:
            control.mkdir(parents=True, exist_ok=True)

    @property
    def identity(self) -> str:
        """See Backend.identity."""
        return self.inner.identity

    @property
    def concurrency(self) -> int:
        """See Backend.concurrency."""
        return self.inner.concurrency

    def at(self, op: Op, nth: int, kind: Kind, seconds: float = 0.0) -> None:
        """Spoil the `nth` call of `op`, counted like `calls` from 1."""
        with self._changed:
            self._scheduled[op, nth] = _Fault(kind, seconds)

    def always(self, op: Op, kind: Kind, seconds: float = 0.0) -> None:
        """Spoil every call of `op` from now on."""
        with self._changed:
            self._standing[op] = _Fault(kind, seconds)

    def clear(self) -> None:
        """Forget `at` and `always`, and end every hang."""
        with self._changed:
            self._scheduled.clear()
            self._standing.clear()
        self.release()

    def forget(self) -> None:
        """Forget what `at` asked for; what hangs goes on hanging."""
        with self._changed:
            self._scheduled.clear()

    def release(self) -> None:
        """End every hang that is going on; what hung goes on to the inner backend."""
        with self._changed:
            self._releases += 1
            self._changed.notify_all()

    def reached(self, op: Op, count: int, timeout: float) -> bool:
        """Wait until `count` calls of `op` have begun; false when that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.calls[op] >= count, timeout)

    def snapshot(self) -> Mapping[str, Entry]:
        """See Backend.snapshot."""
        with self._around("snapshot"):
            return self.inner.snapshot()

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        """See Backend.read. Lost afterwards: the items come, then the failure."""
        with self._around("read"):
            yield from self.inner.read(paths)

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        """See Backend.commit."""
        self._log(batches)
        try:
            with self._around("commit"):
                return self.inner.commit(batches, timeout)
        except _Injected as failure:
            return [Unavailable("", failure.cause) for _ in batches]

    def close(self) -> None:
        """See Backend.close. What hangs fails."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.inner.close()

    @contextmanager
    def _around(self, op: Op) -> Iterator[None]:
        with self._changed:  # one step with the hang: a release right after `reached` counts
            fault = self._begin(op)
            if fault.kind == "hang":
                self._hang(op, fault)
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        if fault.kind == "fail-before":
            raise _Injected(op, fault.kind)
        yield
        if fault.kind == "fail-after":
            raise _Injected(op, fault.kind)

    def _begin(self, op: Op) -> _Fault:
        self.calls[op] += 1
        self._changed.notify_all()
        scheduled = self._scheduled.pop((op, self.calls[op]), None)
        return scheduled or self._standing.get(op) or self._fault_by_file(op) or _NONE

    def _fault_by_file(self, op: Op) -> _Fault | None:
        if self._control is None:
            return None
        for kind in KINDS:
            file = self._control / f"{op}.{kind}"
            try:
                content = file.read_text().strip()
            except FileNotFoundError:
                continue
            return _Fault(kind, float(content or 0), file)
        return None

    def _hang(self, op: Op, fault: _Fault) -> None:
        releases = self._releases
        while self._releases == releases and not self._closed:
            if fault.file is not None and not fault.file.exists():
                return
            self._changed.wait(None if fault.file is None else _LOOK)
        if self._closed:
            raise _Injected(op, fault.kind)

    def _log(self, batches: Sequence[Batch]) -> None:
        if self._control is None:
            return
        changes = [change for batch in batches for change in batch]
        line = [["put" if isinstance(item, Put) else "delete", item.path] for item in changes]
        with self._changed, (self._control / "log").open("a") as file:
            file.write(json.dumps(line) + "\n")


class _Watched(Faults):
    def wait(self, timeout: float) -> Collection[str] | None:
        """See Watcher.wait."""
        assert isinstance(self.inner, Watcher)
        try:
            with self._around("wait"):
                return self.inner.wait(timeout)
        except _Injected as failure:
            return None if failure.kind == "fail-before" else frozenset()


class _Described(Faults):
    @property
    def read_only(self) -> bool:
        """See Described.read_only."""
        assert isinstance(self.inner, Described)
        return self.inner.read_only

    def traits(self) -> Mapping[str, str]:
        """See Described.traits."""
        assert isinstance(self.inner, Described)
        return self.inner.traits()


class _Historic(Faults):
    def history(self, path: str) -> Sequence[Version] | None:
        """See Historic.history."""
        assert isinstance(self.inner, Historic)
        return self.inner.history(path)

    def blob(self, revision: Revision) -> bytes:
        """See Historic.blob."""
        assert isinstance(self.inner, Historic)
        return self.inner.blob(revision)


class _Inspected(Faults):
    def inspect(self) -> Mapping[str, object] | None:
        """See Inspected.inspect."""
        assert isinstance(self.inner, Inspected)
        return self.inner.inspect()


class _Copied(Faults):
    def only_in_backup(self) -> Sequence[str] | None:
        """See Copied.only_in_backup."""
        assert isinstance(self.inner, Copied)
        return self.inner.only_in_backup()

    def find_only_in_backup(self) -> Sequence[str] | None:
        """See Copied.find_only_in_backup."""
        assert isinstance(self.inner, Copied)
        return self.inner.find_only_in_backup()

    def copy(self, path: str) -> bytes | None:
        """See Copied.copy."""
        assert isinstance(self.inner, Copied)
        return self.inner.copy(path)


class _Bulk(Faults):
    def count(self) -> int:
        """See Bulk.count."""
        assert isinstance(self.inner, Bulk)
        return self.inner.count()

    def everything(self, most: int) -> Iterator[Sequence[tuple[str, Blob | int]]]:
        """See Bulk.everything; each step is a `read`."""
        assert isinstance(self.inner, Bulk)
        portions = iter(self.inner.everything(most))
        while True:
            with self._around("read"):
                portion = next(portions, None)
            if portion is None:
                return
            yield portion


class _Fingerprinted(Faults):
    def fingerprint(self) -> str:
        """See Fingerprinted.fingerprint."""
        assert isinstance(self.inner, Fingerprinted)
        with self._around("fingerprint"):
            return self.inner.fingerprint()


_ABILITIES: dict[type, type[Faults]] = {
    Watcher: _Watched,
    Described: _Described,
    Historic: _Historic,
    Inspected: _Inspected,
    Copied: _Copied,
    Bulk: _Bulk,
    Fingerprinted: _Fingerprinted,
}
