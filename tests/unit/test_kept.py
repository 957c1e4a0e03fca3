"""Copies that would otherwise be lost: their names, their limits, and what is never removed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storefs import disk, kept
from storefs.kept import Kept, Place, stem_of

if TYPE_CHECKING:
    from collections.abc import Iterator

A = "auths/team/a.json"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    disk.make_directory(fd, disk.TEMPORARY)
    yield fd
    os.close(fd)


def names(tmp_path: Path, place: Place) -> list[str]:
    return sorted(os.listdir(tmp_path / place.value))


def aged(tmp_path: Path, copy: str, seconds: float) -> None:
    """Make a copy look so much older."""
    at = time.time() - seconds
    os.utime(tmp_path / copy, (at, at))


def test_a_copy_tells_its_document_and_is_no_document(root: int, tmp_path: Path) -> None:
    copy = Kept(root).keep(Place.CONFLICTS, A, b"{}")
    name = Path(copy).name
    assert (tmp_path / copy).read_bytes() == b"{}"
    assert (tmp_path / copy).stat().st_mode & 0o777 == 0o600
    assert name.startswith("auths%2Fteam%2Fa.json~")
    assert not name.endswith(".json")


def test_two_documents_never_share_a_stem() -> None:
    paths = [A, "auths/team%2Fa.json", "auths/" + "x" * 250, "auths/" + "x" * 249 + "y"]
    assert len({stem_of(path) for path in paths}) == 4
    assert all(len(stem_of(path).encode()) <= 180 for path in paths)
    assert len(stem_of("auths/" + "\u00e4" * 120).encode()) <= 180


def test_an_identical_conflict_is_kept_once(root: int, tmp_path: Path) -> None:
    kept = Kept(root)
    first = kept.keep(Place.CONFLICTS, A, b"{}")
    assert kept.keep(Place.CONFLICTS, A, b"{}") == first
    kept.keep(Place.CONFLICTS, A, b'{"other": 1}')
    kept.keep(Place.CONFLICTS, "auths/b.json", b"{}")
    assert kept.count(Place.CONFLICTS) == len(names(tmp_path, Place.CONFLICTS)) == 3


def test_a_document_whose_name_begins_alike_is_another_one(root: int) -> None:
    kept = Kept(root)
    longer = kept.keep(Place.CONFLICTS, f"{A}~x.json", b"{}")
    assert kept.keep(Place.CONFLICTS, A, b"{}") != longer


def test_twenty_conflicts_of_a_document_stay_the_newest(root: int, tmp_path: Path) -> None:
    kept = Kept(root)
    other = kept.keep(Place.CONFLICTS, f"{A}~x.json", b"{}")
    for number in range(25):
        copy = kept.keep(Place.CONFLICTS, A, b"%d" % number)
        aged(tmp_path, copy, 1000 - number)
    left = {
        (tmp_path / Place.CONFLICTS.value / name).read_bytes()
        for name in names(tmp_path, Place.CONFLICTS)
    }
    assert {b"%d" % number for number in range(6, 25)} < left
    assert b"0" not in left
    assert len(left) == 21
    assert (tmp_path / other).exists()


def test_old_conflicts_give_way_to_new_ones(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_CONFLICT_BYTES", 250)
    place = Kept(root)
    copies = []
    for number in range(4):
        copies.append(place.keep(Place.CONFLICTS, f"auths/{number}.json", b"%d" % number * 100))
        aged(tmp_path, copies[-1], 1000 - number)
    place.keep(Place.CONFLICTS, A, b"9" * 100)
    assert not (tmp_path / copies[0]).exists()
    assert (tmp_path / copies[3]).exists()


def test_a_copy_may_be_removed_at_any_moment(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a person, while the others are counted."""
    here = [Path(Kept(root).keep(Place.CONFLICTS, A, b"1")).name]
    monkeypatch.setattr(Kept, "_names", lambda self, place: ["gone~x~y", *here])
    assert (tmp_path / Kept(root).keep(Place.CONFLICTS, A, b"2")).read_bytes() == b"2"


def test_the_trash_is_emptied_of_what_is_old(root: int, tmp_path: Path) -> None:
    old = Kept(root).keep(Place.TRASH, A, b"old")
    new = Kept(root).keep(Place.TRASH, A, b"new")
    aged(tmp_path, old, 31 * 86400)
    Kept(root).keep(Place.TRASH, A, b"newest")  # each start looks through it once
    assert not (tmp_path / old).exists()
    assert (tmp_path / new).exists()


def test_a_full_trash_is_looked_through_rarely(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or to keep a copy would take the longer, the more there are."""
    looks: list[int] = []
    listed = Kept._names

    def counted(self: Kept, place: Place) -> list[str]:
        names = listed(self, place)
        looks.append(len(names))
        return names

    monkeypatch.setattr(Kept, "_names", counted)
    place = Kept(root)
    for number in range(3000):
        place.keep(Place.TRASH, A, b"%d" % number)
    assert len(os.listdir(tmp_path / Place.TRASH.value)) == 3000
    at = sorted(set(looks))
    assert at[0] == 1
    assert 25 < len(at) < 40
    assert at[-1] - at[-2] > 150


def test_a_found_file_is_moved_and_never_removed(root: int, tmp_path: Path) -> None:
    place = Kept(root)
    (tmp_path / "auths").mkdir()
    for number in range(30):
        (tmp_path / "auths/a.json").write_bytes(b"%d" % number)
        copy = place.take_in("auths/a.json")
        aged(tmp_path, copy, 400 * 86400)
    assert place.count(Place.FOUND) == 30
    assert not (tmp_path / "auths/a.json").exists()


def test_nothing_is_there_before_the_first_copy(root: int) -> None:
    assert Kept(root).count(Place.TRASH) == 0
