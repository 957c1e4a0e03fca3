"""Between trio and the backend: deadlines, the limit of calls, group commit, late outcomes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs.backends.contract import Delete, Put, Revision
from storefs.backends.memory import Memory
from storefs.errors import Conflict, Unavailable
from storefs.groupcommit import GATHER
from storefs.store import BRISK, Store
from tests.faults import Faults, Op
from tests.machines import stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from trio.testing import MockClock

    from storefs.backends.contract import Batch, Entry, Outcome

A, B, C, D = (f"auths/{name}.json" for name in "abcd")
PATIENCE = 30.0


class Calls(Memory):
    """A Memory that keeps the paths of each commit call."""

    def __init__(self, concurrency: int = 1) -> None:
        super().__init__()
        self.concurrency = concurrency
        self.made: list[list[str]] = []

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        self.made.append([change.path for batch in batches for change in batch])
        return super().commit(batches, timeout)


class Scene:
    """A store whose first commit calls hang until `faults.release`."""

    def __init__(self, backend: Memory, hanging: int) -> None:
        self.backend = backend
        self.faults = Faults(backend)
        for nth in range(1, hanging + 1):
            self.faults.at("commit", nth, "hang")
        self.store = Store(self.faults, 5.0)
        self.late: list[str] = []
        self.store.on_late = self.late.extend
        self.answers: dict[str, object] = {}

    async def commit(self, batch: Batch, seconds: float = 5.0) -> None:
        """Keep the answer under the batch's first path."""
        deadline = trio.current_time() + seconds
        try:
            answer: object = await self.store.commit(batch, deadline)
        except Exception as error:
            answer = error
        self.answers[batch[0].path] = answer

    async def reached(self, count: int, op: Op = "commit") -> None:
        assert await trio.to_thread.run_sync(self.faults.reached, op, count, PATIENCE)

    async def answered(self, *paths: str) -> None:
        while not self.answers.keys() >= set(paths):
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def scene(backend: Memory, hanging: int = 0) -> AsyncIterator[tuple[Scene, trio.Nursery]]:
    made = Scene(backend, hanging)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(made.store.run)
            yield made, nursery
            nursery.cancel_scope.cancel()
    finally:
        made.faults.close()


async def gathered(clock: MockClock) -> None:
    """Time enough passes that what waits for another call is a call of its own."""
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(GATHER)


def put(path: str, data: bytes = b"{}") -> list[Put]:
    return [Put(path, data, None)]


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_what_waits_goes_together_in_one_call(
    concurrency: int, mock_clock: MockClock
) -> None:
    """For a moment also behind a backend that would bear more calls: one for three is cheaper."""
    calls = Calls(concurrency)
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        for path in (B, C, D):
            nursery.start_soon(it.commit, put(path))
        await trio.testing.wait_all_tasks_blocked()
        assert it.faults.calls["commit"] == 1
        it.faults.release()
        await it.answered(A, B, C, D)
        assert [sorted(paths) for paths in calls.made] == [[A], [B, C, D]]
        assert stored(calls) == dict.fromkeys((A, B, C, D), b"{}")


async def test_busy_is_who_was_asked_a_moment_ago(mock_clock: MockClock) -> None:
    """Who looks for messages then takes the interpreter from the thread that asks."""
    async with scene(Memory(), hanging=1) as (it, nursery):
        assert not it.store.busy
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        assert it.store.busy
        mock_clock.jump(BRISK)  # it waits for a network
        assert not it.store.busy
        await it.store.snapshot()
        assert it.store.busy  # the commit is still under way
        it.faults.release()
        await it.answered(A)
        assert not it.store.busy


async def test_as_many_calls_as_the_backend_bears(mock_clock: MockClock) -> None:
    calls = Calls(concurrency=2)
    async with scene(calls, hanging=2) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        nursery.start_soon(it.commit, put(B))
        await gathered(mock_clock)
        await it.reached(2)
        nursery.start_soon(it.commit, put(C))
        await gathered(mock_clock)
        await trio.testing.wait_all_tasks_blocked()
        assert it.faults.calls["commit"] == 2
        it.faults.release()
        await it.answered(A, B, C)


async def test_two_batches_with_one_path_are_two_calls(mock_clock: MockClock) -> None:
    calls = Calls()
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        nursery.start_soon(it.commit, [*put(B), *put(C)])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(it.commit, [*put(D), Put(C, b'{"later": 1}', None)])
        await trio.testing.wait_all_tasks_blocked()
        it.faults.release()
        await it.answered(A, B, D)
        assert calls.made == [[A], [B, C], [D, C]]
        assert isinstance(it.answers[D], Conflict)


async def test_a_path_whose_call_still_runs_waits_for_it(mock_clock: MockClock) -> None:
    """Also when whoever made that call has given up."""
    calls = Calls(concurrency=8)
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        mock_clock.jump(6)
        await it.answered(A)
        assert isinstance(it.answers.pop(A), Unavailable)
        nursery.start_soon(it.commit, put(A, b'{"second": 1}'))
        nursery.start_soon(it.commit, put(B))
        await gathered(mock_clock)
        await it.answered(B)
        assert it.faults.calls["commit"] == 2
        it.faults.release()
        await it.answered(A)
        assert [paths for paths in calls.made if A in paths] == [[A], [A]]
        assert isinstance(it.answers[A], Conflict)


