"""The index: rows survive, a failed write changes nothing, an unusable file is set aside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from storefs.index import Index, Row

if TYPE_CHECKING:
    from pathlib import Path

ONE = Row("auths/a.json", "r1", 2, 10, b"digest", b"")
TWO = Row("config/config.yaml", "", 3, 20, b"other", b"before")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


def rows(file: Path) -> list[Row]:
    index = Index(file)
    try:
        return [*index.rows()]
    finally:
        index.close()


def test_rows_are_there_at_the_next_start(file: Path) -> None:
    index = Index(file)
    index.write([TWO, ONE], [])
    index.close()
    assert rows(file) == [ONE, TWO]


def test_one_write_puts_and_deletes(file: Path) -> None:
    index = Index(file)
    index.write([ONE, TWO], [])
    newer = ONE._replace(revision="r2", previous=ONE.digest)
    index.write([newer], [TWO.path, "never there"])
    index.close()
    assert rows(file) == [newer]


def test_a_write_that_fails_changes_nothing(file: Path) -> None:
    index = Index(file)
    index.write([ONE], [])
    with pytest.raises(sqlite3.Error):
        index.write([TWO, TWO._replace(path=None)], [ONE.path])  # type: ignore[arg-type]
    assert [*index.rows()] == [ONE]
    index.write([TWO], [])
    index.close()
    assert rows(file) == [ONE, TWO]


@pytest.mark.parametrize(
    "rubbish", [b"no database at all, but long enough" * 50, b"SQLite format 3\0"]
)
def test_a_file_that_cannot_be_used_is_set_aside(
    file: Path, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(rubbish)
    assert rows(file) == []
    aside = file.with_name("index.sqlite.unusable")
    assert aside.read_bytes().startswith(rubbish)
    assert str(file) in caplog.text


def test_an_index_of_another_format_is_set_aside(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version=99")
    assert rows(file) == []
    assert file.with_name("index.sqlite.unusable").exists()
    assert rows(file) == []


def test_an_index_with_a_torn_page_is_set_aside(file: Path) -> None:
    index = Index(file)
    index.write([ONE._replace(path=f"auths/{number}.json") for number in range(500)], [])
    index.close()
    with file.open("r+b") as torn:
        torn.seek(4096)
        torn.write(b"\xff" * 4096)
    assert rows(file) == []
    assert file.with_name("index.sqlite.unusable").exists()
