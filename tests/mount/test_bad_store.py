"""What lies in the store directory and is no document: left out with a line in the log, never
followed, opened or removed; the rest is served."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import refused, write
from tests.mount.harness import Mount, Watch, until
from tests.mount.place import padded
from tests.mount.tools import LONGEST, Log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

SECRET = b'{"elsewhere": "never to be seen"}'


def _link(path: Path) -> None:
    outside = path.parents[2] / "outside.json"
    outside.write_bytes(SECRET)
    path.symlink_to(outside)


def _broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short: unix(7)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _unreadable(path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root reads what the mode forbids")
    path.write_bytes(SECRET)
    path.chmod(0)


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "file.txt").write_bytes(SECRET)


WRONG: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "symbolic link": (_link, "it is a symbolic link", errno.EINVAL),
    "broken link": (_broken_link, "it is a symbolic link", errno.EINVAL),
    "fifo": (_pipe, "it is a pipe", errno.EINVAL),
    "socket": (_socket, "it is a socket", errno.EINVAL),
    "unreadable file": (_unreadable, "Permission denied", errno.EACCES),
}


def _kind(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_ino, info.st_mode


@pytest.mark.parametrize("early", [True, False], ids=["before the start", "while mounted"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_thing_in_the_store(mounts: Mounts, case: str, early: bool) -> None:
    """Not shown, told once, and the documents beside it come and go as ever."""
    make, reason, code = WRONG[case]
    mount = mounts(start=False)
    path = mount.store / "auths" / "wrong.json"
    path.parent.mkdir(parents=True)
    if early:
        make(path)
    with mount:
        if not early:
            make(path)
            mount.sync()
        until(lambda: reason in mount.log(), f"a line that says: {reason}")
        assert not (mount.auths / "wrong.json").exists()
        with Watch(mount.auths) as watch:
            (path.parent / "right.json").write_bytes(b"{}")
            watch.expect("CREATE", "right.json")
        _refused_beside(mount, path, reason, code)
        for _ in range(3):
            mount.sync()
        assert mount.log().count("'auths/wrong.json' in") == 1
        assert mount.status()["error"] == ""
        if case == "unreadable file":
            path.chmod(0o600)


def _refused_beside(mount: Mount, path: Path, reason: str, code: int) -> None:
    """Writing to the name, or renaming onto it, is refused; what lies there stays."""
    before, shown, log = _kind(path), mount.auths / "wrong.json", Log(mount)
    with refused(code):
        write(shown, b'{"a": 1}')
    log.expect("WARNING", "flush", "auths/wrong.json", reason, errno.errorcode[code])
    shown.unlink(missing_ok=True)  # a refusal for want of rights takes it away by itself
    write(mount.auths / "a.tmp", b'{"a": 2}')
    with refused(code):
        (mount.auths / "a.tmp").rename(shown)
    log.expect("WARNING", "rename", "auths/wrong.json", reason, errno.errorcode[code])
    assert (mount.auths / "a.tmp").read_bytes() == b'{"a": 2}'
    assert _kind(path) == before


@pytest.mark.parametrize("case", [*WRONG, "directory"])
def test_a_document_that_becomes_a_wrong_thing(mount: Mount, case: str) -> None:
    """Nobody deleted it: it stays, and when the file is back its change arrives."""
    make, reason, _ = {**WRONG, "directory": (_directory, "it is a directory", 0)}[case]
    shown, path = mount.auths / "a.json", mount.store / "auths" / "a.json"
    write(shown, b'{"a": 1}')
    write(mount.auths / "b.json", b"{}")
    path.unlink()
    make(path)
    mount.sync()
    until(lambda: reason in mount.log(), f"a line that says: {reason}")
    with Watch(mount.auths) as watch:
        (mount.store / "auths" / "b.json").unlink()
        watch.expect("DELETE", "b.json")  # a deletion is believed by now
    mount.sync()
    assert shown.read_bytes() == b'{"a": 1}'
    if case == "directory":
        (path / "file.txt").unlink()
        path.rmdir()
    else:
        path.unlink()
    path.write_bytes(b'{"a": 22}')
    mount.sync()
    until(lambda: shown.read_bytes() == b'{"a": 22}', "the change arrives")


@pytest.mark.parametrize("name", [b"new\nline.json", b"caf\xe9.json", b"\x01.json"])
def test_a_bad_name_in_the_store(mount: Mount, name: bytes) -> None:
    directory = os.fsencode(mount.store / "auths")
    (mount.store / "auths").mkdir(exist_ok=True)
    with open(directory + b"/" + name, "wb") as file:
        file.write(SECRET)
    with Watch(mount.auths) as watch:
        (mount.store / "auths" / "right.json").write_bytes(b"{}")
        watch.expect("CREATE", "right.json")
    for _ in range(2):
        mount.sync()
    assert os.listdir(mount.auths) == ["right.json"]
    told = [line for line in mount.log().splitlines() if "is left out" in line]
    assert len(told) == 1
    assert "control character" in told[0] or "is not UTF-8" in told[0]
    assert os.listdir(directory).count(name) == 1


def test_a_document_that_is_too_long(mount: Mount) -> None:
    """In status, in the log, and not shown: also not by the conflict that writing there is."""
    shown, path = mount.auths / "long.json", mount.store / "auths" / "long.json"
    path.parent.mkdir(exist_ok=True)
    staged = mount.base / "long.json"  # half of it, seen in the store, would be short enough
    staged.write_bytes(padded(LONGEST + 1))
    staged.rename(path)
    mount.sync()
    assert mount.status()["too_large"] == ["auths/long.json"]
    assert "auths/long.json: 16777217 bytes is more than --max-file-size" in mount.log()
    assert not shown.exists()
    with refused(errno.ESTALE):
        write(shown, b'{"mine": 1}')
    assert b'{"mine": 1}' in mount.kept("conflicts").values()
    until(lambda: not shown.exists(), "the name goes again")
    assert path.stat().st_size == LONGEST + 1
    path.write_bytes(b'{"short": 1}')
    until(shown.exists, "shown once it is short enough")
    assert shown.read_bytes() == b'{"short": 1}'
    assert mount.status()["too_large"] == []
