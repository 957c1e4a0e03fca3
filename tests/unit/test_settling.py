"""Writes from memory: by programs that may not have read what changed elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.errors import BackendFailed, Stale
from storefs.settling import SETTLE
from tests.machines import CONFIG, Machine, remote, stored
from tests.unit.world import World, world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

A = "auths/a.json"
BEFORE, DELIVERED = b'{"a": 1, "b": 1}', b'{"a": 1, "b": 2}'


async def delivered(it: World, path: str, before: bytes, after: bytes) -> Machine:
    """A machine that has shown `before`, and has just raised the event of `after`."""
    machine = await it.machine()
    await machine.put(path, before)
    it.clock.jump(10)
    remote(it.memory, path, after)
    await machine.settle()
    assert machine.content(path) == after
    return machine


async def test_what_the_writer_changed_wins_and_the_rest_follows(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, BEFORE, DELIVERED)
        await machine.put(A, b'{"a": 2, "b": 1}')
        assert stored(it.memory)[A] == b'{"a": 2, "b": 2}'
        await machine.settle()
        assert machine.content(A) == b'{"a": 2, "b": 2}'
        assert machine.kept("conflicts") == []


async def test_the_old_version_written_back_changes_nothing(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, BEFORE, DELIVERED)
        await machine.put(A, BEFORE)
        assert stored(it.memory)[A] == DELIVERED
        await machine.settle()
        assert machine.content(A) == DELIVERED


async def test_a_version_between_two_deliveries_may_be_in_memory_too(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The program had read the first of two changes; its save took the second one back."""
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, BEFORE, DELIVERED)
        remote(it.memory, A, b'{"a": 1, "b": 3}')
        await machine.settle()
        await machine.put(A, b'{"a": 2, "b": 2}')
        assert stored(it.memory)[A] == b'{"a": 2, "b": 3}'


async def test_a_save_before_the_merged_version_is_raised_takes_nothing_back(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A conflict was merged, the writer goes on from what it wrote itself."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, BEFORE)
        it.clock.jump(10)
        remote(it.memory, A, b'{"a": 2, "b": 1}')
        await machine.put(A, b'{"a": 1, "b": 2}')
        assert stored(it.memory)[A] == b'{"a": 2, "b": 2}'
        await machine.put(A, b'{"a": 1, "b": 3}')
        assert stored(it.memory)[A] == b'{"a": 2, "b": 3}'
        await machine.settle()
        assert machine.content(A) == b'{"a": 2, "b": 3}'


async def test_of_many_deliveries_the_first_and_the_last_are_remembered(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, BEFORE, DELIVERED)
        for number in range(3, 40):
            remote(it.memory, A, b'{"a": 1, "b": %d}' % number)
            await machine.settle()
        assert machine.documents.settling.base(A) == (
            BEFORE, *(b'{"a": 1, "b": %d}' % number for number in range(24, 39)),
        )  # fmt: skip


async def test_the_config_follows_by_lines(tmp_path: Path, mock_clock: MockClock) -> None:
    lines = [b"port: 1\n", b"debug: false\n", b"# end\n", b"retries: 3\n"]
    theirs = [*lines[:3], b"retries: 9\n"]
    mine = [lines[0], b"debug: true\n", *lines[2:]]
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, CONFIG, b"".join(lines), b"".join(theirs))
        await machine.put(CONFIG, b"".join(mine))
        assert stored(it.memory)[CONFIG] == b"".join([lines[0], mine[1], lines[2], theirs[3]])


@pytest.mark.parametrize("seconds", [SETTLE + 0.1, 60.0])
async def test_later_a_writer_has_read_it(
    tmp_path: Path, mock_clock: MockClock, seconds: float
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, BEFORE, DELIVERED)
        it.clock.jump(seconds)
        await machine.put(A, BEFORE)
        assert stored(it.memory)[A] == BEFORE


async def test_events_ahead_of_it_are_read_first(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that is busy with removals for 5 s has read nothing that was raised after them."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        monkeypatch.setattr(machine.workers, "undrained", lambda: 5.0)
        await machine.put(A, BEFORE)
        remote(it.memory, A, DELIVERED)
        await machine.settle()
        it.clock.jump(4.9 + SETTLE)
        await machine.put(A, BEFORE)
        assert stored(it.memory)[A] == DELIVERED
        await machine.settle()
        it.clock.jump(5.1 + SETTLE)
        await machine.put(A, BEFORE)
        assert stored(it.memory)[A] == BEFORE


async def test_a_delivery_counts_until_its_event_has_been_raised(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, BEFORE)
        remote(it.memory, A, DELIVERED)
        machine.hear()
        await machine.reconcile.once()
        it.clock.jump(60)
        await machine.put(A, BEFORE)
        assert stored(it.memory)[A] == DELIVERED


async def test_superseded_tokens_never_return(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, back = (
        b'{"access_token": "%s", "note": "%s"}' % pair
        for pair in ((b"one", b""), (b"two", b""), (b"one", b"mine"))
    )
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, old, new)
        it.clock.jump(3600)
        await machine.put(A, back)
        assert stored(it.memory)[A] == b'{"access_token": "two", "note": "mine"}'
        assert machine.kept("conflicts") == [back]
        assert "superseded" in caplog.text
        remote(it.memory, A, old)  # another machine says otherwise: then they are valid again
        await machine.settle()
        it.clock.jump(3600)
        await machine.put(A, back)
        assert stored(it.memory)[A] == back


async def test_who_was_told_and_writes_again_is_taken_at_his_word(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """After ESTALE or EIO the same bytes, written again, are no old version coming back."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine(offline="refuse")
        await machine.put(A, BEFORE)
        remote(it.memory, A, DELIVERED)
        mine = b'{"a": 1, "b": 3}'
        with pytest.raises(Stale):
            await machine.put(A, mine)
        await machine.settle()
        assert machine.content(A) == DELIVERED
        await machine.put(A, mine)
        assert stored(it.memory)[A] == mine
        it.clock.jump(10)
        it.faults(machine).at("commit", it.faults(machine).calls["commit"] + 1, "fail-before")
        with pytest.raises(BackendFailed):
            await machine.put(A, BEFORE)
        await machine.settle()
        await machine.put(A, BEFORE)
        assert stored(it.memory)[A] == BEFORE


async def test_a_merged_write_that_comes_again_changes_nothing(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(A, BEFORE)
        remote(it.memory, A, DELIVERED)
        mine, merged = b'{"a": 3, "b": 1}', b'{"a": 3, "b": 2}'
        for _ in range(2):
            await machine.put(A, mine)
            assert stored(it.memory)[A] == merged
            await machine.settle()
            assert machine.content(A) == merged


async def test_superseded_tokens_are_remembered_over_a_restart(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    first, second = (
        b'{"access_token": "%d", "last_refresh": "2026-11-2%dT10:00:00Z"}' % (number, number)
        for number in (1, 2)
    )
    async with world(tmp_path, mock_clock) as it:
        machine = await delivered(it, A, first, second)
        it.kill(machine)
        machine = await it.machine()
        it.clock.jump(10)
        await machine.put(A, first)
        assert stored(it.memory)[A] == second
        assert first in machine.kept("conflicts")
        await machine.unlink(A)
        it.kill(machine)
        machine = await it.machine()
        await machine.put(A, first)
        assert stored(it.memory)[A] == first
