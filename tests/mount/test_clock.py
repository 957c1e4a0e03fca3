"""A machine whose clock is wrong, or jumps: nothing is lost, and every event still comes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import shows, write
from tests.mount.harness import Watch, until
from tests.mount.test_offline import cut, heal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

HOUR, MONTH, YEARS = 3600, 30 * 86400, 10 * 365 * 86400
JUMPS = (YEARS, -YEARS, HOUR, -HOUR, 1, -1, 0)


def jump(mount: Mount, seconds: int) -> None:
    """Set this machine's clock wrong by so many seconds, at once."""
    mount.fault("clock.new", str(seconds)).rename(mount.control / "clock")


def document(**fields: int) -> bytes:
    """As long as any other with these fields of so many digits."""
    return json.dumps({"type": "x", **fields}).encode()


def change(mount: Mount, name: str, **fields: int) -> None:
    """As a person does: read, change some fields, save."""
    file = mount.auths / name
    write(file, json.dumps({**json.loads(file.read_bytes()), **fields}).encode())


def fields(mount: Mount, name: str) -> Mapping[str, int]:
    found: Mapping[str, int] = json.loads((mount.auths / name).read_bytes())
    return found


def test_changes_arrive_both_ways_whatever_the_clock_says(mounts: Mounts) -> None:
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", document(n=100))
    shows(other.auths / "a.json", document(n=100))
    for number, seconds in enumerate(JUMPS, 101):
        jump(one, seconds)
        for here, there, n in (one, other, number), (other, one, number + 100):
            with Watch(there.auths) as watch:
                write(here.auths / "a.json", document(n=n))
                watch.expect("MODIFY", "a.json")
                assert (there.auths / "a.json").read_bytes() == document(n=n)
    assert one.status()["pending"] == 0


def test_two_machines_in_turn_lose_no_edit(mounts: Mounts) -> None:
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", document(one=0, other=0))
    until(lambda: (other.auths / "a.json").exists(), "it is on the other machine")
    for number, seconds in enumerate(JUMPS, 1):
        jump(one, seconds)
        for here, there, key in (one, other, "one"), (other, one, "other"):
            change(here, "a.json", **{key: number})
            until(lambda: fields(there, "a.json")[key] == number, f"{key} {number} arrives")  # noqa: B023
    for mount in one, other:
        assert fields(mount, "a.json") == {"type": "x", "one": len(JUMPS), "other": len(JUMPS)}
    assert one.kept("conflicts") == other.kept("conflicts") == {}


@pytest.mark.parametrize("seconds", [YEARS, -YEARS])
def test_what_is_pending_is_sent_after_a_jump(mounts: Mounts, seconds: int) -> None:
    one = mounts("one", "--snapshot-interval", "3600")
    for name in ("a", "b"):
        write(one.auths / f"{name}.json", document(n=1))
    cut(one)
    write(one.auths / "a.json", document(n=2))
    jump(one, seconds)
    write(one.auths / "c.json", document(n=3))
    (one.auths / "b.json").unlink()
    one.kill()  # the jump lies between two starts as well
    one.start()
    heal(one)
    stored = {file.name: file.read_bytes() for file in (one.store / "auths").glob("*.json")}
    assert stored == {"a.json": document(n=2), "c.json": document(n=3)}
    assert one.kept("conflicts") == {}


@pytest.mark.parametrize(("seconds", "merged"), [(MONTH, False), (-MONTH, True)])
def test_what_met_another_change_is_merged_or_kept(
    mounts: Mounts, seconds: int, merged: bool
) -> None:
    """A clock that jumps ahead makes a pending change too old to go over a later one."""
    one, other = mounts("one", "--snapshot-interval", "3600"), mounts("other")
    write(one.auths / "a.json", document(one=0, other=0))
    until(lambda: (other.auths / "a.json").exists(), "it is on the other machine")
    cut(one)
    change(one, "a.json", one=1)
    change(other, "a.json", other=1)
    jump(one, seconds)
    heal(one)
    result = document(one=int(merged), other=1)
    for mount in one, other:
        shows(mount.auths / "a.json", result)
    kept = {} if merged else {"a": document(one=1, other=0)}
    assert sorted(one.kept("conflicts").values()) == sorted(kept.values())
