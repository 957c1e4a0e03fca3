"""Knowledge that arrives late: the newest bytes win in mirror, index, kernel and store."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.mount.apart import Apart
from tests.mount.calls import write
from tests.mount.harness import until
from tests.mount.late import LateMount
from tests.mount.remote import Remote, settled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.user

OLD, MINE, THEIRS = (b'{"type": "x", "note": "%d"}' % number for number in range(3))


@pytest.fixture
def late(tmp_path: Path) -> Iterator[LateMount]:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    options = ("--deadline", "60", "--snapshot-interval", "3600")
    mount = LateMount(tmp_path / "a", tmp_path / "store", options)
    Remote(mount.store).seed("a.json")
    (mount.store / "auths/a.json").write_bytes(OLD)
    with mount:
        yield mount


def _ends_with(mount: LateMount, data: bytes) -> None:
    """Everybody agrees on these bytes: kernel, mirror and store now, the index after the end."""
    file = mount.auths / "a.json"
    settled(mount)
    assert file.read_bytes() == data
    assert file.stat().st_size == len(data)
    assert (mount.store / "auths/a.json").read_bytes() == data
    assert mount.stop() == 0
    assert (mount.root / "auths/a.json").read_bytes() == data
    digest = hashlib.sha256(data)
    index = (mount.root / ".storefs/index.sqlite").as_uri()
    with closing(sqlite3.connect(f"{index}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT digest, revision, size FROM documents WHERE path = 'auths/a.json'"
        )
        assert rows.fetchall() == [(digest.digest(), digest.hexdigest(), len(data))]


def _hold_up(mount: LateMount, what: str) -> Path:
    return mount.fault(f"{what}.late")


def _until_held_up(mount: LateMount, what: str) -> None:
    until((mount.control / f"late.{what}").exists, f"the answer of a {what} is on its way")


def test_a_read_that_is_slower_than_a_local_commit(late: LateMount) -> None:
    held = _hold_up(late, "read")
    Remote(late.store).write("auths/a.json", OLD)  # a hint without a change
    _until_held_up(late, "read")
    write(late.auths / "a.json", MINE)
    assert (late.store / "auths/a.json").read_bytes() == MINE
    held.unlink()
    _ends_with(late, MINE)
    assert late.kept("trash") == {}, "nothing was ever installed over it"


def test_a_read_that_is_slower_than_a_local_delete(late: LateMount) -> None:
    held = _hold_up(late, "read")
    Remote(late.store).write("auths/a.json", OLD)
    _until_held_up(late, "read")
    (late.auths / "a.json").unlink()
    held.unlink()
    late.sync()
    assert not (late.auths / "a.json").exists()
    assert late.status()["documents"] == 1
    write(late.auths / "a.json", MINE)
    _ends_with(late, MINE)


def test_a_read_that_is_slower_than_a_commit_and_a_change_elsewhere(late: LateMount) -> None:
    held = _hold_up(late, "read")
    Remote(late.store).write("auths/a.json", OLD)
    _until_held_up(late, "read")
    write(late.auths / "a.json", MINE)
    Remote(late.store).write("auths/a.json", THEIRS)
    held.unlink()
    _ends_with(late, THEIRS)


def test_a_hint_during_an_own_commit(late: LateMount) -> None:
    """Of the commit itself, which is in the store before its answer is here."""
    held = _hold_up(late, "commit")
    with Apart("write", late.auths / "a.json", MINE.decode()) as own:
        _until_held_up(late, "commit")
        late.sync()  # a snapshot shows the change too
        assert (late.auths / "a.json").read_bytes() == MINE
        held.unlink()
        assert own.answer() == "done"
    _ends_with(late, MINE)
    assert late.kept("conflicts") == {}


def test_a_change_elsewhere_on_top_of_an_own_commit(late: LateMount) -> None:
    """Both hints arrive while the commit is under way, and only its answer is older."""
    held = _hold_up(late, "commit")
    with Apart("write", late.auths / "a.json", MINE.decode()) as own:
        _until_held_up(late, "commit")
        Remote(late.store).write("auths/a.json", THEIRS)
        late.sync()
        held.unlink()
        assert own.answer() == "done"
    _ends_with(late, THEIRS)


def test_a_change_elsewhere_before_an_own_commit(late: LateMount) -> None:
    hang = late.fault("commit.hang")
    with Apart("write", late.auths / "a.json", MINE.decode()) as own:
        until(late.commits, "the commit is in the backend")
        Remote(late.store).write("auths/a.json", THEIRS)
        late.sync()
        assert (late.auths / "a.json").read_bytes() == MINE
        hang.unlink()
        assert own.answer() == "ESTALE"
    _ends_with(late, THEIRS)
    assert list(late.kept("conflicts").values()) == [MINE]


def test_a_delete_elsewhere_on_top_of_an_own_commit(late: LateMount) -> None:
    held = _hold_up(late, "commit")
    with Apart("write", late.auths / "a.json", MINE.decode()) as own:
        _until_held_up(late, "commit")
        Remote(late.store).delete("auths/a.json")
        late.sync()
        held.unlink()
        assert own.answer() == "done"
    settled(late)
    assert not (late.auths / "a.json").exists()
    until(lambda: not (late.root / "auths/a.json").exists(), "the mirror has no file either")
