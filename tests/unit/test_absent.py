"""A store that is away when a mount starts, and what is known of it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from storefs import known
from storefs.backends import absent, connect_or_wait
from storefs.backends.absent import Absent
from storefs.backends.contract import Put
from storefs.backends.memory import Memory
from storefs.errors import Unavailable
from storefs.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from storefs.backends.contract import Backend

A = "auths/a.json"
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent, "_PAUSE", 0.0)


def away(identity: str, connect: Callable[[], Backend]) -> Absent:
    return Absent(identity, connect, Unavailable("", "nobody there"), 0.01)


def refused() -> Backend:
    raise Unavailable("", "still nobody")


def test_every_call_fails_until_it_is_reached_and_then_is_the_stores() -> None:
    memory = Memory()
    answers: list[Callable[[], Backend]] = [lambda: memory, refused]
    store = away(memory.identity, lambda: answers.pop()())
    with pytest.raises(Unavailable, match="still nobody"):
        store.snapshot()
    assert store.wait(0.01) == ()
    assert store.traits()["changes"].startswith("unknown")
    assert store.snapshot() == {}
    assert store.wait(60) is None, "everything must be looked at"
    [entries] = store.commit([[Put(A, b"{}", None)]], 5.0)
    assert not isinstance(entries, Exception)
    assert [blob.data for _, blob in store.read([A]) if blob] == [b"{}"]
    assert store.wait(60) == {A}
    store.close()


def test_a_commit_answers_for_each_batch() -> None:
    store = away("memory:memory", refused)
    outcomes = store.commit([[Put(A, b"{}", None)], [Put("auths/b.json", b"{}", None)]], 5.0)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert len(outcomes) == 2


def test_another_store_in_its_place_is_never_taken_for_it() -> None:
    store = away("memory:one", lambda: Memory("other"))
    with pytest.raises(Unavailable, match="another store now, memory:other"):
        store.snapshot()


def postgres(tmp_path: Path, dsn: str, **more: str) -> Settings:
    return load({}, {"HOME": str(tmp_path), "PGSTORE_DSN": dsn, **more}, tmp_path)


@pytest.mark.parametrize(
    ("dsn", "again"),
    [
        (f"postgres://u:{SECRET}@h/d", "postgres://u:changed@h/d"),
        (f"host=h password={SECRET} dbname=d", "host=h password='an other' dbname=d"),
    ],
)
def test_a_store_is_known_by_what_names_it_and_no_secret(
    tmp_path: Path, dsn: str, again: str
) -> None:
    settings = postgres(tmp_path, dsn)
    assert known.identity(settings) == ""
    known.remember(settings, "postgresql://h/d x")
    assert known.identity(postgres(tmp_path, again)) == "postgresql://h/d x"
    assert known.identity(postgres(tmp_path, dsn, PGSTORE_SCHEMA="other")) == ""
    [file] = (tmp_path / ".local/state/storefs").iterdir()
    assert SECRET not in file.read_text()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


def test_a_mount_starts_without_a_store_that_is_known(tmp_path: Path) -> None:
    settings = postgres(tmp_path, "postgres://u:p@127.0.0.1:1/d")
    with pytest.raises(Unavailable):
        connect_or_wait(settings)
    known.remember(settings, "postgresql://127.0.0.1:1/d x")
    backend = connect_or_wait(settings)
    assert backend.identity == "postgresql://127.0.0.1:1/d x"
    with pytest.raises(Unavailable):
        backend.snapshot()
    backend.close()
