"""The local truth: memory first, disk after it in order, and a torn copy is never shown."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from storefs import disk
from storefs.backends.contract import Entry, Revision
from storefs.index import Index
from storefs.mirror import Mirror, Record, Torn, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A, B = "auths/a.json", "auths/d/b.json"


@contextmanager
def opened(root: Path, cache_size: int = 1 << 20) -> Iterator[Mirror]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    disk.make_directory(fd, disk.TEMPORARY)
    mirror = Mirror(fd, Index(root / ".storefs/index.sqlite"), cache_size)
    try:
        yield mirror
    finally:
        mirror.close()
        os.close(fd)


def entry(revision: str, size: int = 0) -> Entry:
    return Entry(Revision(revision), size, 0)


def written(mirror: Mirror) -> None:
    mirror.submit(lambda: None).result()


@contextmanager
def writer_held(mirror: Mirror) -> Iterator[None]:
    """The writer thread stands still meanwhile."""
    go = threading.Event()
    mirror.submit(go.wait)
    try:
        yield
    finally:
        go.set()


def test_memory_changes_at_once_and_the_disk_follows(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror:
        with writer_held(mirror):
            mirror.install(B, b"one", entry("1"), 10**18)
            assert mirror.content(B) == b"one"
            assert not (tmp_path / B).exists()
        written(mirror)
        assert (tmp_path / B).read_bytes() == b"one"
        info = (tmp_path / B).stat()
        assert (info.st_mtime_ns, info.st_mode & 0o777) == (10**18, 0o600)
        record = mirror.records[B]
        assert (record.revision, record.size, record.digest) == ("1", 3, digest_of(b"one"))


def test_without_memory_every_version_is_still_the_newest(tmp_path: Path) -> None:
    with opened(tmp_path, cache_size=2) as mirror:  # nothing fits
        with writer_held(mirror):
            for number in range(10):
                mirror.install(A, b"version %d" % number, entry(str(number)), 1)
                assert mirror.content(A) == b"version %d" % number
        written(mirror)
        assert mirror.content(A) == b"version 9"
        assert mirror.misses == 1


def test_a_large_document_does_not_stay_in_memory_as_an_old_version(tmp_path: Path) -> None:
    with opened(tmp_path, cache_size=8) as mirror:
        mirror.install(A, b"short", entry("1"), 1)
        mirror.install(A, b"too long for the cache", entry("2"), 1)
        written(mirror)
        assert mirror.content(A) == b"too long for the cache"


def test_dropped_it_is_gone_from_memory_disk_and_index(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror:
        mirror.install(A, b"one", entry("1"), 1)
        mirror.drop(A)
        with pytest.raises(KeyError):
            mirror.content(A)
        written(mirror)
        assert not (tmp_path / A).exists()
    with opened(tmp_path) as mirror:
        assert [*mirror._index.rows()] == []


def test_the_last_of_many_changes_is_what_is_left(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror, writer_held(mirror):
        for number in range(50):
            mirror.install(A, b"%d" % number, entry(str(number)), 1)
            if number % 3 == 0:
                mirror.drop(A)
        mirror.install(B, b"kept", entry("b"), 1)
        mirror.drop(B)
    assert (tmp_path / A).read_bytes() == b"49"
    assert not (tmp_path / B).exists()
    with opened(tmp_path) as mirror:
        [row] = [*mirror._index.rows()]
        assert (row.path, row.revision, row.digest) == (A, "49", digest_of(b"49"))
        assert row.previous in (b"", digest_of(b"47"))


def test_a_torn_copy_is_noticed_and_not_shown(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror:
        mirror.install(A, b"one", entry("1"), 1)
        mirror.install(B, b"two", entry("1"), 1)
    (tmp_path / A).write_bytes(b"on")
    (tmp_path / B).unlink()
    with opened(tmp_path) as mirror:
        for row in [*mirror._index.rows()]:
            mirror.adopt(row)
        for path in (A, B):
            with pytest.raises(Torn):
                mirror.content(path)
        assert mirror.torn == {A, B}
        mirror.install(A, b"one", entry("1"), 1)
        assert mirror.torn == {B}
        assert mirror.content(A) == b"one"


def test_a_touched_document_keeps_its_bytes(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror:
        mirror.install(A, b"one", entry("1"), 1)
        mirror.touch(A, 2)
        mirror.touch(A, 3, Revision("2"))
    with opened(tmp_path) as mirror:
        [row] = [*mirror._index.rows()]
        assert (row.mtime_ns, row.revision, row.digest) == (3, "2", digest_of(b"one"))
        mirror.adopt(row)
        assert mirror.content(A) == b"one"


def test_jobs_run_in_order_with_the_changes_before_them(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror:
        mirror.install(A, b"one", entry("1"), 1)
        seen = mirror.submit((tmp_path / A).read_bytes)
        mirror.install(A, b"two", entry("2"), 1)
        assert seen.result() == b"one"
        with pytest.raises(FileNotFoundError):
            mirror.submit((tmp_path / "none").read_bytes).result()
        written(mirror)
        assert (tmp_path / A).read_bytes() == b"two"


def test_a_disk_that_refuses_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as mirror:
        (tmp_path / "auths").write_bytes(b"a file in the way")
        mirror.install(A, b"one", entry("1"), 1)
        written(mirror)
        assert mirror.error
        assert len(caplog.records) == 1
        assert mirror.content(A) == b"one"  # from memory
        (tmp_path / "auths").unlink()
        mirror.install(A, b"two", entry("2"), 1)
        written(mirror)
        assert mirror.error == ""
        assert (tmp_path / A).read_bytes() == b"two"


def test_closing_brings_everything_to_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as mirror:
        for number in range(3000):
            mirror.install(f"auths/{number}.json", b"%d" % number, entry(str(number)), 1)
    assert len(os.listdir(tmp_path / "auths")) == 3000
    with opened(tmp_path) as mirror:
        assert len([*mirror._index.rows()]) == 3000


def test_a_revision_that_is_the_digest_is_not_kept_twice() -> None:
    digest = digest_of(b"{}")
    for text in (digest.hex(), "an etag", ""):
        record = Record(Revision("before"), 2, 1, digest)
        record.revision = Revision(text)
        assert record.revision == Record(Revision(text), 2, 1, digest).revision == text


def test_the_memory_of_the_cache_counts_what_an_entry_costs(tmp_path: Path) -> None:
    with opened(tmp_path, cache_size=10_000) as mirror:
        for number in range(100):
            mirror.install(f"auths/{number}.json", b"{}", entry(str(number)), 1)
        written(mirror)
        for number in range(100):
            mirror.content(f"auths/{number}.json")
        assert mirror.misses > 60  # 2 bytes each, but 5,000 entries would be a megabyte
