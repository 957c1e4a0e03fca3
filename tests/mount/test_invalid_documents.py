"""Empty, invalid and too long documents. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import Batches, attribute, one_mount, refused, shows, write
from tests.mount.harness import Mount, Watch, until
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

INVALID = {
    "cut": b'{"a": ',
    "list": b"[1]",
    "text": b'"a"',
    "nan": b'{"a": NaN}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": b'{"a": "\xff"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(8),
    "blank": b" \n",
    "two": b"{} {}",
}
ODD_CONFIGS = {
    "equals": b"a: =\n",
    "private tag": b"a: !mine x\n",
    "no date": b"a: 2024-13-45\n",
    "equal keys": b"a: 1\na: 2\n",
    "flow": b"{a: 1}\n",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("invalid"), "--max-file-size", "5000")


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
def test_invalid_json(here: Mount, data: bytes) -> None:
    """Below `auths/`, a `.json` document is valid if it is a JSON object by RFC 8259, in UTF-8,
    without NaN and without a byte order mark.
    """
    path, stored = here.auths / "invalid.json", here.store / "auths/invalid.json"
    write(path, b'{"a": 1}')
    batches = Batches(here)
    with refused(errno.EINVAL):
        write(path, data)
    assert batches.sent() == []
    assert path.read_bytes() == data
    assert stored.read_bytes() == b'{"a": 1}'


@pytest.mark.parametrize("data", [b"- a\n- b\n", b"a", b"a: [\n", b"a: 1\n---\nb: 2\n", b"# no\n"])
def test_invalid_config(here: Mount, data: bytes) -> None:
    """The config is valid if it composes to one YAML mapping, whatever its tags and values."""
    stored = (here.store / "config/config.yaml").read_bytes()
    with refused(errno.EINVAL):
        write(here.config, data)
    assert here.config.read_bytes() == data
    assert (here.store / "config/config.yaml").read_bytes() == stored


@pytest.mark.parametrize("data", ODD_CONFIGS.values(), ids=ODD_CONFIGS.keys())
def test_odd_config(here: Mount, data: bytes) -> None:
    """The config is valid if it composes to one YAML mapping, whatever its tags and values."""
    write(here.config, data)
    assert (here.store / "config/config.yaml").read_bytes() == data


def test_fails_at_close(here: Mount) -> None:
    """`close` of an invalid document fails with EINVAL, and nothing is sent."""
    path = here.auths / "close.json"
    batches = Batches(here)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    assert os.write(fd, b'{"a"') == 4
    with refused(errno.EINVAL):
        os.fsync(fd)
    with refused(errno.EINVAL):
        os.close(fd)
    assert batches.sent() == []
    assert "auths/close.json: not sent: is not JSON (line 1" in here.log()


def test_stays_readable(mounts: Mounts) -> None:
    """Invalid bytes stay readable on this machine, and the backend keeps the last valid
    version.
    """
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", b'{"a": 1}')
    with refused(errno.EINVAL):
        write(one.auths / "a.json", b'{"a": ')
    one.sync()
    assert (one.auths / "a.json").read_bytes() == b'{"a": '
    assert (one.auths / "a.json").stat().st_size == 6
    shows(other.auths / "a.json", b'{"a": 1}')


def test_attributes_of_invalid(here: Mount) -> None:
    """`user.storefs.error` says why a document was not sent, else it is empty."""
    path = here.auths / "attributes.json"
    write(path, b"{}")
    assert (attribute(path, "state"), attribute(path, "error")) == ("synced", "")
    with refused(errno.EINVAL):
        write(path, b"{")
    assert attribute(path, "state") == "invalid"
    assert "not sent" in attribute(path, "error")


def test_made_valid(here: Mount) -> None:
    """Valid content written over invalid content is committed as ever."""
    path = here.auths / "made.json"
    with refused(errno.EINVAL):
        write(path, b'{"a": 1')
    with open(path, "ab", buffering=0) as file:
        file.write(b"}")
    assert (here.store / "auths/made.json").read_bytes() == b'{"a": 1}'
    assert attribute(path, "state") == "synced"
    with refused(errno.EINVAL):
        write(path, b'{"a": 1')
    write(path, b'{"a": 1}')
    assert path.read_bytes() == b'{"a": 1}'
    assert attribute(path, "state") == "synced"


def test_empty(here: Mount) -> None:
    """`close` of an empty document succeeds, and nothing is sent: empty is never a delete."""
    path, stored = here.auths / "empty.json", here.store / "auths/empty.json"
    write(path, b'{"a": 1}')
    batches = Batches(here)
    write(path, b"")
    subprocess.run(["sh", "-c", ': > "$1"', "sh", path], check=True)
    with open(path, "wb", buffering=0) as file:
        os.fsync(file.fileno())
    assert path.read_bytes() == b""
    assert attribute(path, "state") == "invalid"
    assert batches.sent() == []
    assert stored.read_bytes() == b'{"a": 1}'


def test_never_valid(mounts: Mounts) -> None:
    """A document that was never valid is on no other machine."""
    one, other = mounts("one"), mounts("other")
    batches = Batches(one)
    (one.auths / "touched.json").touch()
    os.mknod(one.auths / "made.json")
    write(one.auths / "empty.json", b"")
    with refused(errno.EINVAL):
        write(one.auths / "invalid.json", b"{")
    names = {"touched.json", "made.json", "empty.json", "invalid.json"}
    assert set(os.listdir(one.auths)) == names
    for name in names:
        assert attribute(one.auths / name, "state") == "invalid", name
    write(one.auths / "valid.json", b"{}")
    shows(other.auths / "valid.json", b"{}")
    assert os.listdir(other.auths) == ["valid.json"]
    assert batches.sent() == [[["put", "auths/valid.json"]]]


def test_empty_blocks_nothing(mounts: Mounts) -> None:
    """An empty document blocks nothing: changes from elsewhere still arrive."""
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", b'{"a": 1}')
    shows(other.auths / "a.json", b'{"a": 1}')
    subprocess.run(["sh", "-c", ': > "$1"', "sh", one.auths / "a.json"], check=True)
    (one.auths / "b.json").touch()
    with Watch(one.auths) as watch:
        write(other.auths / "a.json", b'{"a": 2}')
        watch.expect("MODIFY", "a.json")
        assert (one.auths / "a.json").read_bytes() == b'{"a": 2}'
        write(other.auths / "b.json", b'{"b": 2}')
        watch.expect("MODIFY", "b.json")
        assert (one.auths / "b.json").read_bytes() == b'{"b": 2}'
    assert one.kept("conflicts") == {}


def test_replaced_from_elsewhere(mounts: Mounts) -> None:
    """A change from elsewhere replaces invalid bytes, which are kept in `.storefs/conflicts/`."""
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", b'{"a": 1}')
    shows(other.auths / "a.json", b'{"a": 1}')
    with refused(errno.EINVAL):
        write(one.auths / "a.json", b'{"mine": ')
    with Watch(one.auths) as watch:
        write(other.auths / "a.json", b'{"a": 2}')
        watch.expect("MODIFY", "a.json")
    assert (one.auths / "a.json").read_bytes() == b'{"a": 2}'
    assert attribute(one.auths / "a.json", "state") == "synced"
    until(lambda: list(one.kept("conflicts").values()) == [b'{"mine": '], "the bytes are kept")


def test_after_a_restart(mounts: Mounts) -> None:
    """After a restart the last valid version shows again, and invalid bytes are in
    `.storefs/conflicts/`.
    """
    one = mounts("one")
    for name in ("a", "b"):
        write(one.auths / f"{name}.json", b'{"a": 1}')
    with refused(errno.EINVAL):
        write(one.auths / "a.json", b'{"a": ')
    with refused(errno.EINVAL):
        write(one.auths / "new.json", b'{"new": ')
    write(one.auths / "b.json", b"")
    assert one.stop() == 0
    one.start()
    assert sorted(os.listdir(one.auths)) == ["a.json", "b.json"]
    assert (one.auths / "a.json").read_bytes() == b'{"a": 1}'
    assert (one.auths / "b.json").read_bytes() == b'{"a": 1}'
    assert sorted(one.kept("conflicts").values()) == [b'{"a": ', b'{"new": ']


@pytest.mark.skipif(scaled(100) < 100, reason="waits 60 s: set STOREFS_TEST_SCALE=100")
def test_after_a_minute(mounts: Mounts) -> None:
    """60 seconds after the last handle is released the last valid version shows again, with an
    event, and invalid bytes are in `.storefs/conflicts/`.
    """
    one = mounts("one")
    for name in ("a", "b"):
        write(one.auths / f"{name}.json", b'{"a": 1}')
    with Watch(one.auths) as watch:
        with refused(errno.EINVAL):
            write(one.auths / "a.json", b'{"a": ')
        write(one.auths / "b.json", b"")
        (one.auths / "c.json").touch()
        watch.expect("CREATE", "c.json")
        until(lambda: one.kept("conflicts"), "it was given up", 120)
        expected = {("MODIFY", "a.json"), ("MODIFY", "b.json"), ("DELETE", "c.json")}
        for event in watch.events(30):
            expected.discard(event)
            if not expected:
                break
        assert not expected
    for name in ("a", "b"):
        assert (one.auths / f"{name}.json").read_bytes() == b'{"a": 1}'
        assert attribute(one.auths / f"{name}.json", "state") == "synced"
    assert not (one.auths / "c.json").exists()
    assert list(one.kept("conflicts").values()) == [b'{"a": ']


def test_too_long(here: Mount) -> None:
    """A write that makes a document longer than `--max-file-size` (16 MiB unless told) fails
    with EFBIG.
    """
    path, stored = here.auths / "long.json", here.store / "auths/long.json"
    fits = b'{"a": "' + b"x" * 4991 + b'"}'
    write(path, fits)
    assert stored.read_bytes() == fits
    with refused(errno.EFBIG):
        write(path, b" ", os.O_APPEND)
    with refused(errno.EFBIG):
        os.truncate(path, 5001)
    assert path.read_bytes() == fits
    with refused(errno.EFBIG):
        write(path, fits + b" ")
    write(here.auths / "long.tmp", fits + b" ")
    with refused(errno.EFBIG):
        os.rename(here.auths / "long.tmp", path)
    assert (here.auths / "long.tmp").read_bytes() == fits + b" "
    assert stored.read_bytes() == fits


def test_too_long_elsewhere(here: Mount) -> None:
    """A longer document of others is listed in the status as too large and is not shown."""
    (here.store / "auths/large.json").write_bytes(b'{"a": "' + b"x" * 5000 + b'"}')
    until(lambda: here.status()["too_large"] == ["auths/large.json"], "the status lists it")
    assert not (here.auths / "large.json").exists()
    (here.store / "auths/large.json").write_bytes(b"{}")
    shows(here.auths / "large.json", b"{}")
    assert here.status()["too_large"] == []
