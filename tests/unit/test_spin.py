"""Waiting for messages: what stands in for trio in pyfuse3 keeps every task its turn."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs import spin
from storefs.spin import TURN, ReadLock, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 3600.0
"""Seconds: who looks for so long has looked until there was something."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


async def test_what_is_readable_is_found_without_trio(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    with trio.CancelScope() as scope:
        scope.cancel()  # a checkpoint would end here
        await Waiting(LONG).lowlevel.wait_readable(pipe[0])
        found = True
    assert found
    assert not scope.cancelled_caught


async def test_without_a_message_it_sleeps_until_one_comes(pipe: tuple[int, int]) -> None:
    waiting = Waiting(0.0)
    with trio.testing.assert_checkpoints():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.lowlevel.wait_readable, pipe[0])
            await trio.testing.wait_all_tasks_blocked()  # it does: so nobody looks any more
            os.write(pipe[1], b"x")


async def test_who_is_busy_sleeps_at_once(pipe: tuple[int, int]) -> None:
    """Else it would look for LONG: a thread that asks the backend needs the interpreter."""
    waiting, late = Waiting(LONG, lambda: True), threading.Timer(20, os.write, (pipe[1], b"late"))
    late.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.lowlevel.wait_readable, pipe[0])
            await trio.testing.wait_all_tasks_blocked()
            os.write(pipe[1], b"x")
    finally:
        late.cancel()
    assert os.read(pipe[0], 1) == b"x"


async def test_another_descriptor_is_waited_for_as_well(pipe: tuple[int, int]) -> None:
    waiting, (second, end) = Waiting(LONG), os.pipe()
    try:
        for reads, writes in (pipe, (second, end), pipe):
            os.write(writes, b"x")
            await waiting.lowlevel.wait_readable(reads)
            assert os.read(reads, 1) == b"x"
    finally:
        os.close(second)
        os.close(end)


async def test_a_closed_descriptor_ends_the_wait(pipe: tuple[int, int]) -> None:
    waiting = Waiting(0.0)
    ended = trio.Event()

    async def wait() -> None:
        with pytest.raises(waiting.ClosedResourceError):
            await waiting.lowlevel.wait_readable(pipe[0])
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        waiting.lowlevel.notify_closing(pipe[0])
        with trio.fail_after(60):
            await ended.wait()


def test_everything_else_is_trio() -> None:
    waiting = Waiting(LONG)
    assert waiting.open_nursery is trio.open_nursery
    assert waiting.lowlevel.current_task is trio.lowlevel.current_task
    with pytest.raises(AttributeError):
        _ = waiting.no_such_thing


async def test_one_holds_the_lock_at_a_time_and_none_is_forgotten() -> None:
    lock, held, done = ReadLock(), 0, [0] * 10

    async def work(number: int) -> None:
        nonlocal held
        for _ in range(100):
            async with lock:
                held += 1
                assert held == 1
                if done[number] % 3 == 0:
                    await trio.lowlevel.checkpoint()
                held -= 1
            done[number] += 1

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(work, number)
    assert done == [100] * 10


async def test_the_lock_is_taken_again_without_a_change_of_tasks() -> None:
    lock = ReadLock()
    for _ in range(TURN - 1):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with lock:
                pass
        assert not scope.cancelled_caught


async def test_a_task_that_waits_for_the_lock_can_be_cancelled() -> None:
    lock = ReadLock()
    async with lock:
        with trio.move_on_after(0.01) as scope:
            async with lock:
                raise AssertionError("held twice")
        assert scope.cancelled_caught
    async with lock:
        pass


async def test_messages_without_end_leave_every_task_its_turn(pipe: tuple[int, int]) -> None:
    """As the session loop of pyfuse3 does it, with always one more message."""
    waiting, ended = Waiting(LONG), False
    lock, end = waiting.Lock(), time.monotonic() + 60
    os.write(pipe[1], b"x")

    async def session() -> None:
        while not ended:
            assert time.monotonic() < end, "nobody else has had a turn"
            async with lock:
                await waiting.lowlevel.wait_readable(pipe[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session)
        nursery.start_soon(session)
        with trio.fail_after(60):
            event = trio.Event()
            nursery.start_soon(
                trio.to_thread.run_sync, lambda: trio.from_thread.run_sync(event.set)
            )
            await event.wait()
            for _ in range(10):
                await trio.sleep(0.001)
        ended = True


@pytest.mark.parametrize(("cpus", "expected"), [({0}, False), ({0, 1}, True), ({5}, False)])
def test_on_one_cpu_it_is_not_worth_it(
    cpus: set[int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)
    assert spin.worthwhile() is expected
