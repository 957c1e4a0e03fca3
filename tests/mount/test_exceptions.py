"""An exception that nobody expects, in each handler: EIO, one traceback, and the mount lives on."""

from __future__ import annotations

import errno
import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from storefs import errors, fuse
from tests.mount.calls import one_mount, refused, write
from tests.mount.harness import Mount, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("exceptions"))


@dataclass(frozen=True)
class Case:
    """A handler, the method below it that is broken, and the system call that reaches it."""

    handler: str
    method: str
    call: Callable[[Path, int], object]
    """With a local file and a descriptor of it, open for reading and writing."""
    place: str = "auths/case.tmp"
    silent: bool = False
    """The kernel wants no answer, so the program gets none."""


def _close_directory(file: Path, _: int) -> None:
    os.close(os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY))


def _sync_directory(file: Path, _: int) -> None:
    fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _close_a_copy(_: Path, fd: int) -> None:
    os.close(os.dup(fd))


def _open_and_close(file: Path, _: int) -> None:
    os.close(os.open(file, os.O_RDONLY))


def _drop(file: Path, _: int) -> None:
    """The kernel forgets what has neither name nor user any more."""
    other = file.with_name("forgotten.tmp")
    other.touch()
    other.unlink()


STATUS = ".storefs/status"
"""Never cached, neither attributes nor bytes: each call is a request."""

CASES = [
    Case("lookup", "lookup", lambda file, _: file.with_name("unknown").stat()),
    Case("forget", "forget", _drop, silent=True),
    Case("getattr", "attributes", lambda _, fd: os.fstat(fd), STATUS),
    Case("setattr", "setattr", lambda file, _: file.chmod(0o600)),
    Case("mknod", "mknod", lambda file, _: os.mknod(file.with_name("node.tmp"))),
    Case("mkdir", "mkdir", lambda file, _: file.with_name("new").mkdir()),
    Case("unlink", "unlink", lambda file, _: file.with_name("gone.tmp").unlink()),
    Case("rmdir", "rmdir", lambda file, _: file.with_name("gone").rmdir()),
    Case("rename", "rename", lambda file, _: file.rename(file.with_name("renamed.tmp"))),
    Case("symlink", "refuse_link", lambda file, _: file.with_name("link").symlink_to("x")),
    Case("link", "refuse_link", lambda file, _: file.with_name("link").hardlink_to(file)),
    Case("open", "open", _open_and_close),
    Case("create", "create", lambda file, _: file.with_name("new.tmp").touch()),
    Case("read", "read", lambda _, fd: os.read(fd, 1), STATUS),
    Case("write", "write", lambda _, fd: os.write(fd, b"x")),
    Case("flush", "flush", _close_a_copy),
    Case("fsync", "fsync", lambda _, fd: os.fsync(fd)),
    Case("release", "release", _open_and_close, silent=True),
    Case("opendir", "opendir", lambda file, _: os.listdir(file.parent)),
    Case("readdir", "listing", lambda file, _: os.listdir(file.parent)),
    Case("releasedir", "close_listing", _close_directory, silent=True),
    Case("fsyncdir", "fsync_directory", _sync_directory),
    Case("statfs", "statfs", lambda file, _: os.statvfs(file)),
    Case("getxattr", "xattr", lambda file, _: os.getxattr(file, "user.storefs.state")),
    Case("listxattr", "xattrs", lambda file, _: os.listxattr(file)),
    Case("setxattr", "refuse_xattr", lambda file, _: os.setxattr(file, "user.x", b"x")),
    Case("removexattr", "refuse_xattr", lambda file, _: os.removexattr(file, "user.x")),
]


def test_every_handler_has_a_case() -> None:
    handlers = {
        name
        for name, value in vars(fuse.Operations).items()
        if inspect.iscoroutinefunction(value) and not name.startswith("_")
    }
    assert {case.handler for case in CASES} == handlers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.handler)
def test_an_exception_in_a_handler_gives_eio(shared: Mount, case: Case) -> None:
    (shared.auths / "case.tmp").write_bytes(b"some bytes")
    (shared.auths / "gone.tmp").touch()
    (shared.auths / "gone").mkdir(exist_ok=True)
    file = shared.path / case.place
    fd = os.open(file, os.O_RDONLY if case.place == STATUS else os.O_RDWR)
    before = len(shared.log())
    fault = shared.fault(f"break.{case.method}")
    try:
        if case.silent:
            case.call(file, fd)
        else:
            with refused(errno.EIO):
                case.call(file, fd)
        until(lambda: "broken on purpose" in shared.log()[before:], "it was logged")
    finally:
        fault.unlink()
        os.close(fd)
    _lives(shared)
    said = shared.log()[before:]
    assert said.count("Traceback (most recent call last)") == 1, said
    assert f"RuntimeError: broken on purpose: {case.method}" in said
    assert f"{case.handler} failed unexpectedly" in said


def _lives(mount: Mount) -> None:
    file = mount.auths / "alive.json"
    write(file, b'{"alive": true}')
    assert file.read_bytes() == b'{"alive": true}'
    assert "alive.json" in os.listdir(mount.auths)
    file.unlink()
    assert not (mount.store / "auths/alive.json").exists()


def _below(kind: type[errors.FileError]) -> set[type[errors.FileError]]:
    return {kind}.union(*(_below(other) for other in kind.__subclasses__()))


def test_every_error_has_an_errno() -> None:
    assert _below(errors.FileError) - {errors.FileError} == fuse.ERRNOS.keys()
