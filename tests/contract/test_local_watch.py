"""Which changes that other programs make in the local directory are hinted, and when."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from storefs.backends.contract import Delete, Revision
from storefs.backends.local import Local
from tests.contract.steps import PATIENCE, commit, done, hinted, put

A, B = "auths/a.json", "auths/b.json"
STALE = Revision("stale")


def test_a_change_in_place_is_hinted_when_it_is_complete(local: Local, store: Path) -> None:
    for _ in ("created", "rewritten"):
        with (store / A).open("wb") as file:
            assert local.wait(0) == frozenset()
            file.write(b'{"a": 1}')
            file.flush()
            assert local.wait(0) == frozenset()
        assert local.wait(PATIENCE) == {A}


def test_links_and_moves_of_outsiders_are_hinted(local: Local, store: Path) -> None:
    (store / "whole").write_text("{}")
    (store / A).hardlink_to(store / "whole")
    assert local.wait(PATIENCE) == {A}
    (store / "whole").rename(store / B)
    (store / A).unlink()
    assert hinted(local, A)
    (store / B).rename(store / "auths" / ".hidden")
    assert local.wait(PATIENCE) == {B}


def test_a_directory_that_arrives_full_is_hinted(local: Local, store: Path) -> None:
    (store / "team" / "deep").mkdir(parents=True)
    (store / "team" / "deep" / "a.json").write_text("{}")
    (store / "team").rename(store / "auths" / "team")
    assert local.wait(PATIENCE) == {"auths/team/deep/a.json"}
    (store / "auths/team/deep/b.json").write_text("{}")
    assert local.wait(PATIENCE) == {"auths/team/deep/b.json"}


def test_a_directory_moved_away_means_look_at_everything(local: Local, store: Path) -> None:
    put(local, "auths/team/a.json", b"{}")
    assert hinted(local, "auths/team/a.json")
    (store / "auths" / "team").rename(store / "auths" / "other")
    while (hint := local.wait(PATIENCE)) is not None:
        assert hint
    (store / "auths/other/b.json").write_text("{}")
    assert hinted(local, "auths/other/b.json")


def test_a_replaced_store_means_look_at_everything(local: Local, store: Path) -> None:
    put(local, A, b"{}")
    assert hinted(local, A)
    shutil.copytree(store, store.with_name("copy"))
    store.rename(store.with_name("away"))
    assert local.wait(PATIENCE) is None
    assert local.wait(0) == frozenset()
    store.with_name("copy").rename(store)
    assert local.wait(PATIENCE) is None
    put(local, B, b"{}")
    assert hinted(local, B)


def test_a_store_moved_with_its_parent_means_look_at_everything(tmp_path: Path) -> None:
    local = Local(tmp_path / "parent" / "store")
    (tmp_path / "parent").rename(tmp_path / "away")
    assert local.wait(PATIENCE) is None
    local.close()


def test_an_overflow_means_look_at_everything(local: Local, store: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the event queue is too long to fill")
    here, there = store / A, store / B
    here.touch()
    assert hinted(local, A)  # the watch is there
    for _ in range(limit // 2 + 1):
        here.rename(there)
        here, there = there, here
    deadline = time.monotonic() + PATIENCE
    while local.wait(0) is not None:
        assert time.monotonic() < deadline
    put(local, "auths/c.json", b"{}")
    assert hinted(local, "auths/c.json")


def test_hidden_names_are_not_hinted(local: Local, store: Path) -> None:
    (store / "auths" / ".a.json").write_text("{}")
    (store / "auths" / ".team").mkdir()
    (store / "auths" / ".team" / "a.json").write_text("{}")
    (store / "readme.json").write_text("{}")
    assert done(commit(local, Delete(A, STALE))) == {}
    assert local.wait(0) == frozenset()
