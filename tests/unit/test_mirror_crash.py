"""The mirror's writer: whatever moment a crash picks, a row explains what lies on the disk."""

from __future__ import annotations

import os
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from storefs import disk
from storefs.backends.contract import Entry, Revision
from storefs.index import Index, Row
from storefs.mirror import Mirror, digest_of
from tests.mount.harness import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

PATH = "auths/a.json"


def _install(mirror: Mirror, text: str) -> None:
    data = text.encode()
    mirror.install(PATH, data, Entry(Revision(text), len(data), 0), 1)


@contextmanager
def _held(tmp_path: Path) -> Iterator[tuple[Mirror, threading.Event]]:
    """A mirror with version one on its disk, whose writer waits for the event."""
    (tmp_path / "auths").mkdir()
    (tmp_path / disk.TEMPORARY).mkdir(parents=True)
    dir_fd = os.open(tmp_path, os.O_RDONLY)
    mirror, go = Mirror(dir_fd, Index(tmp_path / "index"), 1 << 20), threading.Event()
    try:
        _install(mirror, "one")
        mirror.submit(lambda: None).result(20)
        mirror.submit(go.wait)
        yield mirror, go
    finally:
        go.set()
        mirror.close()
        os.close(dir_fd)


def _row(tmp_path: Path) -> Row:
    with closing(Index(tmp_path / "index")) as index:
        (row,) = [*index.rows()]
    return row


def test_versions_that_nobody_waits_for_are_written_as_one(tmp_path: Path) -> None:
    """A row knows the digest of one version before its own: so that is the one on the disk."""
    with _held(tmp_path) as (mirror, go), Watch(tmp_path / disk.TEMPORARY) as watch:
        for text in ("two", "three", "four"):
            _install(mirror, text)
        go.set()
        mirror.submit(lambda: None).result(20)
        assert len({name for kind, name in watch.drain() if kind == "CREATE"}) == 1
    assert (tmp_path / PATH).read_bytes() == b"four"
    row = _row(tmp_path)
    assert (row.previous, row.digest) == (digest_of(b"one"), digest_of(b"four"))


def test_what_may_wait_does_not_part_them(tmp_path: Path) -> None:
    """A copy for the trash, superseded tokens, another mtime: each change from elsewhere asks."""
    copied: list[bytes] = []
    with _held(tmp_path) as (mirror, go), Watch(tmp_path / disk.TEMPORARY) as watch:
        for number, text in enumerate(("two", "three", "four")):
            _install(mirror, text)
            mirror.supersede(PATH, text.encode())
            mirror.later(lambda: copied.append((tmp_path / PATH).read_bytes()), "a copy")
            mirror.touch(PATH, number)
        go.set()
        mirror.submit(lambda: None).result(20)
        assert len({name for kind, name in watch.drain() if kind == "CREATE"}) == 1
    assert copied == [b"four"] * 3
    row = _row(tmp_path)
    assert (row.previous, row.digest, row.mtime_ns) == (digest_of(b"one"), digest_of(b"four"), 2)
    with closing(Index(tmp_path / "index")) as index:
        assert [*index.superseded()] == [(PATH, b"four")]


def test_what_hurries_keeps_its_place(tmp_path: Path) -> None:
    """A local file that moves away makes room for the document that is written next."""
    seen: list[bytes] = []
    with _held(tmp_path) as (mirror, go):
        _install(mirror, "two")
        mirror.later(lambda: seen.append((tmp_path / PATH).read_bytes()), "a move", hurry=True)
        _install(mirror, "three")
        go.set()
        mirror.submit(lambda: None).result(20)
    assert seen == [b"two"]
    assert (tmp_path / PATH).read_bytes() == b"three"


def test_a_touch_and_no_more_leaves_the_file(tmp_path: Path) -> None:
    with _held(tmp_path) as (mirror, go), Watch(tmp_path / disk.TEMPORARY) as watch:
        mirror.touch(PATH, 7)
        mirror.supersede(PATH, b"a")
        mirror.supersede(PATH, b"")
        go.set()
        mirror.submit(lambda: None).result(20)
        assert watch.drain() == []
    row = _row(tmp_path)
    assert (row.previous, row.digest, row.mtime_ns) == (digest_of(b"one"), digest_of(b"one"), 7)


def test_a_crash_before_the_last_of_several_versions_is_explained(tmp_path: Path) -> None:
    """The row is written, the file is not: here since its temporary file has no place."""
    with _held(tmp_path) as (mirror, go):
        for text in ("two", "three", "four"):
            _install(mirror, text)
        (tmp_path / disk.TEMPORARY).rmdir()
        go.set()
    assert (tmp_path / PATH).read_bytes() == b"one"
    assert _row(tmp_path).previous == digest_of(b"one")


def test_a_version_written_after_a_drop_is_no_second_one(tmp_path: Path) -> None:
    """Its row explains nothing that was there before, so nothing may be."""
    with _held(tmp_path) as (mirror, go), Watch(tmp_path / "auths") as watch:
        _install(mirror, "two")
        mirror.drop(PATH)
        _install(mirror, "three")
        go.set()
        mirror.submit(lambda: None).result(20)
        assert ("DELETE", "a.json") in watch.drain()
    assert (tmp_path / PATH).read_bytes() == b"three"
    row = _row(tmp_path)
    assert (row.previous, row.digest) == (b"", digest_of(b"three"))


def test_what_nobody_waits_for_and_fails_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("no room")

    with _held(tmp_path) as (mirror, go):
        mirror.later(fail, "a copy of auths/a.json")
        go.set()
        mirror.submit(lambda: None).result(20)
        assert "mirror: a copy of auths/a.json: no room" in caplog.text
