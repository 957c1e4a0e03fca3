"""An index that is lost, spoilt, foreign or old: nothing lost, resurrected or sent."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.mount.processes import put, token, tree_of
from tests.mount.tools import Log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


def index_of(machine: Mount) -> Path:
    return machine.root / ".storefs/index.sqlite"


def execute(index: Path, *statements: str) -> None:
    with closing(sqlite3.connect(index, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def lose(index: Path) -> None:
    for file in index.parent.glob(f"{index.name}*"):
        file.unlink()


def fill_with_noise(index: Path) -> None:
    index.write_bytes(bytes(range(256)) * 64)


def empty(index: Path) -> None:
    index.write_bytes(b"")


def cut(index: Path) -> None:
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])


def spoil_a_page(index: Path) -> None:
    data = bytearray(index.read_bytes())
    data[4096:4200] = b"\xff" * 104
    index.write_bytes(data)


def make_older(index: Path) -> None:
    execute(index, "DROP TABLE documents", "CREATE TABLE documents (path, etag)", OLD)


OLD = "PRAGMA user_version=0"


def make_newer(index: Path) -> None:
    execute(index, "ALTER TABLE documents ADD COLUMN more TEXT", "PRAGMA user_version=99")


def take_the_table(index: Path) -> None:
    execute(index, "DROP TABLE documents")


def make_a_directory(index: Path) -> None:
    lose(index)
    index.mkdir()


DAMAGES: dict[Callable[[Path], None], str] = {
    lose: "the index is missing",
    empty: "the index is missing",
    fill_with_noise: "not a database",
    cut: "malformed",
    spoil_a_page: "Page 2",
    make_older: "already exists",
    make_newer: "format 99, this version reads 1",
    take_the_table: "no such table",
    make_a_directory: "unable to open",
}
"""What was done to the index, and the reason in the log."""


def changed_elsewhere(machine: Mount) -> None:
    """What other machines did while this one was stopped."""
    put(machine.store, "auths/changed.json", token("theirs"))
    put(machine.store, "auths/new.json", token("new"))
    (machine.store / "auths/deleted.json").unlink()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_an_index_that_cannot_be_used_is_rebuilt(
    mounts: Mounts, damage: Callable[[Path], None]
) -> None:
    machine = mounts("a", start=False)
    with machine:
        for name in ("same", "changed", "deleted"):
            (machine.auths / f"{name}.json").write_bytes(token(name))
        (machine.auths / "local.txt").write_bytes(b"local")
    changed_elsewhere(machine)
    damage(index_of(machine))
    before, commits, log = tree_of(machine.store), machine.commits(), Log(machine)
    with machine:
        log.expect("WARNING", "index.sqlite", DAMAGES[damage], "rebuilt from the backend")
        assert tree_of(machine.store) == before
        assert machine.commits() == commits
        shown = tree_of(machine.path)
        assert shown.pop("auths/local.txt") == b"local"
        assert shown.keys() == before.keys()
        assert shown["auths/changed.json"] == token("theirs")
        assert {*machine.kept("found").values()} == {token("changed"), token("deleted")}
        (machine.auths / "same.json").write_bytes(token("again"))
        assert (machine.store / "auths/same.json").read_bytes() == token("again")
    assert log.text().count("rebuilt from the backend") == 1
    with machine:  # the new index is a good one
        assert len(machine.kept("found")) == 2
        assert (machine.auths / "same.json").read_bytes() == token("again")
    assert machine.commits()[len(commits) :] == [[["put", "auths/same.json"]]]


@pytest.mark.parametrize("what", ["index", "everything"])
def test_yesterdays_backup_is_explained_by_the_store(mounts: Mounts, what: str) -> None:
    machine = mounts("a", start=False)
    with machine:
        for name in ("same", "changed", "deleted"):
            (machine.auths / f"{name}.json").write_bytes(token(name))
    backup = machine.base / "yesterday"
    shutil.copytree(machine.root, backup)
    with machine:
        (machine.auths / "changed.json").write_bytes(token("today"))
        (machine.auths / "changed.json").write_bytes(token("tonight"))
        (machine.auths / "deleted.json").unlink()
        (machine.auths / "new.json").write_bytes(token("new"))
    before, commits = tree_of(machine.store), machine.commits()
    if what == "index":
        lose(index_of(machine))
        shutil.copy(backup / ".storefs/index.sqlite", index_of(machine))
    else:
        shutil.rmtree(machine.root)
        shutil.copytree(backup, machine.root)
    with machine:
        assert tree_of(machine.store) == before
        assert machine.commits() == commits
        shown = tree_of(machine.path)
        del shown["config/config.yaml"], before["config/config.yaml"]  # it has a view
        assert shown == before
        assert machine.kept("found") == {}
    with machine:
        assert machine.commits() == commits
