"""The path lock: one commit at a time for a path, taken in one order, and never left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs.errors import BackendFailed
from storefs.locks import PathLocks

if TYPE_CHECKING:
    from trio.testing import MockClock


async def hold(locks: PathLocks, paths: list[str], log: list[str], leave: trio.Event) -> None:
    async with locks.hold(paths, trio.current_time() + 60):
        log.append("+" + "".join(paths))
        await leave.wait()
        log.append("-" + "".join(paths))


async def test_one_at_a_time_for_a_path(mock_clock: MockClock) -> None:
    locks, leave, log = PathLocks(), trio.Event(), list[str]()
    async with trio.open_nursery() as nursery:
        for paths in (["a"], ["a"], ["b"]):
            nursery.start_soon(hold, locks, paths, log, leave)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(log) == ["+a", "+b"]
        assert locks.held("a")
        leave.set()
    assert sorted(log) == ["+a", "+a", "+b", "-a", "-a", "-b"]
    assert not locks.held("a")
    assert not locks.held("b")


async def test_two_that_want_both_paths_never_wait_in_a_ring(mock_clock: MockClock) -> None:
    locks, leave, log = PathLocks(), trio.Event(), list[str]()
    leave.set()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(hold, locks, ["a", "b"], log, leave)
                nursery.start_soon(hold, locks, ["b", "a"], log, leave)
    assert len(log) == 40


async def test_waiting_ends_at_the_deadline(mock_clock: MockClock) -> None:
    locks = PathLocks()
    async with locks.hold(["a"], 5.0):

        async def second() -> None:
            with pytest.raises(BackendFailed):
                async with locks.hold(["0", "a"], trio.current_time() + 2):
                    raise AssertionError("two hold one path")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(3)
        assert locks.held("a")
        assert not locks.held("0")
    assert not locks.held("a")


async def test_a_free_lock_asked_for_too_late_is_not_left_behind(mock_clock: MockClock) -> None:
    """Left behind it would count as a change under way for ever: no remote change would come."""
    locks = PathLocks()
    with pytest.raises(BackendFailed):
        async with locks.hold(["a"], trio.current_time() - 1):
            pass
    assert not locks.held("a")


async def test_a_cancelled_holder_lets_go(mock_clock: MockClock) -> None:
    locks = PathLocks()
    with trio.CancelScope() as scope:
        async with locks.hold(["a"], 5.0):
            scope.cancel()
            await trio.sleep_forever()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with locks.hold(["a"], 5.0):
            pass
    assert not locks.held("a")
