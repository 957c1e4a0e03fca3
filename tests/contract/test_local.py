"""What only the local directory can meet: other programs, odd files, a lock."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storefs.backends import local_files
from storefs.backends.contract import Delete, Put, Revision
from storefs.backends.local import LOCK, Local
from storefs.backends.local_errors import translate
from storefs.errors import AccessDenied, Conflict, Corrupt, Invalid, Unavailable
from tests.contract.steps import (
    bound_by_modes,
    commit,
    content,
    failed,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Batch

A, B = "auths/a.json", "auths/b.json"
STALE = Revision("stale")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # a socket's path is short: unix(7)


def _link(path: Path) -> None:
    path.symlink_to("b.json")


def _linked_directory(path: Path) -> None:
    elsewhere = path.parent.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.json").write_text("{}")
    path.symlink_to(elsewhere)


def _unreadable(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0)


def _closed_directory(path: Path) -> None:
    path.mkdir(0)


@pytest.mark.parametrize(
    "make", [_pipe, _socket, _link, _linked_directory, _unreadable, _closed_directory]
)
def test_odd_files_are_left_out_with_one_warning(
    local: Local, store: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    put(local, B, b"{}")
    make(store / A)
    with bound_by_modes():
        for _ in range(2):
            assert set(local.snapshot()) == {B}
            assert list(local.read([A])) == []  # left out: (A, None) would mean deleted
            assert all(blob is None for _, blob in local.read([f"{A}/c.json"]))
        assert isinstance(commit(local, Put(A, b"{}", None)), Invalid | AccessDenied)
    warned = [record.levelno for record in caplog.records if repr(A) in record.message]
    assert warned == [logging.WARNING]


@pytest.mark.parametrize("name", [b"line\nbreak.json", b"del\x7f.json", b"latin-\xe9.json"])
@pytest.mark.parametrize("directory", [False, True])
def test_odd_names_are_left_out_with_one_warning(
    local: Local, store: Path, name: bytes, directory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = os.fsencode(store / "auths") + b"/" + name
    if directory:
        os.mkdir(path)
        path += b"/a.json"
    Path(os.fsdecode(path)).write_text("{}")
    for _ in range(2):
        assert local.snapshot() == {}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    caplog.records[0].message.encode()


def test_hidden_names_are_left_out_silently(
    local: Local, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(local, A, b"{}")
    for hidden in (".a.json", ".team/a.json", "team/.a.json", "logs/a.json"):
        (store / "auths" / hidden).parent.mkdir(exist_ok=True)
        (store / "auths" / hidden).write_text("{}")
    (store / "readme.json").write_text("{}")
    assert (store / LOCK).exists()
    assert set(local.snapshot()) == {A}
    assert not caplog.records


def test_a_directory_under_the_name_is_invalid(local: Local, store: Path) -> None:
    (store / A).mkdir()
    failed(commit(local, Put(A, b"{}", None)), Invalid)
    failed(commit(local, Delete(A, STALE)), Invalid)
    assert (store / A).is_dir()


def test_a_batch_that_fails_in_the_middle_says_what_was_applied(local: Local, store: Path) -> None:
    (store / B).write_text("a file where a directory is needed")
    failure = failed(commit(local, Put(A, b"{}", None), Put(f"{B}/c.json", b"{}", None)), Invalid)
    assert failure.path == f"{B}/c.json"
    assert set(failure.applied) == {A}
    assert failure.applied[A] == local.snapshot()[A]


def test_a_failed_put_deletes_nothing(local: Local, store: Path) -> None:
    revision = put(local, A, b"{}")
    (store / B).write_text("a file where a directory is needed")
    outcome = commit(local, Delete(A, revision), Put(f"{B}/c.json", b"{}", None))
    assert failed(outcome, Invalid).applied == {}
    assert content(local, A) == b"{}"


def test_a_held_lock_ends_in_unavailable(local: Local, store: Path) -> None:
    put(local, A, b"{}")
    with (store / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        batches: list[Batch] = [[Put(B, b"{}", None)], [Delete(A, STALE)]]
        for outcome in local.commit(batches, 0.05):
            assert str(store / LOCK) in str(failed(outcome, Unavailable))
    assert set(local.snapshot()) == {A}
    put(local, B, b"{}")


def test_a_missing_store_is_not_an_empty_one(local: Local, store: Path) -> None:
    put(local, A, b"{}")
    store.rename(store.with_name("away"))
    with pytest.raises(Unavailable, match="put the store directory back"):
        local.snapshot()
    with pytest.raises(Unavailable):
        list(local.read([A]))
    failed(commit(local, Put(B, b"{}", None)), Unavailable)
    assert not store.exists()


def test_a_file_in_the_place_of_a_top_directory_is_not_an_empty_one(
    local: Local, store: Path
) -> None:
    (store / "auths").rmdir()
    (store / "auths").touch()
    with pytest.raises(Corrupt, match="auths"):
        local.snapshot()


def test_a_closed_top_directory_is_not_an_empty_one(local: Local, store: Path) -> None:
    (store / "auths").chmod(0)
    with bound_by_modes(), pytest.raises(AccessDenied, match=r"auths.*check owner and mode"):
        local.snapshot()


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match="file"):
        Local(tmp_path / "file")


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        local = Local(tmp_path / "new")
        put(local, "auths/team/a.json", b"{}")
        local.close()
    finally:
        os.umask(umask)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert {0o700 if path.is_dir() else 0o600 for path in found} == set(found.values())
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in found.items())


def test_a_put_leaves_nothing_else_behind(local: Local, store: Path) -> None:
    (store / "auths" / local_files.TEMPORARY).write_text("left by a crash")
    put(local, A, b"{}")
    assert os.listdir(store / "auths") == ["a.json"]


def test_an_outsider_rewrite_within_the_same_second_is_noticed(local: Local, store: Path) -> None:
    revision = put(local, A, b"0")
    before = (store / A).stat()
    for turn in range(1, 10):
        (store / A).write_bytes(b"%d" % turn)
        os.utime(store / A, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert local.snapshot()[A].revision != revision
        failed(commit(local, Put(A, b"mine", revision)), Conflict)
        revision = local.snapshot()[A].revision


@pytest.mark.parametrize(("age", "reads"), [(1.0, 2), (3.0, 1)])
def test_only_files_older_than_two_seconds_are_not_read_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, age: float, reads: int
) -> None:
    local = Local(store, clock=lambda: (store / A).stat().st_ctime_ns + int(age * 1e9))
    put(local, A, b"{}")
    names: list[str] = []
    real = local_files.read

    def read(name: str, directory: int) -> tuple[bytes, os.stat_result]:
        names.append(name)
        return real(name, directory)

    monkeypatch.setattr(local_files, "read", read)
    assert local.snapshot() == local.snapshot()
    assert names == ["a.json"] * reads
    local.close()


def test_an_old_file_with_its_old_size_and_mtime_is_read_again(store: Path) -> None:
    local = Local(store, clock=lambda: time.time_ns() + 10**10)
    revision = put(local, A, b"1")
    assert local.snapshot()[A].revision == revision
    before = (store / A).stat()
    while (store / A).stat().st_ctime_ns == before.st_ctime_ns:  # until the clock ticks
        (store / A).write_bytes(b"2")
        os.utime(store / A, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert local.snapshot()[A].revision != revision
    local.close()


def test_a_file_that_changes_while_it_is_read_is_read_again(
    local: Local, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(local, A, b"old")
    calls = []
    real = os.fstat

    def fstat(fd: int) -> os.stat_result:
        calls.append(fd)
        if len(calls) == 2:  # between reading and looking again
            (store / A).write_bytes(b"longer")
        return real(fd)

    monkeypatch.setattr(os, "fstat", fstat)
    assert content(local, A) == b"longer"


def test_errors_name_path_cause_and_next_step() -> None:
    for number, kind in ((13, AccessDenied), (30, AccessDenied), (36, Invalid), (28, Unavailable)):
        failure = translate(A, OSError(number, os.strerror(number)))
        assert type(failure) is kind
        assert str(failure).startswith(f"{A}: {os.strerror(number)}; ")
