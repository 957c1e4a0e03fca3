"""POSIX, call by call: reading, writing, lengths, positions and mappings."""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import one_mount, refused
from tests.mount.place import KINDS, Place, new_place, opened, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("data"))


@pytest.fixture(params=KINDS)
def place(machine: Mount, request: pytest.FixtureRequest) -> Place:
    """Files of each kind."""
    return new_place(machine, request.param)


def test_reads(place: Place) -> None:
    data = padded(10_000)
    with opened(place.file("a", data), os.O_RDONLY) as fd:
        assert os.read(fd, 0) == b""
        assert os.read(fd, 4000) + os.read(fd, 20_000) == data
        assert os.read(fd, 10) == b""
        assert os.pread(fd, 100, 9_990) == data[9_990:]
        assert os.pread(fd, 100, 10_000) == os.pread(fd, 100, 50_000) == b""
        parts = [bytearray(3), bytearray(5000)]
        assert os.preadv(fd, parts, 4094) == 5003
        assert b"".join(parts) == data[4094:9097]
        with refused(errno.EINVAL):
            os.pread(fd, 1, -1)


def test_writes(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd:
        assert os.pwrite(fd, b"b", 2) == 1
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        assert os.writev(fd, [b'{"', b"c"]) == 3
        assert os.pwritev(fd, [b" ", b" \n"], 8) == 3
        assert path.read_bytes() == os.pread(fd, 100, 0) == b'{"c": 1}  \n'
        assert os.fstat(fd).st_size == path.stat().st_size == 11


def test_a_hole_reads_as_zeros(place: Place) -> None:
    path = place.file("a", b"{}")
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"x", 12_000)
        assert os.pread(fd, 20_000, 0) == b"{}" + bytes(11_998) + b"x"
        assert os.fstat(fd).st_size == path.stat().st_size == 12_001
        os.ftruncate(fd, 2)


def test_positions(place: Place) -> None:
    with opened(place.file("a", b'{"a": 1}'), os.O_RDWR) as fd:
        assert os.lseek(fd, 3, os.SEEK_SET) == 3
        assert os.lseek(fd, 2, os.SEEK_CUR) == 5
        assert os.lseek(fd, -1, os.SEEK_END) == 7
        assert os.read(fd, 10) == b"}"
        assert os.lseek(fd, 100, os.SEEK_SET) == 100
        assert os.read(fd, 10) == b""
        with refused(errno.EINVAL):
            os.lseek(fd, -1, os.SEEK_SET)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 8
        with refused(errno.ENXIO):
            os.lseek(fd, 9, os.SEEK_DATA)


