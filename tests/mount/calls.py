"""System calls as the tests make them, and what is left of them: errno, batches, attributes."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def refused(code: int) -> Iterator[None]:
    """What is done inside must fail with this errno and no other."""
    with pytest.raises(OSError) as failed:  # noqa: PT011 - the errno is looked at below
        yield
    got = failed.value.errno or 0
    assert got == code, f"{errno.errorcode.get(got)} instead of {errno.errorcode[code]}"


def renameat2(source: Path, target: Path, flags: int) -> None:
    """rename with flags, which Python does not offer. Raises OSError."""
    names = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2", str(source))


def attribute(file: Path, name: str) -> str:
    """The value of `user.storefs.<name>`."""
    return os.getxattr(file, f"user.storefs.{name}").decode()


class Batches:
    """The batches that a mount sends to the backend from now on."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._before = len(mount.commits())

    def sent(self) -> list[list[list[str]]]:
        """[operation, path] for each change, in a list for each batch."""
        return self._mount.commits()[self._before :]


def write(file: Path, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
    """open, one write, close; the error of close is raised."""
    fd = os.open(file, os.O_WRONLY | flags, 0o600)
    try:
        os.write(fd, data)
    except OSError:
        os.close(fd)
        raise
    os.close(fd)


def shows(file: Path, data: bytes) -> None:
    """Wait until a program reads these bytes."""
    until(lambda: file.exists() and file.read_bytes() == data, f"{file} shows {data[:60]!r}")


def one_mount(base: Path, *options: str) -> Iterator[Mount]:
    """A machine for all tests of a module, which use names of their own."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with Mount(base / "a", base / "store", options) as mount:
        yield mount
