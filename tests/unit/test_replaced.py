"""What a rename replaces can still be read by who looked its name up a moment before.

The kernel answers ESTALE of an open by looking the name up again, but once only: under renames in
quick succession a reader saw the error (a run of the suite, 2026-11).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from storefs.errors import Gone, NoEntry
from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.machines import Machine

OLD, NEW = b'{"v": "old"}', b'{"v": "new"}'

PLACES = pytest.mark.parametrize("name", ["auths/a.json", "auths/a.txt"])


async def replaced(machine: Machine, path: str) -> int:
    """The number of an inode that the kernel knows, and whose name went to another."""
    await machine.put(path, OLD)
    ino = machine.vfs.lookup(*machine.resolve(path)).ino
    await machine.put("auths/b.tmp", NEW)
    await machine.rename("auths/b.tmp", path)
    return ino


@PLACES
async def test_a_reader_gets_the_old_bytes(
    tmp_path: Path, mock_clock: MockClock, name: str
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        ino = await replaced(machine, name)
        for _ in range(2):  # what is closed in between can be opened again
            fh = machine.vfs.open(ino, os.O_RDONLY)
            assert machine.vfs.read(fh, 0, 100) == OLD
            assert machine.vfs.attributes(machine.vfs.inodes.get(ino)).size == len(OLD)
            machine.vfs.release(fh)
        assert machine.content(name) == NEW


@PLACES
async def test_nothing_is_held_once_the_kernel_forgot(
    tmp_path: Path, mock_clock: MockClock, name: str
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        ino = await replaced(machine, name)
        fd = machine.vfs.inodes.get(ino).fd
        machine.vfs.inodes.forget(ino, 100)
        with pytest.raises(NoEntry):
            machine.vfs.open(ino, os.O_RDONLY)
        if name.endswith(".txt"):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


async def test_a_writer_must_find_the_new_document(tmp_path: Path, mock_clock: MockClock) -> None:
    """What is written into a document that has no name any more would reach nobody."""
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        ino = await replaced(machine, "auths/a.json")
        with pytest.raises(Gone):
            machine.vfs.open(ino, os.O_WRONLY | os.O_TRUNC)
