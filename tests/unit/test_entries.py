"""Attributes as the kernel takes them: what a listing shows is never older than the document."""

from __future__ import annotations

import stat

import pyfuse3
import pytest

from storefs import entries
from storefs.entries import Entries
from storefs.vfs import Attributes

DOCUMENT = Attributes(0, stat.S_IFREG | 0o600, 0, 0, 0, 1, True)


def shown(entry: pyfuse3.EntryAttributes) -> tuple[int, int, int, int]:
    times = {entry.st_mtime_ns, entry.st_ctime_ns, entry.st_atime_ns}
    assert len(times) == 1
    return entry.st_ino, entry.st_size, entry.st_blocks, times.pop()


@pytest.fixture
def made() -> Entries:
    return Entries(pyfuse3.EntryAttributes, 7, 8, DOCUMENT)


def test_a_listed_document_is_kept_until_it_changes(made: Entries) -> None:
    size, mtime_ns, entry = made.listed(5, 1000, 10**18 + 1)
    assert (size, mtime_ns) == (1000, 10**18 + 1)
    assert made.known[5] == (size, mtime_ns, entry)
    assert shown(entry) == (5, 1000, 2, 10**18 + 1)
    assert (entry.st_uid, entry.st_gid, entry.st_mode) == (7, 8, stat.S_IFREG | 0o600)
    assert shown(made.listed(5, 2000, 10**18 + 2)[2]) == (5, 2000, 4, 10**18 + 2)
    assert made.known[5][:2] == (2000, 10**18 + 2)
    made.forget(5)
    made.forget(5)
    assert not made.known


def test_beyond_what_is_kept_one_serves_for_all(
    made: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "_KEPT", 1)
    first = made.listed(5, 1, 1)[2]
    for ino in (6, 7):
        assert shown(made.listed(ino, ino * 1000, ino)[2])[:2] == (ino, ino * 1000)
    assert [*made.known] == [5]
    assert shown(first) == (5, 1, 1, 1)
