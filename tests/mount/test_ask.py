"""`.storefs/ask`: an order, and its answer from the same handle."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import write
from tests.mount.harness import storefs

if TYPE_CHECKING:
    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


def put(one: Mount, order: bytes) -> tuple[int, bytes]:
    """The error number of the order, and what the handle then reads as."""
    fd = os.open(one.path / ".storefs/ask", os.O_RDWR)
    try:
        os.write(fd, order)
        code = 0
        try:
            os.fsync(fd)
        except OSError as error:
            code = error.errno or 0
        return code, os.read(fd, 65536)
    finally:
        os.close(fd)


def test_an_order_that_is_none_is_refused_with_the_reason(mounts: Mounts) -> None:
    one = mounts("one")
    code, text = put(one, b"frob\nauths/a.json")
    assert code == errno.EINVAL
    assert b"log, only-in-backup, restore" in text
    assert put(one, b"log")[0] == errno.EINVAL
    assert put(one, b"log\n" + b"a" * 70_000)[0] == errno.EINVAL


def test_an_order_that_is_closed_and_never_asked_is_an_error(mounts: Mounts) -> None:
    fd = os.open(mounts("one").path / ".storefs/ask", os.O_RDWR)
    os.write(fd, b"log\nauths/a.json")
    with pytest.raises(OSError, match="Invalid argument"):
        os.close(fd)


def test_every_handle_has_its_own_answer(mounts: Mounts) -> None:
    one = mounts("one")
    fds = [os.open(one.path / ".storefs/ask", os.O_RDWR) for _ in range(2)]
    for number, fd in enumerate(fds):
        os.write(fd, b"frob%d" % number)
    for fd in fds:
        with pytest.raises(OSError, match="Invalid argument"):
            os.fsync(fd)
        assert b"takes one of" in os.read(fd, 1000)
        os.close(fd)
    assert put(one, b"log\nauths/a.json")[0] == errno.EOPNOTSUPP


@pytest.mark.parametrize("words", [["log"], ["restore"]])
def test_a_backend_without_versions_says_so(mounts: Mounts, words: list[str]) -> None:
    one = mounts("one")
    write(one.auths / "a.json", b'{"a": 1}')
    revision = ["abcdef"] if words == ["restore"] else []
    done = storefs(one.home, *words, str(one.auths / "a.json"), *revision)
    assert done.returncode == 1
    assert "keeps no versions" in done.stderr
    assert len(done.stderr.splitlines()) == 1
