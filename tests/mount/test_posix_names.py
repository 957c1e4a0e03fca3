"""POSIX, call by call: rename, unlink, directories and their listing."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import RENAME_NOREPLACE, one_mount, refused, renameat2
from tests.mount.place import KINDS, Place, new_place, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("names"))


@pytest.fixture(params=KINDS)
def place(machine: Mount, request: pytest.FixtureRequest) -> Place:
    """Files of each kind."""
    return new_place(machine, request.param)


def test_rename_to_a_free_name(place: Place) -> None:
    one, two = place.file("one", b'{"a": 1}'), place.name("two")
    ino = one.stat().st_ino
    one.rename(two)
    assert not one.exists()
    assert (two.stat().st_ino, two.read_bytes()) == (ino, b'{"a": 1}')
    assert [entry.name for entry in place.directory.iterdir()] == [two.name]


def test_rename_replaces(place: Place) -> None:
    """Whoever has the replaced file open keeps it."""
    one, two = place.file("one", b'{"a": 1}'), place.file("two", b'{"b": 22}')
    with opened(two, os.O_RDWR) as old, opened(one, os.O_RDWR) as new:
        one.rename(two)
        assert os.pread(old, 100, 0) == b'{"b": 22}'
        assert os.fstat(old).st_nlink == 0
        os.pwrite(old, b'{"c"', 0)
        assert os.pread(new, 100, 0) == two.read_bytes() == b'{"a": 1}'
        assert os.fstat(new).st_ino == two.stat().st_ino
    assert two.read_bytes() == b'{"a": 1}'


def test_rename_is_never_seen_half(place: Place) -> None:
    """A reader that opens the name over and over finds one of the two, whole, and no gap."""
    versions = [b'{"v": "' + bytes([65 + n]) * 3000 * (n + 1) + b'"}' for n in range(3)]
    path = place.file("a", versions[0])
    program = (
        "import sys\nseen = set()\nprint(flush=True)\n"
        "while True:\n"
        "    with open(sys.argv[1], 'rb') as file: data = file.read()\n"
        "    seen.add(len(data))\n"
        "    if data == b'{}': break\n"
        "print(sorted(seen))\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    for number in range(90):
        place.file("b", versions[number % 3]).rename(path)
    place.file("b", b"{}").rename(path)
    seen = json.loads(reader.communicate(timeout=60)[0])
    assert set(seen) <= {2, *map(len, versions)}


def test_rename_without_replacing(place: Place) -> None:
    one, two = place.file("one", b'{"a": 1}'), place.file("two", b'{"b": 2}')
    with refused(errno.EEXIST):
        renameat2(one, two, RENAME_NOREPLACE)
    assert (one.read_bytes(), two.read_bytes()) == (b'{"a": 1}', b'{"b": 2}')
    renameat2(one, place.name("three"), RENAME_NOREPLACE)
    assert place.name("three").read_bytes() == b'{"a": 1}'


def test_rename_refusals(place: Place) -> None:
    path, directory = place.file("one", b"{}"), place.directory / "directory"
    directory.mkdir()
    path.rename(path)
    assert path.read_bytes() == b"{}"
    with refused(errno.ENOENT):
        place.name("missing").rename(place.name("two"))
    with refused(errno.ENOENT):
        path.rename(place.directory / "missing" / "x")
    with refused(errno.ENOTDIR):
        path.rename(path / "x")
    with refused(errno.EISDIR):
        path.rename(directory)
    with refused(errno.ENOTDIR):
        directory.rename(path)
    with refused(errno.EINVAL):
        directory.rename(directory / "inside")


def test_rename_of_directories(place: Place) -> None:
    one, two = place.directory / "one", place.directory / "two"
    one.mkdir()
    (one / "file.txt").write_bytes(b"in it")
    (one / "deeper").mkdir()
    with opened(one / "file.txt", os.O_RDONLY) as fd:
        two.mkdir()
        one.rename(two)  # onto an empty one
        assert os.read(fd, 10) == (two / "file.txt").read_bytes() == b"in it"
    assert sorted(entry.name for entry in two.iterdir()) == ["deeper", "file.txt"]
    one.mkdir()
    with refused(errno.ENOTEMPTY):
        one.rename(two)


def test_unlink_while_open(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd, opened(path, os.O_RDONLY) as reader:
        path.unlink()
        assert not path.exists()
        assert os.fstat(fd).st_nlink == 0
        os.pwrite(fd, b'{"b": 22}', 0)
        assert os.pread(reader, 100, 0) == b'{"b": 22}'
        assert os.fstat(reader).st_size == 9
        os.ftruncate(fd, 3)
        os.fsync(fd)
        assert os.fstat(reader).st_size == 3
        place.file("a", b"{}")
        assert os.pread(reader, 100, 0) == b'{"b'
    assert path.read_bytes() == b"{}"
    if place.is_document:
        assert place.store(path).read_bytes() == b"{}"


def test_unlink_refusals(place: Place) -> None:
    path = place.file("a", b"{}")
    with refused(errno.ENOENT):
        place.name("missing").unlink()
    with refused(errno.ENOTDIR):
        (path / "x").unlink()
    with refused(errno.EISDIR):
        os.unlink(place.directory)


def test_directories(place: Place) -> None:
    directory = place.directory / "new"
    directory.mkdir()
    with refused(errno.EEXIST):
        directory.mkdir()
    path = place.file("new/a", b"{}")
    with refused(errno.ENOTEMPTY):
        directory.rmdir()
    with refused(errno.ENOTDIR):
        path.rmdir()
    with refused(errno.ENOTDIR):
        (path / "x").mkdir()
    with refused(errno.EEXIST):
        path.mkdir()
    path.unlink()
    directory.rmdir()
    with refused(errno.ENOENT):
        directory.rmdir()
    with refused(errno.ENOENT):
        (directory / "x").mkdir()


def test_making_a_file_by_mknod(place: Place) -> None:
    path = place.name("a")
    os.mknod(path, stat.S_IFREG | 0o600)
    assert path.stat().st_size == 0
    with refused(errno.EEXIST):
        os.mknod(path, stat.S_IFREG | 0o600)
    path.write_bytes(b"{}")
    assert path.read_bytes() == b"{}"


def test_listing_while_names_change(place: Place) -> None:
    """What stays all the time is listed once; what comes or goes may be; what is gone is not."""
    staying = {place.file(f"stay-{number}", b"{}").name for number in range(150)}
    going = [place.file(f"go-{number}", b"{}") for number in range(40)]
    seen = []
    with os.scandir(place.directory) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number == 3:
                for path in going:
                    path.unlink()
                coming = {place.file(f"come-{n}", b"{}").name for n in range(50)}
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)
    assert set(seen) - staying <= {path.name for path in going} | coming
    assert {entry.name for entry in place.directory.iterdir()} == staying | coming
    for path in going:
        with refused(errno.ENOENT):
            path.stat()


def test_kinds_in_a_listing(place: Place) -> None:
    place.file("a", b"{}")
    (place.directory / "sub").mkdir()
    with os.scandir(place.directory) as entries:
        found = {
            entry.name: (entry.is_dir(follow_symlinks=False), entry.inode()) for entry in entries
        }
    assert {name: kind for name, (kind, _) in found.items()} == {
        place.name("a").name: False,
        "sub": True,
    }
    for name, (_, ino) in found.items():
        assert (place.directory / name).stat().st_ino == ino