def test_lengths_by_descriptor(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd, opened(path, os.O_RDONLY) as reader:
        for size in (3, 9000, 4096, 4097, 0, 5):
            os.ftruncate(fd, size)
            assert os.fstat(fd).st_size == os.fstat(reader).st_size == size
            assert len(os.pread(reader, 20_000, 0)) == size
        assert os.pread(reader, 10, 0) == bytes(5)
        os.pwrite(fd, b"{}   ", 0)


def test_lengths_by_name(place: Place) -> None:
    path = place.file("a", b'{"a": 1}  ')
    os.truncate(path, 8)
    assert path.read_bytes() == b'{"a": 1}'
    os.truncate(path, 12)
    assert path.read_bytes() == b'{"a": 1}' + bytes(4)
    os.truncate(path, 8)
    with refused(errno.EINVAL):
        os.truncate(path, -1)
    with refused(errno.EISDIR):
        os.truncate(place.directory, 1)
    with refused(errno.ENOENT):
        os.truncate(place.name("missing"), 1)


@pytest.mark.parametrize("call", [os.fsync, os.fdatasync])
def test_sync(place: Place, call: Callable[[int], None]) -> None:
    path = place.file("a", b"{}")
    with opened(path, os.O_RDWR) as fd:
        call(fd)
        os.pwrite(fd, b'{"a": 1}', 0)
        call(fd)
        if place.is_document:
            assert place.store(path).read_bytes() == b'{"a": 1}'
    with opened(place.directory, os.O_RDONLY) as fd:
        call(fd)


def test_copies_of_a_descriptor(place: Place) -> None:
    """One position for both; the file lives until the last is closed."""
    path = place.file("a", b'{"a": 1}')
    fd = os.open(path, os.O_RDWR)
    copy = os.dup(fd)
    assert os.read(fd, 2) + os.read(copy, 1) == b'{"a'
    os.pwrite(copy, b"b", 2)
    os.close(fd)
    if place.is_document:
        assert place.store(path).read_bytes() == b'{"b": 1}'
    os.pwrite(copy, b"c", 2)
    os.close(copy)
    assert path.read_bytes() == b'{"c": 1}'
    if place.is_document:
        assert place.store(path).read_bytes() == b'{"c": 1}'


def test_a_child_shares_the_descriptor(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd:
        os.lseek(fd, 2, os.SEEK_SET)
        child = os.posix_spawn(
            "/bin/sh", ["sh", "-c", "printf c >&3"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, fd, 3)]
        )
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert os.lseek(fd, 0, os.SEEK_CUR) == 3
        assert os.pread(fd, 100, 0) == b'{"c": 1}'


def test_shared_mapping(place: Place) -> None:
    path = place.file("a", padded(9000))
    with (
        opened(path, os.O_RDWR) as fd,
        opened(path, os.O_RDWR) as other,
        mmap.mmap(fd, 9000) as one,
        mmap.mmap(other, 9000) as two,
    ):
        one[100:103] = b"one"
        assert two[100:103] == os.pread(other, 3, 100) == b"one"
        os.pwrite(other, b"two", 4095)
        assert one[4095:4098] == b"two"
        one.flush()
        if place.is_document:
            assert place.store(path).read_bytes() == one[:]
    assert path.read_bytes()[100:103] == b"one"


def test_the_end_of_a_mapping(place: Place) -> None:
    """Beyond the end of the file the page holds zeros, and what is put there is not kept."""
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 8) as mapping:
        mapping[2:3] = b"b"
        os.ftruncate(fd, 4)
        os.ftruncate(fd, 8)
        assert mapping[:] == b'{"b"' + bytes(4)
        os.pwrite(fd, b'{"c": 1}', 0)
        assert mapping[:] == b'{"c": 1}'


def test_a_mapping_outlives_the_descriptor(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd:
        mapping = mmap.mmap(fd, 8)
    mapping[2:3] = b"m"
    mapping.flush()
    assert path.read_bytes() == b'{"m": 1}'
    path.unlink()
    assert mapping[:] == b'{"m": 1}'
    mapping.close()


def test_private_mapping(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 8, access=mmap.ACCESS_COPY) as mapping:
        mapping[2:3] = b"p"
        assert os.pread(fd, 100, 0) == b'{"a": 1}'
    assert path.read_bytes() == b'{"a": 1}'


def test_copies_in_the_kernel(place: Place) -> None:
    """sendfile, copy_file_range and splice."""
    data = padded(20_000)
    with (
        opened(place.file("a", data), os.O_RDONLY) as source,
        opened(place.name("b"), os.O_RDWR | os.O_CREAT) as target,
    ):
        assert os.copy_file_range(source, target, 8000, 0, 0) == 8000
        os.lseek(target, 8000, os.SEEK_SET)
        assert os.sendfile(target, source, 8000, 6000) == 6000
        inlet, outlet = os.pipe()
        assert os.splice(source, outlet, 6000, offset_src=14_000) == 6000
        assert os.splice(inlet, target, 6000, offset_dst=14_000) == 6000
        os.close(inlet)
        os.close(outlet)
    assert place.name("b").read_bytes() == data
    if place.is_document:
        assert place.store(place.name("b")).read_bytes() == data


def test_room_ahead(place: Place) -> None:
    path = place.file("a", b"{}")
    with opened(path, os.O_RDWR) as fd:
        os.posix_fallocate(fd, 0, 5000)
        assert os.pread(fd, 9000, 0) == b"{}" + bytes(4998)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.ftruncate(fd, 2)