async def test_not_handed_over_by_its_deadline_it_is_withdrawn(mock_clock: MockClock) -> None:
    calls = Calls()
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, put(A), 60.0)
        await it.reached(1)
        nursery.start_soon(it.commit, put(B), 2.0)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(3)
        await it.answered(B)
        assert isinstance(it.answers[B], Unavailable)
        it.faults.release()
        await it.answered(A)
        await it.store.commit(put(C), trio.current_time() + 5)
        assert stored(calls).keys() == {A, C}
        assert it.late == []


async def test_one_whose_caller_is_cancelled_is_withdrawn(mock_clock: MockClock) -> None:
    calls = Calls()
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await it.store.commit(put(B), trio.current_time() + 5)
        it.faults.release()
        await it.answered(A)
        await it.store.commit(put(C), trio.current_time() + 5)
        assert stored(calls).keys() == {A, C}


async def test_behind_a_read_that_hangs_it_is_withdrawn_too(mock_clock: MockClock) -> None:
    calls = Calls()
    async with scene(calls) as (it, nursery):
        it.faults.at("read", 1, "hang")
        nursery.start_soon(it.store.read, [A])
        await it.reached(1, "read")
        nursery.start_soon(it.commit, put(B), 2.0)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(3)
        await it.answered(B)
        assert isinstance(it.answers[B], Unavailable)
        it.faults.release()
        await it.store.commit(put(C), trio.current_time() + 5)
        assert stored(calls).keys() == {C}
        assert it.late == []


async def test_a_late_outcome_is_reported(mock_clock: MockClock) -> None:
    calls = Calls()
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, [*put(A), *put(B)])
        await it.reached(1)
        mock_clock.jump(6)
        await it.answered(A)
        assert isinstance(it.answers[A], Unavailable)
        assert it.late == []
        assert it.store.error
        it.faults.release()
        while not it.late:
            await trio.lowlevel.checkpoint()
        assert sorted(it.late) == [A, B]
        assert stored(calls).keys() == {A, B}
        assert it.store.error == ""


async def test_each_batch_stands_or_falls_alone(mock_clock: MockClock) -> None:
    calls = Calls()
    async with scene(calls, hanging=1) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.reached(1)
        nursery.start_soon(it.commit, [Put(B, b"{}", Revision("of no document"))])
        nursery.start_soon(it.commit, put(C))
        await trio.testing.wait_all_tasks_blocked()
        it.faults.release()
        await it.answered(A, B, C)
        assert isinstance(it.answers[B], Conflict)
        assert stored(calls).keys() == {A, C}


class Broken(Memory):
    """Fails as no backend may."""

    wrong: object = RuntimeError("a bug in the backend")

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return []

    def snapshot(self) -> Mapping[str, Entry]:
        raise RuntimeError("a bug in the backend")


@pytest.mark.parametrize("wrong", [RuntimeError("a bug in the backend"), None])
async def test_a_bug_in_a_backend_is_no_answer(wrong: object, mock_clock: MockClock) -> None:
    broken = Broken()
    broken.wrong = wrong
    async with scene(broken) as (it, nursery):
        nursery.start_soon(it.commit, put(A))
        await it.answered(A)
        assert isinstance(it.answers[A], Unavailable)
        it.answers.clear()
        nursery.start_soon(it.commit, put(A))  # the path and the call are free again
        await it.answered(A)


async def test_a_bug_in_reading_is_no_answer_either(mock_clock: MockClock) -> None:
    async with scene(Broken()) as (it, _):
        with pytest.raises(Unavailable):
            await it.store.snapshot()
        assert it.store.error


async def test_reading_reports_what_does_not_answer(mock_clock: MockClock) -> None:
    async with scene(Memory()) as (it, _):
        it.faults.at("read", 1, "fail-before")
        with pytest.raises(Unavailable):
            await it.store.read([A])
        assert it.store.error
        assert await it.store.read([A]) == [(A, None)]
        assert it.store.error == ""


async def test_a_read_that_hangs_ends_at_the_deadline(mock_clock: MockClock) -> None:
    async with scene(Memory()) as (it, nursery):
        it.faults.at("read", 1, "hang")
        failed: list[Unavailable] = []

        async def read() -> None:
            try:
                await it.store.read([A])
            except Unavailable as error:
                failed.append(error)

        nursery.start_soon(read)
        await it.reached(1, "read")
        mock_clock.jump(6)
        while not failed:
            await trio.lowlevel.checkpoint()


async def test_deletes_and_puts_of_one_batch_go_as_they_are(mock_clock: MockClock) -> None:
    memory = Memory()
    async with scene(memory) as (it, _):
        entries = await it.store.commit(put(A), trio.current_time() + 5)
        batch: list[Put | Delete] = [*put(B), Delete(A, entries[A].revision)]
        assert (await it.store.commit(batch, trio.current_time() + 5)).keys() == {B}
        assert stored(memory).keys() == {B}
        assert it.store.commits == 2
