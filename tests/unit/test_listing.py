"""Listing a directory: what was there at opendir, and is there still under the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.machines import remote
from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

MANY = 600
"""More than are looked at together."""


async def test_every_position_goes_on_where_it_says(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        names = [f"{number:03d}.json" for number in range(MANY)]
        for name in names:
            remote(it.memory, f"auths/{name}", b"{}")
        machine = await it.machine()
        vfs = machine.vfs
        fh = vfs.opendir(machine.stat("auths").ino)
        for start in (0, 1, 255, 256, 257, MANY - 1, MANY):
            found = list(vfs.listing(fh, start))
            assert [position for position, *_ in found] == list(range(start + 1, MANY + 1))
            assert [name.decode() for _, name, *_ in found] == names[start:]


async def test_what_went_or_came_after_opendir_is_not_reported(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        for name in ("a", "b", "c", "d"):
            remote(it.memory, f"auths/{name}.json", b"{}")
        machine = await it.machine()
        vfs = machine.vfs
        fh = vfs.opendir(machine.stat("auths").ino)
        names = iter(vfs.listing(fh, 0))
        assert next(names)[:2] == (1, b"a.json")
        await machine.unlink("auths/b.json")
        await machine.unlink("auths/c.json")
        await machine.put("auths/c.json", b'{"another": "inode"}')
        await machine.put("auths/e.json", b"{}")
        assert [(position, name) for position, name, *_ in names] == [(4, b"d.json")]
