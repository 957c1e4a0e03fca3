"""Each machine reads its own `auth-dir` in the one config. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import Batches, attribute, shows, write
from tests.mount.harness import Mount, Watch, until
from tests.mount.standin_files import read_file
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

WITH_KEY = b"""\
# shared by all
host: ""   # everywhere
auth-dir: '~/.tokens'   # moved per machine
api-keys:
  - "EXAMPLE"
"""
WITHOUT_KEY = b'host: ""\napi-keys: ["EXAMPLE"]\n'


def shown(mount: Mount, stored: bytes) -> bytes:
    """What the mount must show of these two configs."""
    path = f'"{mount.auths}"'.encode()
    if b"auth-dir" in stored:
        return stored.replace(b"'~/.tokens'", path)
    return stored + b"auth-dir: " + path + b"\n"


def seeded(mounts: Mounts, stored: bytes, *options: str) -> Mount:
    """A machine that finds this config in the store."""
    mount = mounts("one", *options, start=False)
    (mount.store / "config").mkdir(parents=True)
    (mount.store / "config/config.yaml").write_bytes(stored)
    return mount


def in_store(mount: Mount) -> bytes:
    return (mount.store / "config/config.yaml").read_bytes()


@pytest.mark.parametrize("stored", [WITH_KEY, WITH_KEY.replace(b"\n", b"\r\n")], ids=["lf", "crlf"])
def test_shown(mounts: Mounts, stored: bytes) -> None:
    """Reading the config shows `<mountpoint>/auths` as its top-level `auth-dir`, whatever is
    stored.
    """
    with seeded(mounts, stored) as one:
        other = mounts("other")
        for mount in (one, other):
            assert mount.config.read_bytes() == shown(mount, stored)
            assert mount.config.stat().st_size == len(shown(mount, stored))
            assert mount.status()["warnings"] == []
        assert (one.root / "config/config.yaml").read_bytes() == stored


def test_written_back(mounts: Mounts) -> None:
    """Writing the shown `auth-dir` back stores what was there before, byte for byte."""
    with seeded(mounts, WITH_KEY) as one:
        changed = WITH_KEY.replace(b'host: ""', b'host: "127.0.0.1"')
        write(one.config, shown(one, changed))
        assert in_store(one) == changed
        assert one.config.read_bytes() == shown(one, changed)
        with open(one.config, "ab") as file:
            file.write(b"port: 1\n")
        assert in_store(one) == changed + b"port: 1\n"
        write(one.config.with_name("new"), shown(one, WITH_KEY))
        os.rename(one.config.with_name("new"), one.config)
        assert in_store(one) == WITH_KEY
        assert one.config.read_bytes() == shown(one, WITH_KEY)


def test_quoted_otherwise(mounts: Mounts) -> None:
    """Writing the shown `auth-dir` back stores what was there before, byte for byte."""
    with seeded(mounts, WITH_KEY) as one:
        plain = WITH_KEY.replace(b"'~/.tokens'", str(one.auths).encode())
        write(one.config, plain)
        assert in_store(one) == WITH_KEY
        shows(one.config, shown(one, WITH_KEY))


def test_without_the_key(mounts: Mounts) -> None:
    """A config without the key shows it as an added last line, which is taken off again on the
    way back.
    """
    with seeded(mounts, WITHOUT_KEY) as one:
        assert one.config.read_bytes() == shown(one, WITHOUT_KEY)
        write(one.config, b"port: 1\n" + shown(one, WITHOUT_KEY))
        assert in_store(one) == b"port: 1\n" + WITHOUT_KEY
        write(one.config, WITHOUT_KEY)
        assert in_store(one) == WITHOUT_KEY
        shows(one.config, shown(one, WITHOUT_KEY))


def test_another_value(mounts: Mounts) -> None:
    """Another value that a program writes as `auth-dir` is stored, and this machine's shows
    again.
    """
    with seeded(mounts, WITH_KEY) as one, Watch(one.config) as watch:
        other = WITH_KEY.replace(b"'~/.tokens'", b'"/srv/tokens"')
        write(one.config, other)
        assert in_store(one) == other
        shows(one.config, shown(one, WITH_KEY))
        watch.expect("MODIFY")


def test_the_store_stays(mounts: Mounts) -> None:
    """Reading never changes a byte of the store, and neither does writing back what was read."""
    with seeded(mounts, WITH_KEY) as one:
        batches = Batches(one)
        for _ in range(3):
            write(one.config, one.config.read_bytes())
        with open(one.config, "r+b") as file:
            data = file.read()
            file.seek(0)
            file.write(data)
        assert batches.sent() == []
        assert in_store(one) == WITH_KEY
        assert one.config.read_bytes() == shown(one, WITH_KEY)
        assert attribute(one.config, "state") == "synced"


def test_no_view(mounts: Mounts) -> None:
    """A config of which no such view can be made is shown unchanged, with a warning in the log
    and in the status.
    """
    flow = b'{host: "", auth-dir: "/a", api-keys: ["EXAMPLE"]}\n'
    with seeded(mounts, flow) as one:
        assert one.config.read_bytes() == flow
        assert [said.partition(":")[0] for said in one.status()["warnings"]] == [
            "auth-dir is shown as stored"
        ]
        assert one.log().count("shown without this machine's auth-dir") == 1
        write(one.config, flow.replace(b"/a", b"/b"))
        assert in_store(one) == flow.replace(b"/a", b"/b")
        write(one.config, WITH_KEY)
        shows(one.config, shown(one, WITH_KEY))
        assert one.status()["warnings"] == []


def test_keep(mounts: Mounts) -> None:
    """`--auth-dir keep` shows what is stored."""
    with seeded(mounts, WITH_KEY, "--auth-dir", "keep") as one:
        assert one.config.read_bytes() == WITH_KEY
        write(one.config, WITHOUT_KEY)
        assert in_store(one) == WITHOUT_KEY
        assert one.config.read_bytes() == WITHOUT_KEY


def test_path(mounts: Mounts) -> None:
    """`--auth-dir PATH` shows that path."""
    with seeded(mounts, WITH_KEY, "--auth-dir", "/inside/the container") as one:
        here = WITH_KEY.replace(b"'~/.tokens'", b'"/inside/the container"')
        assert one.config.read_bytes() == here
        write(one.config, here + b"port: 1\n")
        assert in_store(one) == WITH_KEY + b"port: 1\n"


def test_changed_elsewhere(mounts: Mounts) -> None:
    """Nothing but the value of `auth-dir` differs between what is shown and what is stored."""
    with seeded(mounts, WITH_KEY) as one:
        other = mounts("other")
        changed = WITH_KEY + b"port: 1\n"
        with Watch(other.config) as watch:
            write(one.config, shown(one, changed))
            watch.expect("MODIFY")
            assert other.config.read_bytes() == shown(other, changed)
            assert other.config.stat().st_size == len(shown(other, changed))
        assert in_store(one) == changed
        assert other.commits() == []


def test_never_cut(mounts: Mounts) -> None:
    """Where what is shown differs from what was written, the written bytes stay until the shown
    ones replace them, with an event, and no reader gets a cut file.
    """
    with seeded(mounts, WITHOUT_KEY) as one:
        for turn in range(scaled(200)):
            written = WITHOUT_KEY + b"# %d\n" % turn * (1 + turn % 7)
            if turn % 2:
                write(one.config, written)
            else:
                write(one.config.with_name("new"), written)
                os.rename(one.config.with_name("new"), one.config)
            seen, sizes = read_until(one, shown(one, written))
            assert seen <= {written, shown(one, written)}
            assert sizes <= {len(written), len(shown(one, written))}


def test_shown_with_an_event(mounts: Mounts) -> None:
    """Where what is shown differs from what was written, the written bytes stay until the shown
    ones replace them, with an event, and no reader gets a cut file.
    """
    with seeded(mounts, WITHOUT_KEY) as one:
        write(one.config.with_name("new"), WITHOUT_KEY + b"# new\n")
        with Watch(one.path / "config") as watch:
            os.rename(one.config.with_name("new"), one.config)
            watch.expect("MOVED_TO", "config.yaml")
            watch.expect("MODIFY", "config.yaml")
            assert one.config.read_bytes() == shown(one, WITHOUT_KEY + b"# new\n")


def read_until(mount: Mount, last: bytes) -> tuple[set[bytes], set[int]]:
    """Everything that programs saw until they saw `last`: contents and sizes."""
    seen: set[bytes] = set()
    sizes: set[int] = set()
    ended = threading.Event()

    def stat() -> None:
        while not ended.is_set():
            sizes.add(mount.config.stat().st_size)

    def read() -> bool:
        seen.add(read_file(str(mount.config)))
        return last in seen

    other = threading.Thread(target=stat)
    other.start()
    try:
        until(read, f"{last!r} is shown")
    finally:
        ended.set()
        other.join()
    return seen, sizes
