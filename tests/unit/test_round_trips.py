"""What a change costs in calls of the backend: one, and at most two more where it meets another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from storefs.errors import Stale
from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

PATH = "auths/a.json"


def document(**fields: int) -> bytes:
    return json.dumps({"type": "x", **fields}).encode()


@pytest.mark.parametrize(
    ("theirs", "ours", "most"),
    [
        ({"a": 1, "b": 1}, {"a": 2, "b": 1}, 1),  # nobody changed anything
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, 3),  # merged
        ({"a": 3, "b": 1}, {"a": 2, "b": 1}, 3),  # refused
    ],
)
async def test_a_conflict_costs_two_calls_at_most(
    tmp_path: Path,
    mock_clock: MockClock,
    theirs: dict[str, int],
    ours: dict[str, int],
    most: int,
) -> None:
    async with world(tmp_path, mock_clock) as it:
        one, other = await it.machine("one"), await it.machine("other")
        await one.put(PATH, document(a=1, b=1))
        await other.tick()
        await other.settle()
        await other.put(PATH, document(**theirs))
        calls = it.faults(one).calls
        before = calls["commit"] + calls["read"] + calls["snapshot"]
        if theirs["a"] == 3:
            with pytest.raises(Stale):
                await one.put(PATH, document(**ours))
        else:
            await one.put(PATH, document(**ours))
        assert 0 < calls["commit"] + calls["read"] + calls["snapshot"] - before <= most
        expected = {"a": 3, "b": 1} if theirs["a"] == 3 else {"a": 2, "b": theirs["b"]}
        assert it.memory.session().snapshot()[PATH].size == len(document(**expected))
