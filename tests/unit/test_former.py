"""Handles that are open when a change from elsewhere comes: whole versions, the old or the new.

The kernel cuts what it caches at the size it knows until the event is raised: a reader that had
opened before saw half a document (one of 1,000 changes of the full random test, 2026-11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

PATH = "auths/a.json"
OLD, NEW, LAST = b'{"v": 1}', b'{"v": 2, "longer": "than before"}', b'{"v": 3}'


async def test_a_handle_that_is_open_reads_the_old_version_until_the_event(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        one, other = await it.machine("one"), await it.machine("other")
        await one.put(PATH, OLD)
        await other.settle()
        before = other.open(PATH)
        await one.put(PATH, NEW)
        other.hear()
        await other.reconcile.once()
        after = other.open(PATH)
        assert other.vfs.read(before, 0, 100) == OLD
        assert other.vfs.read(after, 0, 100) == NEW  # past the kernel's cache
        assert other.vfs.direct(after)
        await one.put(PATH, LAST)
        other.hear()
        await other.reconcile.once()
        assert other.vfs.read(before, 0, 100) == OLD
        await other.raise_all()
        assert other.vfs.read(before, 0, 100) == other.vfs.read(after, 0, 100) == LAST
        assert other.documents.former == {}
        for fh in (before, after):
            await other.close(fh)
