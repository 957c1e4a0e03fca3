"""`storefs conflicts` and `storefs adopt`. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import shows, write
from tests.mount.harness import Watch, storefs, until

if TYPE_CHECKING:
    import subprocess

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


def run(one: Mount, *words: str, code: int = 0) -> str:
    """One command at this mount; returns what it printed."""
    done: subprocess.CompletedProcess[str] = storefs(one.home, *words, "--mount", str(one.path))
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def copies(one: Mount) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run(one, "conflicts", "--json"))
    return found


def leave(one: Mount, place: str, name: str, data: bytes) -> None:
    """Put a kept copy where the mount keeps them."""
    (one.root / ".storefs" / place / name).write_bytes(data)


NAME = "auths%2Fa.json~20261122T101112Z~0123456789ab"
OLD = b'{"access_token": "1", "last_refresh": "2026-11-21T10:00:00Z"}'
NEW = b'{"access_token": "2", "last_refresh": "2026-11-22T10:00:00Z"}'


def test_list_show_drop(mounts: Mounts) -> None:
    """`storefs conflicts` lists the copies that are kept, `show` prints one and `drop` removes
    it.
    """
    one = mounts("one")
    assert run(one, "conflicts") == ""
    assert copies(one) == []
    for number in range(3):
        leave(one, "conflicts", f"{NAME[:-1]}{number}", b'{"a": %d}' % number)
    listed = run(one, "conflicts").splitlines()
    assert len(listed) == 3
    assert listed[0].split()[:2] == [f"{NAME[:-1]}0", "auths/a.json"]
    assert listed[0].endswith("8 bytes")
    assert copies(one)[0] == {
        "name": f"{NAME[:-1]}0", "path": "auths/a.json", "time": 1795342272.0, "size": 8,
    }  # fmt: skip
    assert run(one, "conflicts", "show", f"{NAME[:-1]}1") == '{"a": 1}'
    run(one, "conflicts", "drop", f"{NAME[:-1]}1")
    assert len(one.kept("conflicts")) == 2
    assert "no such copy" in run(one, "conflicts", "show", f"{NAME[:-1]}1", code=1)
    run(one, "conflicts", "drop", code=2)
    run(one, "conflicts", "drop", "--all")
    assert one.kept("conflicts") == {}
    assert one.status()["conflicts"] == 0


def test_take(mounts: Mounts) -> None:
    """`storefs conflicts take` makes a copy the document, whatever its tokens, with an event, and
    what it replaces is kept in `.storefs/conflicts/`.
    """
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", OLD)
    shows(other.auths / "a.json", OLD)
    write(other.auths / "a.json", NEW)
    shows(one.auths / "a.json", NEW)
    leave(one, "conflicts", NAME, OLD)
    with Watch(one.auths) as watch, Watch(other.auths) as far:
        run(one, "conflicts", "take", f".storefs/conflicts/{NAME}")
        watch.expect("MODIFY", "a.json")
        far.expect("MODIFY", "a.json")
    assert (one.auths / "a.json").read_bytes() == OLD
    assert (one.store / "auths/a.json").read_bytes() == OLD
    shows(other.auths / "a.json", OLD)
    assert list(one.kept("conflicts").values()) == [NEW]
    leave(one, "conflicts", NAME, b"{")
    assert "Invalid argument" in run(one, "conflicts", "take", NAME, code=1)
    assert "auths/a.json: not sent" in one.log()


def test_take_of_a_deleted_document(mounts: Mounts) -> None:
    """`storefs conflicts take` makes a copy the document, whatever its tokens, with an event, and
    what it replaces is kept in `.storefs/conflicts/`.
    """
    one = mounts("one")
    leave(one, "conflicts", NAME, OLD)
    with Watch(one.auths) as watch:
        run(one, "conflicts", "take", NAME)
        watch.expect("CREATE", "a.json")
    assert (one.auths / "a.json").read_bytes() == OLD
    assert one.kept("conflicts") == {}


def test_trash(mounts: Mounts) -> None:
    """`storefs trash` lists what changes from elsewhere replaced or removed, and `take` makes one
    of these versions the document again.
    """
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", OLD)
    shows(other.auths / "a.json", OLD)
    write(other.auths / "a.json", NEW)
    shows(one.auths / "a.json", NEW)
    [copy] = json.loads(run(one, "trash", "--json"))
    assert copy["path"] == "auths/a.json"
    assert run(one, "trash", "show", copy["name"]) == OLD.decode()
    (other.auths / "a.json").unlink()
    until(lambda: not (one.auths / "a.json").exists(), "it is gone here too")
    removed = [copy["name"] for copy in json.loads(run(one, "trash", "--json"))]
    assert len(removed) == 2
    with Watch(other.auths) as far:
        run(one, "trash", "take", removed[-1])
        far.expect("CREATE", "a.json")
    assert (one.auths / "a.json").read_bytes() == NEW == (other.auths / "a.json").read_bytes()
    run(one, "trash", "take", removed[0])
    shows(other.auths / "a.json", OLD)
    assert NEW in one.kept("conflicts").values()
    run(one, "trash", "drop", "--all")
    assert one.kept("trash") == {}


def test_adopt(mounts: Mounts) -> None:
    """`storefs adopt` sends a file of `.storefs/found/` as the document that it was, and takes it
    out of there when the backend has it.
    """
    one = mounts("one")
    leave(one, "found", NAME, OLD)
    fault = one.fault("commit.fail-before")
    assert "pending" in run(one, "adopt", NAME)
    shows(one.auths / "a.json", OLD)
    assert list(one.kept("found")) == [NAME]
    fault.unlink()
    one.sync()
    until(lambda: one.status()["pending"] == 0, "it is sent")
    assert run(one, "adopt", NAME) == ""
    assert one.kept("found") == {}
    assert (one.store / "auths/a.json").read_bytes() == OLD


def test_adopt_refused(mounts: Mounts) -> None:
    """`storefs adopt` refuses an invalid file, and one whose document exists with other bytes."""
    one = mounts("one")
    leave(one, "found", NAME, b'{"a": ')
    assert "Invalid argument" in run(one, "adopt", NAME, code=1)
    write(one.auths / "a.json", NEW)
    leave(one, "found", NAME, OLD)
    assert "exists with other bytes" in run(one, "adopt", NAME, code=1)
    assert (one.auths / "a.json").read_bytes() == NEW
    assert list(one.kept("found")) == [NAME]
