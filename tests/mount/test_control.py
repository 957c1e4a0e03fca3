"""`.storefs/` and the extended attributes. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import attribute, one_mount, refused, shows, write
from tests.mount.harness import Mount, Watch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

PLACES = ("conflicts", "found", "trash")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("control"))


def conflict(one: Mount, other: Mount, name: str) -> bytes:
    """Make `one` lose against `other`; returns what lost."""
    write(one.auths / name, b'{"a": 1}')
    shows(other.auths / name, b'{"a": 1}')
    with open(one.auths / name, "r+b", buffering=0) as file:
        file.write(b'{"a": 2}')
        write(other.auths / name, b'{"a": 3}')
        with refused(errno.ESTALE):
            os.fsync(file.fileno())
    assert (one.auths / name).read_bytes() == b'{"a": 3}'
    return b'{"a": 2}'


def test_state(here: Mount) -> None:
    """`user.storefs.state` is `synced`, `pending`, `invalid` or `local`."""
    path = here.auths / "state.json"
    with open(path, "wb", buffering=0) as file:
        file.write(b"{}")
        assert attribute(path, "state") == "pending"
    assert attribute(path, "state") == "synced"
    with refused(errno.EINVAL):
        write(path, b"{")
    assert attribute(path, "state") == "invalid"
    write(here.auths / "state.tmp", b"")
    assert attribute(here.auths / "state.tmp", "state") == "local"
    assert attribute(here.config, "state") == "synced"


def test_revision(mounts: Mounts) -> None:
    """`user.storefs.revision` is the backend's revision of the document that this machine saw
    last.
    """
    one, other = mounts("one"), mounts("other")
    seen = []
    for value in (1, 2, 1):
        data = b'{"a": %d}' % value
        write(one.auths / "a.json", data)
        shows(other.auths / "a.json", data)
        seen.append(attribute(one.auths / "a.json", "revision"))
        assert attribute(other.auths / "a.json", "revision") == seen[-1]
    assert seen[0]
    assert seen[0] != seen[1]
    (one.auths / "new.json").touch()
    assert attribute(one.auths / "new.json", "revision") == ""


def test_no_other_attributes(here: Mount) -> None:
    """Any other extended attribute is absent, and setting one fails with EOPNOTSUPP."""
    names = {f"user.storefs.{name}" for name in ("state", "revision", "error")}
    write(here.auths / "attributes.json", b"{}")
    write(here.auths / "attributes.tmp", b"")
    for path in (here.auths / "attributes.json", here.auths / "attributes.tmp"):
        assert set(os.listxattr(path)) == names
        with refused(errno.ENODATA):
            os.getxattr(path, "user.other")
        for name in ("user.other", "user.storefs.state"):
            with refused(errno.EOPNOTSUPP):
                os.setxattr(path, name, b"x")
            with refused(errno.EOPNOTSUPP):
                os.removexattr(path, name)
    assert os.listxattr(here.auths) == []


def test_status(here: Mount) -> None:
    """`.storefs/status` is JSON about this mount and holds no secret and no content."""
    documents = here.status()["documents"]
    write(here.auths / "secret.json", b'{"access_token": "EXAMPLE-SECRET"}')
    status = here.status()
    assert status["documents"] == documents + 1
    assert status["mountpoint"] == str(here.path)
    assert status["root"] == str(here.root)
    assert status["backend"] == "local"
    assert status["online"] is True
    assert status["read_only"] is False
    assert isinstance(status["pid"], int)
    assert os.path.exists(status["log"])
    assert "EXAMPLE-SECRET" not in json.dumps(status)
    with open(here.path / ".storefs/status", "rb") as file:
        assert json.loads(file.read(10) + file.read())["mountpoint"] == str(here.path)


def test_metrics(here: Mount) -> None:
    """`.storefs/metrics` holds the numbers of the status as Prometheus text."""
    text = (here.path / ".storefs/metrics").read_text()
    lines = text.splitlines()
    values = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    kinds = [line for line in lines if line.startswith("# TYPE ")]
    assert len(kinds) == len(values)
    assert float(values["storefs_documents"]) == here.status()["documents"]
    assert values["storefs_online"] == "1"
    for value in values.values():
        float(value)


def test_sync(mounts: Mounts) -> None:
    """Writing `1` to `.storefs/sync` reconciles before the call returns; other words fail with
    EINVAL.
    """
    one = mounts("one")
    fault = one.fault("wait.hang")  # no hints: nothing but the snapshot tells
    (one.store / "auths").mkdir(exist_ok=True)
    for value in range(3):
        before = one.status()["last_in"]
        (one.store / "auths/a.json").write_bytes(b'{"a": %d}' % value)
        one.sync()
        assert one.status()["last_in"] != before
        shows(one.auths / "a.json", b'{"a": %d}' % value)
    for words in ("2", "please", "1 1", "accept"):
        with refused(errno.EINVAL):
            one.sync(words)
    one.sync("")
    one.sync("1\n")
    fault.unlink()


def test_copies(mounts: Mounts) -> None:
    """`.storefs/conflicts/`, `found/` and `trash/` list the copies that are kept, and no name
    there ends in `.json`.
    """
    one, other = mounts("one"), mounts("other")
    for place in PLACES:
        assert os.listdir(one.path / ".storefs" / place) == []
    lost = conflict(one, other, "a.json")
    write(one.auths / "notes.txt", b"mine")
    (one.store / "auths/notes.txt").write_bytes(b"theirs")
    shows(one.auths / "notes.txt", b"theirs")
    with Watch(one.auths) as watch:
        (other.auths / "a.json").unlink()
        watch.expect("DELETE", "a.json")
    for place, data in zip(PLACES, (lost, b"mine", b'{"a": 3}'), strict=True):
        directory = one.path / ".storefs" / place
        until(lambda directory=directory: os.listdir(directory), "a copy is kept")  # type: ignore[misc]
        copies = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
        assert data in copies.values()
        assert copies == one.kept(place)
        assert not any(name.endswith(".json") for name in copies)
        assert all(name.startswith("auths%2F") for name in copies)
    assert (one.status()["conflicts"], one.status()["found"]) == (1, 1)


def test_copies_are_read_and_unlinked(mounts: Mounts) -> None:
    """A kept copy can be read and unlinked, and never changed."""
    one, other = mounts("one"), mounts("other")
    lost = conflict(one, other, "a.json")
    (copy,) = (one.path / ".storefs/conflicts").iterdir()
    assert copy.read_bytes() == lost
    assert copy.stat().st_size == len(lost)
    for flags in (os.O_TRUNC, os.O_APPEND, 0):
        with refused(errno.EPERM):
            write(copy, b"x", flags)
    for change in (os.utime, lambda path: os.chmod(path, 0o644), lambda path: os.truncate(path, 0)):
        with refused(errno.EPERM):
            change(copy)
    with refused(errno.EPERM):
        os.rename(copy, one.auths / "a.tmp")
    with refused(errno.EPERM):
        write(copy.with_name("new"), b"x")
    assert copy.read_bytes() == lost
    copy.unlink()
    assert not copy.exists()
    assert one.kept("conflicts") == {}
    assert one.status()["conflicts"] == 0


def test_nothing_else(here: Mount) -> None:
    """Nothing else in `.storefs/` can be made, renamed or removed: EPERM."""
    control = here.path / ".storefs"
    names = {"status", "metrics", "sync", "ask", *PLACES}
    write(here.auths / "source.tmp", b"x")
    for name in names:
        with refused(errno.EPERM):
            (control / name).rename(control / "other")
        with refused(errno.EPERM):
            (control / name).rename(here.auths / "other")
        with refused(errno.EPERM):
            (control / name).rmdir() if name in PLACES else (control / name).unlink()
    for directory in (control, control / "conflicts"):
        with refused(errno.EPERM):
            write(directory / "new", b"x")
        with refused(errno.EPERM):
            (directory / "new").mkdir()
        with refused(errno.EPERM):
            os.rename(here.auths / "source.tmp", directory / "new")
    assert set(os.listdir(control)) == names
