"""Kept copies become documents again: `take` and `adopt`, online and not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from storefs.control import NAME
from storefs.errors import Busy, EntryExists, InvalidArgument, InvalidDocument, NoEntry, ReadOnly
from storefs.kept import Kept, Place, path_in
from tests.machines import remote, stored
from tests.unit.world import later, world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.machines import Machine
    from tests.unit.world import World

PATH = "auths/a.json"
OLD, NEW = (
    b'{"access_token": "%d", "last_refresh": "2026-11-2%dT10:00:00Z"}' % (day, day)
    for day in (1, 2)
)


def copy_of(machine: Machine, place: Place, path: str, data: bytes) -> str:
    """Put a copy there; returns its name."""
    kept: Kept = machine.mount.stack.committer.kept
    return kept.keep(place, path, data).rpartition("/")[2]


async def order(machine: Machine, word: str, name: str, path: str = "") -> None:
    """What `storefs conflicts take` and `storefs adopt` write."""
    fh = machine.open(f"{NAME}/sync", os.O_WRONLY)
    machine.vfs.write(fh, 0, f"{word} {name}\n{path}".encode())
    await machine.close(fh)


async def back(it: World, machine: Machine) -> None:
    """The backend answers again, and what is pending is sent."""
    it.faults(machine).clear()
    await later(it, machine, 10)
    await machine.mount.stack.store.snapshot()
    await later(it, machine, 1)


async def test_superseded_tokens_are_taken(tmp_path: Path, mock_clock: MockClock) -> None:
    """A person's decision stands, with an event, and later writes of it are no old ones."""
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, PATH, OLD)
        machine = await it.machine()
        remote(it.memory, PATH, NEW)
        await machine.settle()
        assert machine.content(PATH) == NEW
        raised = len(machine.workers.log)
        await order(machine, "take", copy_of(machine, Place.CONFLICTS, PATH, OLD))
        assert stored(it.memory)[PATH] == OLD
        await machine.settle()
        assert len(machine.workers.log) == raised + 1
        assert machine.content(PATH) == OLD
        assert machine.stat(PATH).size == len(OLD)
        assert machine.kept("conflicts") == [NEW]
        await later(it, machine, 5)
        await machine.put(PATH, OLD[:-1] + b', "a": 1}')
        assert stored(it.memory)[PATH] == OLD[:-1] + b', "a": 1}'


async def test_what_it_did_not_know_is_kept(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, PATH, b'{"a": 1}')
        machine = await it.machine()
        remote(it.memory, PATH, b'{"a": "unseen"}')
        await order(machine, "take", copy_of(machine, Place.CONFLICTS, PATH, b'{"a": 2}'))
        assert stored(it.memory)[PATH] == b'{"a": 2}'
        assert b'{"a": "unseen"}' in machine.kept("conflicts")
        assert b'{"a": 2}' not in machine.kept("conflicts")


async def test_a_deleted_document_appears_again(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await order(machine, "take", copy_of(machine, Place.CONFLICTS, PATH, b'{"a": 1}'))
        await machine.raise_all()
        assert machine.content(PATH) == b'{"a": 1}'
        assert stored(it.memory)[PATH] == b'{"a": 1}'
        assert machine.kept("conflicts") == []


async def test_offline_it_is_pending(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, PATH, b'{"a": 1}')
        machine = await it.machine()
        it.faults(machine).always("commit", "fail-before")
        await order(machine, "take", copy_of(machine, Place.CONFLICTS, PATH, b'{"a": 2}'))
        found = copy_of(machine, Place.FOUND, "auths/f.json", b'{"f": 1}')
        await order(machine, "adopt", found)
        await machine.raise_all()
        assert machine.content(PATH) == b'{"a": 2}'
        assert machine.content("auths/f.json") == b'{"f": 1}'
        assert stored(it.memory)[PATH] == b'{"a": 1}'
        assert machine.kept("conflicts") == [b'{"a": 1}']
        assert machine.kept("found") == [b'{"f": 1}']
        await back(it, machine)
        assert stored(it.memory)[PATH] == b'{"a": 2}'
        assert stored(it.memory)["auths/f.json"] == b'{"f": 1}'
        await order(machine, "adopt", found)
        assert machine.kept("found") == []


async def test_a_refusal_changes_nothing(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        remote(it.memory, PATH, b'{"a": 1}')
        machine = await it.machine()
        keep = Place.CONFLICTS
        for name, path, error in (
            (copy_of(machine, keep, PATH, b'{"a"'), "", InvalidDocument),
            (copy_of(machine, keep, "other", b"{}"), "", InvalidArgument),
            (copy_of(machine, keep, "auths/x.json", b"{}"), "auths/a.json/x.json", EntryExists),
            ("auths%2Fa.json~20261122T000000Z~123456789012", "", OSError),
            ("../index.sqlite", PATH, NoEntry),
        ):
            with pytest.raises(error):
                await order(machine, "take", name, path)
        with pytest.raises(InvalidArgument):
            await order(machine, "give", "x")
        assert stored(it.memory)[PATH] == b'{"a": 1}'
        assert len(machine.kept("conflicts")) == 3


async def test_a_program_at_work_goes_first(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        await machine.put(PATH, b'{"a": 1}')
        name = copy_of(machine, Place.CONFLICTS, PATH, b'{"a": 2}')
        fh = machine.open(PATH, os.O_WRONLY | os.O_TRUNC)
        machine.vfs.write(fh, 0, b'{"a": 3}')
        with pytest.raises(Busy):
            await order(machine, "take", name)
        await machine.close(fh)
        assert stored(it.memory)[PATH] == b'{"a": 3}'
        await order(machine, "take", name)
        assert stored(it.memory)[PATH] == b'{"a": 2}'


async def test_read_only(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine(read_only=True)
        with pytest.raises(ReadOnly):
            await order(machine, "take", copy_of(machine, Place.CONFLICTS, PATH, b"{}"))


async def test_adopt_over_others(tmp_path: Path, mock_clock: MockClock) -> None:
    """The same value is no other version, even one that this machine has not seen."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        remote(it.memory, PATH, b'{"a": 1}')
        name = copy_of(machine, Place.FOUND, PATH, b'{"a": 2}')
        for _ in range(2):
            with pytest.raises(EntryExists):
                await order(machine, "adopt", name)
            await machine.settle()
            assert machine.content(PATH) == b'{"a": 1}'
        await order(machine, "adopt", copy_of(machine, Place.FOUND, PATH, b'{ "a": 1 }'))
        assert machine.kept("found") == [b'{"a": 2}']
        assert stored(it.memory)[PATH] == b'{"a": 1}'


async def test_a_cut_name_needs_the_path(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        path = "auths/" + "d" * 100 + "/" + "é" * 60 + ".json"
        name = copy_of(machine, Place.FOUND, path, b"{}")
        assert path_in(name) is None
        with pytest.raises(InvalidArgument):
            await order(machine, "adopt", name)
        await order(machine, "adopt", name, path)
        assert stored(it.memory)[path] == b"{}"
        assert machine.kept("found") == []
        assert path_in(name, [path]) == path


@pytest.mark.parametrize("path", [PATH, "auths/a~b%2F.json", "auths/+0123456789abcdef"])
def test_a_name_tells_its_path(tmp_path: Path, path: str) -> None:
    (tmp_path / ".storefs/tmp").mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY)
    kept = Kept(fd)
    assert path_in(kept.keep(Place.FOUND, path, b"x").rpartition("/")[2]) == path
    kept.close()
    os.close(fd)
