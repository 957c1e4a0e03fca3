"""The state machine of the model test, second half: other machines, faults, time, and healing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.machines import CONFIG, Machine, remote, stored
from tests.model.alphabet import ODD, A, choices, documents, machines, numbers, shared, valid
from tests.model.flights import Pass
from tests.model.programs import Programs
from tests.model.world import REMOTE, Recorded

if TYPE_CHECKING:
    from tests.faults import Kind as Fault
    from tests.faults import Op

_ROUNDS = 12
"""Passes after which two machines must have come to rest."""


class TwoMachines(Programs):
    """All that can happen, in any order; the end heals it and compares."""

    @rule(path=shared, number=numbers)
    def remote_put(self, path: str, number: int) -> None:
        path = A if self.only_json and path == ODD else path
        self.reference.history[path].append((REMOTE, valid(number)))
        remote(self.outside, path, valid(number))

    @rule(path=shared)
    def remote_delete(self, path: str) -> None:
        path = A if self.only_json and path == ODD else path
        self.reference.history[path].append((REMOTE, None))
        remote(self.outside, path, None)

    @rule(
        number=machines,
        op=st.sampled_from(["commit", "commit", "read", "snapshot"]),
        kind=st.sampled_from(["fail-before", "fail-after"]),
    )
    def fault(self, number: int, op: Op, kind: Fault) -> None:
        """Spoil the next call."""
        self.reference.doubts[f"m{number}"] += op == "commit" and kind == "fail-after"
        self.faults[number].at(op, self.faults[number].calls[op] + 1, kind)

    @rule(number=machines, away=st.sampled_from([True, True, False]), path=documents, save=numbers)
    def outage(self, number: int, away: bool, path: str, save: int) -> None:
        """The backend goes away for one machine while something is saved, or comes back to it."""
        self._land(number)
        if away:
            self.away.add(number)
            self._cut(self.faults[number])
            self._put(number, path, valid(save))
        else:
            self.away.discard(number)
            self.faults[number].clear()

    @rule(number=machines)
    def send(self, number: int) -> None:
        """What is pending goes out, if somebody answers."""
        if number not in self.flights:
            self.loop.call(self.machines[number].mount.stack.sending.drain)

    @rule(number=machines)
    def hear(self, number: int) -> None:
        """Hints come."""
        self.loop.now(self.machines[number].hear)

    @rule(number=machines, everything=st.booleans())
    def reconcile(self, number: int, everything: bool) -> None:
        self._end_pass(number)
        machine = self.machines[number]
        machine.documents.marks.everything |= everything
        self.loop.now(machine.reconcile.show_once)
        self.loop.call(machine.reconcile.once)

    @rule(number=machines)
    def deliver(self, number: int) -> None:
        """Hints, a pass and its raises, at once: how it mostly goes."""
        self._end_pass(number)
        self.loop.call(self.machines[number].settle)

    @rule(number=machines, everything=st.booleans())
    def begin_pass(self, number: int, everything: bool) -> None:
        """A pass whose answer is on its way while other things happen."""
        self._end_pass(number)
        machine = self.machines[number]
        self.loop.now(machine.hear)
        machine.documents.marks.everything |= everything
        session = self.faults[number].inner
        assert isinstance(session, Recorded)
        self.passes[number] = Pass(session, self.loop)
        self.passes[number].start(machine.reconcile.once)

    @rule(number=machines)
    def end_pass(self, number: int) -> None:
        self._end_pass(number)

    def _end_pass(self, number: int) -> None:
        late = self.passes.pop(number, None)
        if late is not None:
            late.land()

    @rule(number=machines, choice=choices)
    def raise_one(self, number: int, choice: int) -> None:
        machine = self.machines[number]
        wanted = [*machine.workers.wanted]
        if wanted:
            one = machine.workers.wanted.pop(wanted[choice % len(wanted)])
            self.loop.call(machine.workers.perform, machine, one)

    @rule(number=machines)
    def land(self, number: int) -> None:
        """What hung in the backend is answered."""
        self._land(number)

    @rule(seconds=st.sampled_from([0.4, 1.2, 2.5, 12.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self._pass_time(seconds)

    def _pass_time(self, seconds: float) -> None:
        self.loop.now(self.clock.jump, seconds)
        for number, machine in enumerate(self.machines):
            if number not in self.flights:  # a tick may commit, and would wait
                self.loop.call(machine.tick)

    # The end.

    def teardown(self) -> None:
        try:
            self._heal()
            self._compare()
            self.reference.check()
            self._check_nothing_lost()
        finally:
            for number, machine in enumerate(self.machines):
                if flight := self.flights.pop(number, None):
                    flight.drop()
                if late := self.passes.pop(number, None):
                    late.drop()
                self.loop.now(machine.kill)
            self.outside.close()
            self.loop.close()
            self.patch.undo()
            shutil.rmtree(self.base, ignore_errors=True)

    def _heal(self) -> None:
        """No faults, no open files; everything due happens, deletions held back are accepted."""
        self.away.clear()
        for number, faults in enumerate(self.faults):
            self._land(number)
            self._end_pass(number)
            faults.clear()
        while self.open:
            number, fh = self.open.pop()
            self._commit(number, fh, release=True)
        for seconds in (1.2, 62.0, 3.0):  # background commits; then scratch; then held-back deletes
            self._pass_time(seconds)
        for _ in range(_ROUNDS):
            self._pass_time(1.2)
            for machine in self.machines:
                machine.documents.marks.everything = True
                self.loop.call(machine.settle)
        for machine in self.machines:
            machine.documents.marks.accept_deletions = True
            machine.documents.marks.everything = True
            self.loop.call(machine.settle)

    def _compare(self) -> None:
        truth = stored(self.outside)
        for machine in self.machines:
            shown = self.loop.now(machine.tree)
            if CONFIG not in truth:  # never unlinked by reconcile
                shown.pop(CONFIG, None)
            assert shown == truth
            self._check_at_rest(machine)

    def _check_nothing_lost(self) -> None:
        """What was acknowledged was the current version once, or is a conflict copy."""
        for (number, path), data in self.acknowledged.items():
            assert self.reference.was_current(path, data) or (
                data in self.machines[number].kept("conflicts")
            ), f"{path} {data!r} was acknowledged, and is lost"

    def _check_at_rest(self, machine: Machine) -> None:
        """Nothing is left to do, and the disk agrees with memory."""
        documents, marks = machine.documents, machine.documents.marks
        assert not machine.workers.wanted
        assert not marks.dirty | marks.shows | marks.deferred
        assert not documents.scratch
        assert not documents.held_back
        assert not len(documents.pending)
        assert not machine.reconcile.removals.vanishing.absent
        machine.mirror.submit(lambda: None).result()
        for path, record in documents.mirror.records.items():
            assert (machine.root.path / path).read_bytes() == documents.stored(path)
            assert record.size == machine.stat(path).size
        known = len(machine.vfs.inodes)
        assert known == self._named(machine), "inodes that nobody names or holds"

    def _named(self, machine: Machine) -> int:
        pending, count = [machine.vfs.inodes.root], 0
        while pending:
            inode = pending.pop()
            count += 1
            pending += (inode.children or {}).values()
        return count
