"""POSIX: what is excluded answers as docs/POSIX.md says, call by call, and no row is missing."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import RENAME_EXCHANGE, one_mount, renameat2
from tests.mount.harness import REPOSITORY, until
from tests.mount.place import KINDS, new_place, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

RENAME_WHITEOUT = 4
PUNCH_HOLE = 3  # with KEEP_SIZE, which it demands
FICLONE = 0x40049409
GETFLAGS = 0x80086601
ACL = bytes.fromhex("0200000001000600ffffffff04000000ffffffff20000000ffffffff")

_libc = ctypes.CDLL(None, use_errno=True)


def _fallocate(path: Path, mode: int) -> None:
    with opened(path, os.O_RDWR) as fd:
        if _libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(100)) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")


def _clone(path: Path) -> None:
    with (
        opened(path, os.O_RDONLY) as source,
        opened(path.with_name("clone.txt"), os.O_WRONLY | os.O_CREAT) as fd,
    ):
        fcntl.ioctl(fd, FICLONE, source)


def _ioctl(path: Path) -> None:
    with opened(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, GETFLAGS, bytes(8))


def _bind(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short: unix(7)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"socket{path.suffix}")
    finally:
        os.chdir(here)


def _write_far(path: Path) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, b"x", 16 << 20)


def _close_invalid(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"no", 0)
    os.close(fd)


def _fsync_invalid(path: Path) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, b"no", 0)
        try:
            os.fsync(fd)
        finally:
            os.pwrite(fd, b"{}", 0)


def _rename_shared(path: Path) -> None:
    path.parent.rename(path.parent.with_name(path.parent.name + "-moved"))


def _other(path: Path) -> Path:
    other = path.with_name(f"other{path.suffix}")
    other.write_bytes(b"{}")
    return other


EXCLUDED: dict[str, Callable[[Path], object]] = {
    "`link`": lambda path: os.link(path, path.with_name(f"link{path.suffix}")),
    "`symlink`": lambda path: path.with_name(f"link{path.suffix}").symlink_to(path.name),
    "`mknod` of a FIFO": lambda path: os.mkfifo(path.with_name(f"fifo{path.suffix}")),
    "`mknod` of a device": lambda path: os.mknod(
        path.with_name(f"null{path.suffix}"), stat.S_IFCHR | 0o600, os.makedev(1, 3)
    ),
    "`bind` of a socket": _bind,
    "`open` O_TMPFILE": lambda path: os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o600),
    "`fallocate`": lambda path: _fallocate(path, 0),
    "`fallocate` PUNCH_HOLE": lambda path: _fallocate(path, PUNCH_HOLE),
    "`ioctl` FICLONE": _clone,
    "`ioctl` FS_IOC_GETFLAGS": _ioctl,
    "`renameat2` RENAME_EXCHANGE": lambda path: renameat2(path, _other(path), RENAME_EXCHANGE),
    "`renameat2` RENAME_WHITEOUT": lambda path: renameat2(
        path, path.with_name("gone"), RENAME_WHITEOUT
    ),
    "`rename` of a directory that holds documents": _rename_shared,
    "`setxattr`": lambda path: os.setxattr(path, "user.mine", b"1"),
    "`removexattr`": lambda path: os.removexattr(path, "user.mine"),
    "`setxattr` of an ACL": lambda path: os.setxattr(path, "system.posix_acl_access", ACL),
    "`pwrite` beyond `--max-file-size`": _write_far,
    "`close` of invalid content": _close_invalid,
    "`fsync` of invalid content": _fsync_invalid,
}
LOGGED = {"EPERM", "EFBIG", "EINVAL"}
"""What a person must know of is a line in the log."""


def _rows() -> dict[str, tuple[str, str]]:
    """call -> (of, errno) from the table of exclusions."""
    text = (REPOSITORY / "docs/POSIX.md").read_text()
    table = text.split("## Excluded")[1].split("\n\n")[1]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return {call.strip(): (of.strip(), code.strip()) for call, of, code, _ in rows}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("excluded"))


def test_the_document_names_every_exclusion() -> None:
    assert _rows().keys() == EXCLUDED.keys()


@pytest.mark.parametrize("call", EXCLUDED)
@pytest.mark.parametrize("kind", KINDS)
def test_excluded(machine: Mount, kind: str, call: str) -> None:
    """The errno of the table, a line in the log where it says so, and the file as it was."""
    of, code = _rows()[call]
    if of not in ("both", kind):
        pytest.skip(f"{call} is excluded for a {of} only")
    if "device" in call and os.getuid() != 0:
        pytest.skip("mknod of a device needs root before it gets here")
    place = new_place(machine, kind)
    path = place.file("a", b"{}")
    before, logged = set(place.directory.iterdir()), len(machine.log())
    with pytest.raises(OSError) as failed:  # noqa: PT011 - the errno is looked at below
        EXCLUDED[call](path)
    assert failed.value.errno == getattr(errno, code)
    if code in LOGGED:
        name = place.directory.name
        until(lambda: name in machine.log()[logged:], f"a log line about {call}")
    made = {entry.name for entry in set(place.directory.iterdir()) - before}
    assert made <= {f"other{path.suffix}", "clone.txt"}
    if "invalid" not in call:
        assert path.read_bytes() == b"{}"
