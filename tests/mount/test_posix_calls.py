"""POSIX, call by call: the rows of docs/POSIX.md for which Python has no function of its own."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import one_mount
from tests.mount.place import KINDS, Place, new_place, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long

_NAME = 19
"""Bytes before the name in a struct dirent of 64-bit Linux: inode, offset, length, type."""
_BASIC_STATS = 0x7FF
_EMPTY_PATH = 0x1000
_LOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, process."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("calls"))


@pytest.fixture(params=KINDS)
def place(machine: Mount, request: pytest.FixtureRequest) -> Place:
    """Files of each kind."""
    return new_place(machine, request.param)


def _done(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_parts_of_a_file_are_synchronised(place: Place) -> None:
    """sync_file_range and syncfs are accepted; what was written stays as it was."""
    path = place.file("a", b"{}")
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b'{"a": 1}', 0)
        _done(_libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(4), 7))
        _done(_libc.syncfs(fd))
        assert os.pread(fd, 100, 0) == b'{"a": 1}'
    assert path.read_bytes() == b'{"a": 1}'


def test_statx(place: Place) -> None:
    """It says what stat says."""
    path, buffer = place.file("a", b'{"a": 1}'), ctypes.create_string_buffer(256)
    with opened(path, os.O_RDONLY) as fd:
        _done(_libc.statx(fd, b"", _EMPTY_PATH, _BASIC_STATS, buffer))
        shown = os.fstat(fd)
    links, _, _, mode = struct.unpack_from("IIIH", buffer.raw, 16)
    ino, size = struct.unpack_from("QQ", buffer.raw, 32)
    assert (links, mode, ino, size) == (1, shown.st_mode, shown.st_ino, 8)


def _names(stream: int) -> list[str]:
    found = []
    while entry := _libc.readdir(ctypes.c_void_p(stream)):
        found.append(ctypes.string_at(entry + _NAME).decode())
    return found


def test_positions_in_a_directory(place: Place) -> None:
    """telldir and seekdir go back to a place, rewinddir to the start, without what is gone."""
    for number in range(300):
        place.file(f"file-{number}", b"{}")
    stream = _libc.opendir(os.fsencode(place.directory))
    try:
        for _ in range(7):
            _libc.readdir(ctypes.c_void_p(stream))
        position = _libc.telldir(ctypes.c_void_p(stream))
        rest = _names(stream)
        _libc.seekdir(ctypes.c_void_p(stream), ctypes.c_long(position))
        assert _names(stream) == rest
        place.name("file-299").unlink()
        _libc.rewinddir(ctypes.c_void_p(stream))
        everything = _names(stream)
        assert place.name("file-299").name not in everything
        assert len(everything) == len(set(everything))
        assert {*everything} - {".", ".."} == {file.name for file in place.directory.iterdir()}
    finally:
        _done(_libc.closedir(ctypes.c_void_p(stream)))


_TRY = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, bytes.fromhex(sys.argv[2]))
except OSError as error:
    sys.exit(error.errno)
"""


def test_locks_of_open_files(place: Place) -> None:
    """F_OFD_SETLK: between two descriptors of one process too, and for another process."""
    path = place.file("a", b"{}")
    lock = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 4, 0)
    words = [sys.executable, "-c", _TRY, str(path), lock.hex()]
    with opened(path, os.O_RDWR) as one, opened(path, os.O_RDWR) as two:
        fcntl.fcntl(one, fcntl.F_OFD_SETLK, lock)
        with pytest.raises(BlockingIOError):
            fcntl.fcntl(two, fcntl.F_OFD_SETLK, lock)
        assert subprocess.run(words, check=False).returncode == errno.EAGAIN
    assert subprocess.run(words, check=False).returncode == 0


def test_waiting_for_a_lock(place: Place) -> None:
    """F_SETLKW: whoever waits has it when the holder closes."""
    path = place.file("a", b"{}")
    program = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+b')\nprint('waits', flush=True)\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\nprint('has it', flush=True)\n"
    )
    with opened(path, os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waits\n"
        fcntl.lockf(fd, fcntl.LOCK_UN)
    assert waiting.communicate(timeout=60)[0] == "has it\n"
    assert waiting.returncode == 0
