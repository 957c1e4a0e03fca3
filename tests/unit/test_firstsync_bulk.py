"""The first fill over a backend that hands over everything at once."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from storefs.backends.memory import Memory
from storefs.errors import Unavailable
from storefs.inodes import Kind
from tests.machines import CONFIG, remote, stored
from tests.unit.test_firstsync import ONE, THREE, TWO, A, B, C, lay
from tests.unit.world import later, world

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from storefs.backends.contract import Blob, Entry

LONG = b'{"n": "%s"}' % (b"x" * 2000)


class Poured(Memory):
    """A Memory that is Bulk, two documents a portion; tells what was asked, by whatever session."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.fails: list[int] = []
        """How many portions come before each failure, the first one first."""

    def snapshot(self) -> Mapping[str, Entry]:
        self.asked["snapshot"] += 1
        return super().snapshot()

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        self.asked.update(paths)
        return super().read(paths)

    def count(self) -> int:
        return len(self._documents)

    def everything(self, most: int) -> Iterator[Sequence[tuple[str, Blob | int]]]:
        self.asked["everything"] += 1
        items = iter(sorted(self._documents.items()))
        left = self.fails.pop(0) if self.fails else -1
        while portion := list(islice(items, 2)):
            if left == 0:
                raise Unavailable("", "the line broke")
            left -= 1
            yield [
                (path, len(blob.data) if len(blob.data) > most else blob) for path, blob in portion
            ]


def poured(files: dict[str, bytes]) -> Poured:
    memory = Poured()
    for path, data in files.items():
        remote(memory, path, data)
    memory.asked.clear()
    return memory


FILES = {A: ONE, B: TWO, C: THREE, CONFIG: b"port: 1\n", "auths/e.json": ONE}


async def test_an_empty_mirror_takes_everything_and_asks_for_nothing_else(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = poured(FILES)
        machine = await it.machine()
        assert memory.asked == {"everything": 1}
        assert machine.tree() == stored(it.memory) == FILES
        remote(memory, A, TWO)
        await machine.settle()
        assert machine.content(A) == TWO
        await it.stop(machine)
        assert {p: (machine.root.path / p).read_bytes() for p in FILES} == stored(it.memory)


async def test_the_next_start_lists(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = poured(FILES)
        await it.stop(await it.machine())
        remote(memory, A, TWO)
        remote(memory, B, None)
        memory.asked.clear()
        machine = await it.machine()
        assert memory.asked == {"snapshot": 1, A: 1}
        assert machine.tree() == stored(it.memory)
        assert machine.kept("trash") == [TWO]


@pytest.mark.parametrize("portions", [0, 1, 2])
async def test_what_came_before_a_failure_is_not_read_again(
    tmp_path: Path, mock_clock: MockClock, portions: int
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = poured(FILES)
        memory.fails = [portions]
        machine = await it.machine()
        assert memory.asked["everything"] == 1
        assert sorted(memory.asked.keys() & FILES) == sorted(FILES)[2 * portions :]
        assert machine.tree() == stored(it.memory) == FILES


async def test_an_empty_backend_is_asked_before_anything_is_taken_in(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = poured({})
        lay(tmp_path / "a/root", {A: ONE, CONFIG: b"port: 1\n"})
        machine = await it.machine()
        assert machine.tree() == stored(it.memory) == {A: ONE, CONFIG: b"port: 1\n"}


async def test_what_lies_in_the_root_makes_way(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = poured({**FILES, "auths/x/y.json": ONE})
        before = stored(it.memory)
        lay(tmp_path / "a/root", {A: ONE, B: THREE, "auths/d.json": TWO, "auths/x": b"local"})
        machine = await it.machine()
        assert stored(it.memory) == before
        assert machine.tree() == FILES
        assert machine.tree(Kind.LOCAL) == {"auths/x": b"local"}
        assert sorted(machine.kept("found")) == [TWO, THREE]


async def test_what_is_too_long_is_not_shown(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = poured({**FILES, "auths/long.json": LONG})
        machine = await it.machine(max_file_size=1000)
        assert machine.tree() == FILES
        assert "auths/long.json: 2009 bytes is more than" in caplog.text
        await later(it, machine, 61)
        assert machine.tree() == FILES


async def test_a_lost_index_takes_everything(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        it.memory = memory = poured(FILES)
        machine = await it.machine()
        await it.stop(machine)
        for file in (machine.root.path / ".storefs").glob("index.sqlite*"):
            file.unlink()
        (machine.root.path / A).write_bytes(THREE)
        memory.asked.clear()
        machine = await it.machine()
        assert memory.asked == {"everything": 1}
        assert machine.tree() == stored(it.memory) == FILES
        assert machine.kept("found") == [THREE]
