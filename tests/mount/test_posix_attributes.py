"""POSIX, call by call: what stat shows, who may change it, access, statfs and locks."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import one_mount, refused
from tests.mount.place import KINDS, Place, new_place, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("attributes"))


@pytest.fixture(params=KINDS)
def place(machine: Mount, request: pytest.FixtureRequest) -> Place:
    """Files of each kind."""
    return new_place(machine, request.param)


def test_stat(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    info = path.stat()
    assert stat.S_ISREG(info.st_mode)
    assert (info.st_size, info.st_nlink) == (8, 1)
    assert (info.st_uid, info.st_gid) == (os.getuid(), os.getgid())
    assert info.st_dev == place.directory.stat().st_dev
    assert path.lstat() == info
    with opened(path, os.O_RDONLY) as fd:
        assert os.fstat(fd) == info
    path.write_bytes(b"{}")
    assert (path.stat().st_ino, path.stat().st_size) == (info.st_ino, 2)


def test_stat_of_a_directory(place: Place) -> None:
    info = place.directory.stat()
    assert info.st_mode == stat.S_IFDIR | 0o700
    assert (info.st_uid, info.st_gid) == (os.getuid(), os.getgid())


def test_mtime_of_a_write(place: Place) -> None:
    before = time.time_ns() - SECOND  # clocks of a file system tick coarsely
    path = place.file("a", b"{}")
    first = path.stat()
    assert before <= first.st_mtime_ns <= time.time_ns()
    with opened(path, os.O_RDWR) as fd:
        time.sleep(0.02)  # so that a later time is another time
        os.pwrite(fd, b'{"a": 1}', 0)
        written = os.fstat(fd).st_mtime_ns
        assert written > first.st_mtime_ns
        assert os.fstat(fd).st_ctime_ns >= written
    assert path.stat().st_mtime_ns == written
    path.read_bytes()
    assert path.stat().st_mtime_ns == written


def test_mtime_of_a_directory(place: Place) -> None:
    """It moves when a name comes, goes or is renamed, and not when a file is written."""
    moments = [place.directory.stat().st_mtime_ns]
    assert abs(moments[0] - time.time_ns()) < 600 * SECOND

    def moved() -> bool:
        moments.append(place.directory.stat().st_mtime_ns)
        return moments[-1] > moments[-2]

    path = place.file("a", b"{}")
    assert moved()
    path.write_bytes(b'{"a": 1}')
    assert not moved()
    path.rename(place.name("b"))
    assert moved()
    place.name("b").unlink()
    assert moved()
    (place.directory / "sub").mkdir()
    assert moved()
    (place.directory / "sub").rmdir()
    assert moved()


def test_chmod(place: Place) -> None:
    """Kept for a local file; accepted and ignored for a document."""
    path = place.file("a", b"{}")
    for mode in (0o640, 0o755, 0o600):
        path.chmod(mode)
        assert path.stat().st_mode & 0o7777 == (0o600 if place.is_document else mode)
    with opened(path, os.O_RDONLY) as fd:
        os.fchmod(fd, 0o644)
        assert os.fstat(fd).st_mode & 0o7777 == (0o600 if place.is_document else 0o644)
    place.directory.chmod(0o755)
    assert place.directory.stat().st_mode & 0o7777 == 0o700


def test_utime(place: Place) -> None:
    """Kept for a local file; accepted and ignored for a document."""
    path = place.file("a", b"{}")
    before = path.stat()
    os.utime(path, ns=(5 * SECOND, 7 * SECOND))
    info = path.stat()
    if place.is_document:
        assert info.st_mtime_ns == before.st_mtime_ns
    else:
        assert (info.st_atime_ns, info.st_mtime_ns) == (5 * SECOND, 7 * SECOND)
    with opened(path, os.O_RDONLY) as fd:
        os.utime(fd, ns=(9 * SECOND, 11 * SECOND))
        if not place.is_document:
            assert os.fstat(fd).st_atime_ns == 9 * SECOND
            assert os.fstat(fd).st_mtime_ns == 11 * SECOND
    os.utime(path)
    assert abs(path.stat().st_mtime_ns - time.time_ns()) < 600 * SECOND


def test_chown(place: Place) -> None:
    """Accepted, and the owner stays."""
    path = place.file("a", b"{}")
    owners = [(os.getuid(), os.getgid()), (-1, -1)]
    if os.getuid() == 0:
        owners.append((1, 1))
    for uid, gid in owners:
        os.chown(path, uid, gid)
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_access(place: Place) -> None:
    path = place.file("a", b"{}")
    assert os.access(path, os.F_OK | os.R_OK | os.W_OK)
    assert not os.access(path, os.X_OK)
    assert not os.access(place.name("missing"), os.F_OK)
    assert os.access(place.directory, os.R_OK | os.W_OK | os.X_OK)


@pytest.mark.skipif(os.getuid() == 0, reason="root may do what the mode forbids")
def test_the_mode_is_obeyed(place: Place) -> None:
    path = place.file("a", b"{}")
    path.chmod(0o400)
    if place.is_document:
        path.write_bytes(b'{"a": 1}')
        return
    with refused(errno.EACCES):
        os.open(path, os.O_WRONLY)
    assert path.read_bytes() == b"{}"
    path.chmod(0o200)
    with refused(errno.EACCES):
        os.open(path, os.O_RDONLY)
    path.write_bytes(b"again")
    os.truncate(path, 3)
    path.rename(place.name("b"))
    place.name("b").unlink()


def test_blocks_of_a_sparse_file(place: Place) -> None:
    path = place.file("a", b"{}")
    if place.is_document:
        assert path.stat().st_blocks == 1
        return
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"x", 50 << 20)
    assert path.stat().st_size == (50 << 20) + 1
    below = place.mount.root / path.relative_to(place.mount.path)
    assert path.stat().st_blocks == below.stat().st_blocks


def test_statfs(place: Place) -> None:
    path = place.file("a", b"{}")
    shown, below = os.statvfs(path), os.statvfs(place.mount.root)
    assert (shown.f_bsize, shown.f_blocks, shown.f_namemax) == (
        below.f_bsize, below.f_blocks, 255,
    )  # fmt: skip
    assert 0 < shown.f_bavail <= shown.f_blocks


_TRY = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_locks(place: Place, call: str) -> None:
    """One process at a time, and the next when the first has closed."""
    path = place.file("a", b"{}")
    words = [sys.executable, "-c", _TRY, str(path), call]
    with opened(path, os.O_RDWR) as fd:
        getattr(fcntl, call)(fd, fcntl.LOCK_EX)
        assert subprocess.run(words, check=False).returncode == errno.EAGAIN
        getattr(fcntl, call)(fd, fcntl.LOCK_UN)
        assert subprocess.run(words, check=False).returncode == 0
        getattr(fcntl, call)(fd, fcntl.LOCK_EX)
    assert subprocess.run(words, check=False).returncode == 0


def test_locks_of_ranges(place: Place) -> None:
    path = place.file("a", b'{"a": 1}')
    program = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 4)\n"
        "try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 0)\n"
        "except OSError: sys.exit(7)\n"
    )
    with opened(path, os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 4, 0)
        words = [sys.executable, "-c", program, str(path)]
        assert subprocess.run(words, check=False).returncode == 7
