"""The tree of names and the inode table, from lookup to forget."""

from __future__ import annotations

import pytest

from storefs.errors import NoEntry
from storefs.inodes import ROOT, Edit, Inodes, Kind


def test_an_inode_lives_until_forgotten_closed_and_unnamed() -> None:
    inodes = Inodes()
    inode = inodes.add_path("auths/a.json", Kind.DOCUMENT)
    inode.lookups, inode.opens = 2, 1
    inodes.unlink(inode)
    assert inodes.find("auths/a.json") is None
    assert inodes.get(inode.ino) is inode
    inodes.forget(inode.ino, 2)
    assert inodes.get(inode.ino) is inode
    inode.opens = 0
    inodes.settle(inode)
    with pytest.raises(NoEntry):
        inodes.get(inode.ino)


def test_a_forgotten_inode_with_a_name_keeps_its_number() -> None:
    inodes = Inodes()
    inode = inodes.add_path("auths/a.json", Kind.DOCUMENT)
    inode.lookups = 3
    inodes.forget(inode.ino, 3)
    assert inodes.find("auths/a.json") is inode
    assert inodes.get(inode.ino) is inode


def test_numbers_are_never_used_twice() -> None:
    inodes = Inodes()
    numbers = set()
    for _ in range(10):
        inode = inodes.add_path("auths/a.json", Kind.DOCUMENT)
        numbers.add(inode.ino)
        inodes.unlink(inode)
    assert len(numbers) == 10
    assert ROOT not in numbers


def test_the_root_is_never_forgotten() -> None:
    inodes = Inodes()
    inodes.forget(ROOT, 1000)
    inodes.forget(12345, 1)
    assert inodes.get(ROOT) is inodes.root


def test_moving_a_directory_moves_what_is_below_it() -> None:
    inodes = Inodes()
    deep = inodes.add_path("auths/d/e/x", Kind.LOCAL)
    directory, auths = inodes.find("auths/d"), inodes.find("auths")
    assert directory is not None
    assert auths is not None
    number = deep.ino
    inodes.move(directory, auths, "f")
    assert inodes.find("auths/f/e/x") is deep
    assert (deep.path, deep.ino, deep.name) == ("auths/f/e/x", number, "x")
    assert inodes.find("auths/d/e/x") is None


@pytest.mark.parametrize("top", ["", "auths"])
def test_paths_are_those_of_the_whole_tree_whatever_is_mounted(top: str) -> None:
    inodes = Inodes(top)
    inode = inodes.add_path("auths/d/a.json", Kind.DOCUMENT)
    assert inodes.find("auths/d/a.json") is inode
    assert inode.path == "auths/d/a.json"
    assert inodes.parent_of(inode) is inodes.find("auths/d")
    control = inodes.add(inodes.root, ".storefs", Kind.DIRECTORY)
    status = inodes.add(control, "status", Kind.CONTROL)
    assert (control.path, status.path) == (".storefs", ".storefs/status")
    assert inodes.find(".storefs/status") is status
    assert inodes.parent_of(status) is control


def test_a_file_has_no_names_below_it() -> None:
    inodes = Inodes()
    inodes.add_path("auths/a.json", Kind.DOCUMENT)
    assert inodes.find("auths/a.json/b.json") is None


def test_the_last_handle_closes_an_unnamed_forgotten_inode_only_then() -> None:
    inodes = Inodes()
    inode = inodes.add_path("auths/x", Kind.LOCAL)
    inode.opens = 1
    inodes.unlink(inode)
    assert len(inodes) == 3  # root, auths, and the open one
    inode.opens = 0
    inodes.settle(inode)
    assert len(inodes) == 2


def test_what_a_program_wrote_and_nobody_sent_is_found() -> None:
    inodes = Inodes()
    inode = inodes.add_path("auths/a.json", Kind.DOCUMENT)
    assert inodes.edited() == []
    inode.edit = Edit(bytearray(b"{}"), 0)
    assert inodes.edited() == [inode]
    inode.edit.changed = False
    assert inodes.edited() == []
    inode.edit.changed, inode.lookups = True, 1
    inodes.unlink(inode)
    assert inodes.edited() == []
