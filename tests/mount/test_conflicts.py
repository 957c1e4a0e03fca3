"""Conflicts, and a backend that cannot be reached. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import attribute, refused, shows, write
from tests.mount.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

THEIRS = b'{"a": 1, "b": "theirs"}'


@pytest.fixture
def deaf(mounts: Mounts) -> Iterator[Mount]:
    """A machine that knows `auths/a.json`, but not what is in the store by now."""
    one = mounts("one", "--snapshot-interval", "3600", start=False)
    one.fault("wait.hang")
    (one.store / "auths").mkdir(parents=True)
    (one.store / "auths/a.json").write_bytes(b'{"a": 1}')
    with one:
        (one.store / "auths/a.json").write_bytes(THEIRS)
        assert (one.auths / "a.json").read_bytes() == b'{"a": 1}'
        yield one


@pytest.mark.parametrize("mine", [THEIRS, b'{ "b": "theirs",\n "a": 1 }'], ids=["bytes", "value"])
def test_same(deaf: Mount, mine: bytes) -> None:
    """A program that wrote the same bytes, or the same JSON value, as the other side has no
    conflict.
    """
    write(deaf.auths / "a.json", mine)
    shows(deaf.auths / "a.json", THEIRS)
    assert (deaf.store / "auths/a.json").read_bytes() == THEIRS
    assert deaf.kept("conflicts") == {}


def test_different(deaf: Mount) -> None:
    """Else the other side's version stands, `close` and `fsync` fail with ESTALE, and every later
    read shows that version.
    """
    with refused(errno.ESTALE):
        write(deaf.auths / "a.json", b'{"a": 1, "b": "mine"}')
    shows(deaf.auths / "a.json", THEIRS)
    assert (deaf.store / "auths/a.json").read_bytes() == THEIRS
    assert list(deaf.kept("conflicts").values()) == [b'{"a": 1, "b": "mine"}']
    assert attribute(deaf.auths / "a.json", "state") == "synced"
    write(deaf.auths / "a.json", b'{"a": 3, "b": 3}')
    assert (deaf.store / "auths/a.json").read_bytes() == b'{"a": 3, "b": 3}'


def test_merged(deaf: Mount) -> None:
    """Changes of different top-level keys of a token file, or of different lines of the config, are
    merged, and the merged version is shown with an event.
    """
    merged = b'{"a": 2, "b": "theirs"}'
    before = deaf.status()["raised"]
    write(deaf.auths / "a.json", b'{"a": 2}')
    until(lambda: deaf.status()["raised"] > before, "the event of the merged version is raised")
    shows(deaf.auths / "a.json", merged)
    assert (deaf.store / "auths/a.json").read_bytes() == merged
    assert deaf.kept("conflicts") == {}


def test_tokens(deaf: Mount) -> None:
    """Of tokens that both sides refreshed the newer ones stand, and the older version is kept in
    `.storefs/conflicts/`.
    """
    old, new = (
        b'{"access_token": "%d", "last_refresh": "2026-11-2%dT10:00:00Z"}' % (day, day)
        for day in (1, 2)
    )
    (deaf.store / "auths/a.json").write_bytes(new)
    write(deaf.auths / "a.json", old)
    shows(deaf.auths / "a.json", new)
    assert (deaf.store / "auths/a.json").read_bytes() == new
    assert list(deaf.kept("conflicts").values()) == [old]


def test_deleted_there(deaf: Mount) -> None:
    """A document that was edited here and deleted elsewhere stands, unless only its tokens were
    refreshed: then the delete stands.
    """
    (deaf.store / "auths/a.json").unlink()
    write(deaf.auths / "a.json", b'{"a": 2}')
    assert (deaf.store / "auths/a.json").read_bytes() == b'{"a": 2}'
    (deaf.store / "auths/a.json").unlink()
    with refused(errno.ESTALE):
        write(deaf.auths / "a.json", b'{"a": 2, "access_token": "new"}')
    until(lambda: not (deaf.auths / "a.json").exists(), "it is gone here too")
    assert list(deaf.kept("conflicts").values()) == [b'{"a": 2, "access_token": "new"}']


NAMES: dict[str, Callable[[Mount], object]] = {
    "unlink": lambda one: (one.auths / "a.json").unlink(),
    "onto": lambda one: os.rename(one.auths / "x.tmp", one.auths / "a.json"),
    "from": lambda one: os.rename(one.auths / "a.json", one.auths / "new.json"),
}


@pytest.mark.parametrize("call", NAMES.values(), ids=NAMES.keys())
def test_names(deaf: Mount, call: Callable[[Mount], object]) -> None:
    """`unlink` and `rename` that meet a conflict fail with EBUSY, and both names are as before."""
    write(deaf.auths / "x.tmp", b'{"a": 2}')
    with refused(errno.EBUSY):
        call(deaf)
    assert sorted(os.listdir(deaf.auths)) == ["a.json", "x.tmp"]
    assert (deaf.auths / "x.tmp").read_bytes() == b'{"a": 2}'
    assert (deaf.store / "auths/a.json").read_bytes() == THEIRS
    assert not (deaf.store / "auths/new.json").exists()
    shows(deaf.auths / "a.json", THEIRS)


def test_deleted_elsewhere_already(deaf: Mount) -> None:
    """`unlink` of a document that is deleted elsewhere already succeeds."""
    (deaf.store / "auths/a.json").unlink()
    (deaf.auths / "a.json").unlink()
    assert os.listdir(deaf.auths) == []


def test_unlink(mounts: Mounts) -> None:
    """`unlink` of a document commits the delete: it is gone from the backend when the call
    returns.
    """
    one = mounts("one")
    write(one.auths / "a.json", b"{}")
    (one.auths / "a.json").unlink()
    assert not (one.store / "auths/a.json").exists()
    assert one.commits()[-1] == [["delete", "auths/a.json"]]


def test_close_unreachable(mounts: Mounts) -> None:
    """With `--offline refuse`, `close` and `fsync` fail with EIO at the latest when the deadline
    has passed, the old version shows again, and the bytes are kept in `.storefs/conflicts/`.
    """
    one = mounts("one", "--deadline", "5", "--offline", "refuse")
    write(one.auths / "a.json", b'{"a": 1}')
    for number, kind in enumerate(("fail-before", "hang")):
        fault = one.fault(f"commit.{kind}")
        with refused(errno.EIO):
            write(one.auths / "a.json", b'{"mine": %d}' % number)
        shows(one.auths / "a.json", b'{"a": 1}')
        until(lambda: one.kept("conflicts"), "the bytes are kept")
        assert b'{"mine": %d}' % number in one.kept("conflicts").values()
        if kind == "fail-before":
            fault.unlink()
    assert (one.store / "auths/a.json").read_bytes() == b'{"a": 1}'
    fault.unlink()  # the call under way ends after all: what it did is looked at
    shows(one.auths / "a.json", b'{"mine": 1}')


@pytest.mark.parametrize("call", NAMES.values(), ids=NAMES.keys())
def test_names_unreachable(mounts: Mounts, call: Callable[[Mount], object]) -> None:
    """With `--offline refuse`, `unlink` and `rename` wait at most `--dir-wait` (2 seconds), then
    fail with EIO and change nothing.
    """
    one = mounts("one", "--offline", "refuse")
    write(one.auths / "a.json", b'{"a": 1}')
    write(one.auths / "x.tmp", b'{"a": 2}')
    fault = one.fault("commit.fail-before")
    with refused(errno.EIO):
        call(one)
    assert sorted(os.listdir(one.auths)) == ["a.json", "x.tmp"]
    assert (one.auths / "a.json").read_bytes() == b'{"a": 1}'
    assert (one.store / "auths/a.json").read_bytes() == b'{"a": 1}'
    fault.unlink()
    call(one)


def test_reading_goes_on(mounts: Mounts) -> None:
    """Reading goes on from this machine's mirror."""
    one = mounts("one")
    write(one.auths / "a.json", b'{"a": 1}')
    faults = [one.fault(f"{call}.fail-before") for call in ("commit", "read", "snapshot", "wait")]
    with refused(errno.EIO):
        one.sync()
    until(lambda: not one.status()["online"], "it is known to be away")
    assert (one.auths / "a.json").read_bytes() == b'{"a": 1}'
    assert os.listdir(one.auths) == ["a.json"]
    assert attribute(one.auths / "a.json", "state") == "synced"
    for fault in faults:
        fault.unlink()
    until(lambda: one.status()["online"], "it is back")
