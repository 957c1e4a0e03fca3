"""POSIX, call by call: open and its flags, for a document and for a local file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import one_mount, refused
from tests.mount.place import KINDS, Place, new_place, opened, padded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("open"))


@pytest.fixture(params=KINDS)
def place(machine: Mount, request: pytest.FixtureRequest) -> Place:
    """Files of each kind."""
    return new_place(machine, request.param)


def test_read_only(place: Place) -> None:
    with opened(place.file("a", b'{"a": 1}'), os.O_RDONLY) as fd:
        assert os.read(fd, 100) == b'{"a": 1}'
        with refused(errno.EBADF):
            os.write(fd, b"x")
        with refused(errno.EINVAL):
            os.ftruncate(fd, 0)


def test_write_only(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_WRONLY) as fd:
        with refused(errno.EBADF):
            os.read(fd, 1)
        assert os.write(fd, b'{"b": 2}') == 8
    assert path.read_bytes() == b'{"b": 2}'


def test_read_and_write(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd:
        assert os.read(fd, 2) == b'{"'
        assert os.write(fd, b"c") == 1
        assert os.pread(fd, 100, 0) == b'{"c": 1}'
    assert path.read_bytes() == b'{"c": 1}'


def test_create(place: Place) -> None:
    path = place.name("new")
    with refused(errno.ENOENT):
        os.open(path, os.O_RDWR)
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        assert os.fstat(fd).st_size == 0
        assert path.exists()
        os.write(fd, b"{}")
    with opened(path, os.O_RDONLY | os.O_CREAT) as fd:
        assert os.read(fd, 10) == b"{}"


def test_exclusive(place: Place) -> None:
    path = place.name("new")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    with opened(path, flags) as fd:
        with refused(errno.EEXIST):
            os.open(path, flags)
        os.write(fd, b"{}")
    with refused(errno.EEXIST):
        os.open(path, flags)
    path.unlink()
    with opened(path, flags):
        pass


_RACER = """
import os, sys
won = 0
for number in range(int(sys.argv[2])):
    try:
        fd = os.open(sys.argv[1].format(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        continue
    os.write(fd, b"{}")
    os.close(fd)
    won += 1
print(won)
"""


def test_exclusive_is_won_once(place: Place) -> None:
    """Of racing programs exactly one creates each name."""
    count = 100
    words = [sys.executable, "-c", _RACER, str(place.name("race-{}")), str(count)]
    racers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    won = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    assert sum(won) == count, won
    assert len(list(place.directory.iterdir())) == count


def test_truncate_flag(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDONLY) as reader, opened(path, os.O_WRONLY | os.O_TRUNC) as fd:
        assert os.fstat(fd).st_size == os.fstat(reader).st_size == path.stat().st_size == 0
        assert os.read(reader, 10) == b""
        os.write(fd, b'{"b": 22}')
        assert os.read(reader, 20) == b'{"b": 22}'
    with opened(path, os.O_RDONLY | os.O_TRUNC):
        assert path.stat().st_size == 0


def test_append(place: Place) -> None:
    path = place.file("a", b"{}")
    os.truncate(path, 1)
    with (
        opened(path, os.O_WRONLY | os.O_APPEND) as one,
        opened(path, os.O_RDWR | os.O_APPEND) as two,
    ):
        os.write(one, b'"a": ')
        os.write(two, b"1")
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"}")
        os.ftruncate(two, 8)
        os.write(two, b"\n")
        assert os.pread(two, 100, 0) == b'{"a": 1}\n'
    assert path.read_bytes() == b'{"a": 1}\n'


_APPENDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(int(sys.argv[2])):
    os.write(fd, f'"{sys.argv[3]}{number:05}",'.encode())
"""


def test_append_from_several_programs(place: Place) -> None:
    """No line overwrites another."""
    count = 300
    path = place.file("a", b"")
    words = [sys.executable, "-c", _APPENDER, str(path), str(count)]
    programs = [subprocess.Popen([*words, name]) for name in "abc"]
    assert [program.wait(120) for program in programs] == [0, 0, 0]
    lines = path.read_bytes().split(b",")
    expected = sorted(f'"{name}{number:05}"'.encode() for name in "abc" for number in range(count))
    assert sorted(lines[:-1]) == expected


@pytest.mark.parametrize("flag", ["O_NOFOLLOW", "O_CLOEXEC", "O_DIRECT", "O_SYNC", "O_NOATIME"])
def test_accepted_flags(place: Place, flag: str) -> None:
    data = padded(4096)
    path = place.file("a", data)
    with opened(path, os.O_RDONLY | getattr(os, flag)) as fd:
        assert os.fstat(fd).st_size == 4096
        if flag != "O_DIRECT":  # which wants aligned memory
            assert os.read(fd, 5000) == data


def test_path_only(place: Place) -> None:
    with opened(place.file("a", b"{}"), os.O_PATH) as fd:
        assert os.fstat(fd).st_size == 2
        with refused(errno.EBADF):
            os.read(fd, 1)


def test_path_only_never_reaches_the_next_file(place: Place) -> None:
    """A descriptor by O_PATH outlives the name: it must not stand for what has the name then."""
    path = place.file("a", b'{"first": 1}')
    with opened(path, os.O_PATH) as fd:
        path.unlink()
        place.file("a", b'{"second": 2}')
        try:
            with open(f"/proc/self/fd/{fd}", "rb") as file:
                data = file.read()
        except OSError:
            return
    assert b"second" not in data


def test_wrong_things(place: Place) -> None:
    path = place.file("a", b"{}")
    with refused(errno.ENOTDIR):
        os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    with refused(errno.ENOTDIR):
        os.open(path / "below", os.O_RDONLY)
    with refused(errno.EISDIR):
        os.open(place.directory, os.O_WRONLY)
    with refused(errno.ENOENT):
        os.open(place.name("missing/x"), os.O_WRONLY | os.O_CREAT)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o400, 0o755])
def test_mode_of_a_new_file(place: Place, mode: int) -> None:
    """A local file gets the mode asked for, less the umask; a document has 0600."""
    path = place.name("new")
    before = os.umask(0o027)
    try:
        with opened(path, os.O_RDWR | os.O_CREAT, mode) as fd:
            assert os.write(fd, b"{}") == 2  # whatever the mode says, as on any disk
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == (0o600 if place.is_document else mode & ~0o027)
    assert path.read_bytes() == b"{}"
