"""The state machine of the model test, first half: what programs do, and starts and stops."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from trio.testing import MockClock

from storefs.backends.memory import Memory
from storefs.content import problem
from storefs.errors import BackendFailed, FileError, InvalidDocument, Stale
from storefs.inodes import Kind
from tests.faults import Faults
from tests.machines import CONFIG, Machine, follow
from tests.model.alphabet import choices, contents, documents, machines, names, numbers, valid
from tests.model.flights import Flight, Pass
from tests.model.world import Loop, Recorded, Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Backend

    Connect = Callable[[], Backend]


class Open(NamedTuple):
    """A descriptor that a program keeps over several steps."""

    machine: int
    fh: int


class Programs(RuleBasedStateMachine):
    """Programs on two machines over one store, and what storefs owes each of their calls."""

    new_store: ClassVar[Callable[[], Connect]] = lambda: Memory().session
    """An empty store: what makes a session of it at each call."""
    only_json = False
    """The store holds no other documents below auths/."""

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.base = Path(tempfile.mkdtemp(prefix="storefs-model-", dir=base))
        self.clock = MockClock()
        self.patch = pytest.MonkeyPatch()
        follow(self.clock, self.patch)
        self.loop = Loop(self.clock)
        self.connect = type(self).new_store()
        self.outside = self.connect()
        self.reference = Reference()
        self.faults: list[Faults] = []
        self.machines: list[Machine] = []
        self.locals: list[dict[str, bytes]] = [{}, {}]
        """Local files whose content is known."""
        self.open: list[Open] = []
        self.acknowledged: dict[tuple[int, str], bytes] = {}
        """(machine, path) -> what a program was told last is safe; gone with an unlink."""
        self.away: set[int] = set()
        """Machines that cannot reach the backend."""
        self.flights: dict[int, Flight] = {}
        self.passes: dict[int, Pass] = {}
        for number in range(2):
            self._boot(number)

    # Starting and stopping.

    def _boot(self, number: int) -> None:
        session = Recorded(f"m{number}", self.connect(), self.reference)
        faults = Faults(session)
        if number in self.away and self.machines[number].documents.mirror.records:
            self._cut(faults)  # it starts from its mirror
        machine = self.loop.now(Machine, self.base / f"m{number}", faults)
        if number < len(self.machines):
            self.machines[number], self.faults[number] = machine, faults
        else:
            self.machines.append(machine)
            self.faults.append(faults)
        before = len(self.reference.history[CONFIG])
        self.loop.call(machine.start, self.loop.nursery)
        for who, data in self.reference.history[CONFIG][before:]:
            assert data is not None
            self.reference.written[who, CONFIG, data] += 1  # the first config
        for change in machine.documents.pending:
            assert self.loop.now(machine.content, change.path) == change.data
        if number in self.away:
            self._cut(faults)

    def _cut(self, faults: Faults) -> None:
        for op in ("commit", "read", "snapshot"):
            faults.always(op, "fail-before")

    @rule(number=machines, clean=st.booleans())
    def restart(self, number: int, clean: bool) -> None:
        """SIGTERM or a crash, with descriptors open and raises not yet made."""
        machine = self.machines[number]
        if late := self.passes.pop(number, None):
            late.drop()
        if clean:
            self._land(number)
            if number not in self.away:
                self.faults[number].clear()
            self._stop(number)
        else:
            if flight := self.flights.pop(number, None):
                flight.drop()
            self.loop.now(machine.kill)
        self.open = [handle for handle in self.open if handle.machine != number]
        self._boot(number)

    def _stop(self, number: int) -> None:
        """What open descriptors have written goes out, over what was told to be safe before."""
        machine = self.machines[number]
        written = {
            inode.path: bytes(inode.edit.data)
            for inode in machine.documents.inodes.edited()
            if inode.edit is not None
        }
        self.loop.call(machine.stop)
        for path, data in written.items():
            if data and problem(path, data) is None:
                before = self.acknowledged.get((number, path))
                self._check_safe(machine, path, data)
                sent = self.reference.was_current(path, data) or self._waits(machine, path, data)
                if not sent and before is not None:
                    self.acknowledged[number, path] = before

    # What programs do.

    def _wrote(self, number: int, path: str, data: bytes) -> None:
        self.reference.written[f"m{number}", path, data] += 1

    def _begun(self, number: int, fh: int, *, release: bool) -> tuple[str, bytes | None]:
        """The path, and the bytes that closing or syncing this descriptor has to commit."""
        handle = self.machines[number].vfs.handles.get(fh)
        inode, edit = handle.inode, handle.inode.edit
        sends = inode.kind is Kind.DOCUMENT and inode.linked and (handle.wrote or not release)
        if edit is None or not edit.changed or not sends:
            return inode.path, None
        return inode.path, bytes(edit.data)

    def _commit(self, number: int, fh: int, *, release: bool) -> None:
        """Close or fsync a descriptor."""
        self._land(number)
        machine = self.machines[number]
        path, data = self._begun(number, fh, release=release)
        error: Exception | None = None
        try:
            self.loop.call(machine.close if release else machine.vfs.fsync, fh)
        except (InvalidDocument, Stale, BackendFailed) as refusal:
            error = refusal
        self._check_answer(machine, path, data, error)

    def _check_answer(
        self, machine: Machine, path: str, data: bytes | None, error: BaseException | None
    ) -> None:
        """Hold storefs to what it answered."""
        if isinstance(error, InvalidDocument):
            assert data is not None
            assert not self.reference.was_current(path, data)
        elif isinstance(error, Stale):
            assert data in machine.kept("conflicts"), f"{path} {data!r} refused and lost"
        elif isinstance(error, BackendFailed):
            assert self._waits(machine, path), f"{path} {data!r} neither sent nor pending"
            if data and self._waits(machine, path, data):  # in the place of what waited before
                self.acknowledged[self.machines.index(machine), path] = data
        elif error is not None:
            raise error
        elif data:
            self._check_safe(machine, path, data)

    def _waits(self, machine: Machine, path: str, data: bytes | None = None) -> bool:
        change = machine.documents.pending.get(path)
        return change is not None and (data is None or change.data == data)

    def _check_safe(self, machine: Machine, path: str, data: bytes) -> None:
        """What was acknowledged is, or was, in the backend, or this machine's disk has it."""
        self.acknowledged[self.machines.index(machine), path] = data
        assert self.reference.was_current(path, data) or (
            self._waits(machine, path, data) or data in machine.kept("conflicts")
        ), f"{path} {data!r} acknowledged"

    @rule(choice=choices, release=st.booleans())
    def begin_commit(self, choice: int, release: bool) -> None:
        """A close or fsync that hangs in the backend while other things happen."""
        if not self.open:
            return
        number, fh = self.open[choice % len(self.open)]
        self._land(number)
        machine = self.machines[number]
        if release:
            self.open.remove(Open(number, fh))
        path, data = self._begun(number, fh, release=release)
        self.reference.doubts[f"m{number}"] += 1
        flight = Flight(path, data, self.faults[number], self.loop)
        self.flights[number] = flight
        if not flight.start(machine.close if release else machine.vfs.fsync, fh):
            self._land(number)

    def _land(self, number: int) -> None:
        """Nothing of this machine may hang any longer: the next step could wait for it."""
        flight = self.flights.pop(number, None)
        if flight is not None:
            flight.land()
            self._check_answer(self.machines[number], flight.path, flight.data, flight.error)

    def _write(self, number: int, fh: int, data: bytes) -> None:
        """Write at the start of the file, and note what it reads then."""
        machine = self.machines[number]
        inode = machine.vfs.handles.get(fh).inode
        self.loop.now(machine.vfs.write, fh, 0, data)
        present = self.loop.now(machine.vfs.read, fh, 0, 1000)
        if inode.kind is Kind.DOCUMENT:
            self._wrote(number, inode.path, present)
        elif inode.linked:
            self.locals[number][inode.path] = present

    @rule(number=machines, path=documents, save=numbers)
    def save(self, number: int, path: str, save: int) -> None:
        """What the proxy does all day."""
        self._put(number, path, valid(save))

    @rule(number=machines, path=names, data=contents)
    def put(self, number: int, path: str, data: bytes) -> None:
        self._put(number, path, data)

    def _put(self, number: int, path: str, data: bytes) -> None:
        """Open with O_TRUNC, write, close."""
        self._land(number)
        machine = self.machines[number]
        try:
            fh = self.loop.now(machine.open, path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except FileError:
            return
        if machine.vfs.handles.get(fh).inode.kind is Kind.LOCAL:
            self.locals[number][path] = b""
        if data:
            self._write(number, fh, data)
        self._commit(number, fh, release=True)

    @rule(
        number=machines, path=names, flags=st.sampled_from([0, os.O_CREAT, os.O_TRUNC, os.O_EXCL])
    )
    def open_file(self, number: int, path: str, flags: int) -> None:
        """A descriptor that stays open."""
        machine = self.machines[number]
        flags = flags | os.O_CREAT if flags == os.O_EXCL else flags
        try:
            fh = self.loop.now(machine.open, path, os.O_RDWR | flags)
        except FileError:
            return
        inode = machine.vfs.handles.get(fh).inode
        if inode.kind is Kind.LOCAL:
            self.locals[number][path] = self.loop.now(machine.vfs.read, fh, 0, 1000)
        self.open.append(Open(number, fh))

    @rule(choice=choices, data=contents)
    def write_handle(self, choice: int, data: bytes) -> None:
        if not self.open:
            return
        number, fh = self.open[choice % len(self.open)]
        try:
            self._write(number, fh, data)
        except Stale:
            handle = self.machines[number].vfs.handles.get(fh)
            assert handle.seen < handle.inode.installed

    @rule(choice=choices)
    def fsync_handle(self, choice: int) -> None:
        if self.open:
            number, fh = self.open[choice % len(self.open)]
            self._commit(number, fh, release=False)

    @rule(choice=choices)
    def close_handle(self, choice: int) -> None:
        if self.open:
            number, fh = self.open.pop(choice % len(self.open))
            self._commit(number, fh, release=True)

    @rule(choice=choices)
    def release_handle(self, choice: int) -> None:
        """Without a flush, as after mmap: the commit comes in the background."""
        if self.open:
            number, fh = self.open.pop(choice % len(self.open))
            machine = self.machines[number]
            path, data = self._begun(number, fh, release=True)
            self.loop.now(machine.vfs.release, fh)
            if data and self._waits(machine, path):
                # It goes over what this machine has not sent yet, and nobody is told.
                self.acknowledged.pop((number, path), None)

    @rule(number=machines, path=documents, size=st.sampled_from([0, 5]))
    def truncate(self, number: int, path: str, size: int) -> None:
        machine = self.machines[number]
        try:
            self.loop.call(machine.truncate, path, size)
        except FileError:
            return
        self._wrote(number, path, self.loop.now(machine.content, path) or b"")

    @rule(number=machines, path=names)
    def unlink(self, number: int, path: str) -> None:
        self._land(number)
        machine = self.machines[number]
        before = self.loop.now(machine.content, path)
        self.reference.removed[f"m{number}", path] += 1
        try:
            self.loop.call(machine.unlink, path)
        except FileError:
            assert self.loop.now(machine.content, path) == before
        else:
            self.locals[number].pop(path, None)
            self.acknowledged.pop((number, path), None)
            assert self.loop.now(machine.content, path) is None

    @rule(number=machines, old=names, new=names)
    def rename(self, number: int, old: str, new: str) -> None:
        self._land(number)
        machine, name = self.machines[number], f"m{number}"
        data = self.loop.now(machine.content, old)
        replaced = self.loop.now(machine.content, new)
        if data is None or old == new:
            return
        source = machine.vfs.inodes.find(old)
        was_local = source is not None and source.kind is Kind.LOCAL
        self._wrote(number, new, data)
        self.reference.removed[name, old] += 1
        try:
            self.loop.call(machine.rename, old, new)
        except FileError:
            assert self.loop.now(machine.content, old) == data
            assert self.loop.now(machine.content, new) == replaced
            return
        inode = machine.vfs.inodes.find(new)
        assert inode is not None
        if was_local:
            self.locals[number].pop(old, None)
        if inode.kind is Kind.LOCAL:
            self.locals[number][new] = data
        else:
            self._check_safe(machine, new, data)
        self.acknowledged.pop((number, old), None)
        assert self.loop.now(machine.content, old) is None

    @rule(number=machines, make=st.booleans())
    def directory(self, number: int, make: bool) -> None:
        machine = self.machines[number]
        try:
            self.loop.call(machine.mkdir if make else machine.rmdir, "auths/d")
        except FileError:
            return
        except OSError as error:  # a document below it has arrived, and is not visible yet
            if error.errno != errno.ENOTEMPTY:
                raise

    @rule(number=machines, path=names)
    def read(self, number: int, path: str) -> None:
        """Nothing is ever shown that nobody wrote."""
        machine = self.machines[number]
        data = self.loop.now(machine.content, path)
        inode = machine.vfs.inodes.find(path)
        if data and inode is not None and inode.kind is Kind.DOCUMENT:
            assert self.reference.known(f"m{number}", path, data)
        elif inode is not None and inode.kind is Kind.LOCAL:
            assert data == self.locals[number][path]
        self.loop.now(machine.tree)
