"""Rename, between local and document names. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import (
    Batches,
    attribute,
    one_mount,
    shows,
    write,
)
from tests.mount.harness import Mount, Watch, until
from tests.mount.standin_files import read_file
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("rename"))


def test_local_to_document(here: Mount) -> None:
    """`rename` of a local file onto a document name is one commit of what the file holds at that
    moment.
    """
    path, temporary = here.auths / "onto.json", here.auths / "onto.json.tmp"
    batches = Batches(here)
    for data in (b'{"a": 1}', b'{"a": 2}\r\n'):
        write(temporary, data)
        os.rename(temporary, path)
        assert (here.store / "auths/onto.json").read_bytes() == data
        assert path.read_bytes() == data
        assert attribute(path, "state") == "synced"
        assert not temporary.exists()
    assert batches.sent() == [[["put", "auths/onto.json"]]] * 2


def test_local_to_document_of_equal_bytes(here: Mount) -> None:
    """There is no commit if the bytes equal those that the backend has."""
    write(here.auths / "same.json", b'{"a": 1}')
    write(here.auths / "same.tmp", b'{"a": 1}')
    batches = Batches(here)
    os.rename(here.auths / "same.tmp", here.auths / "same.json")
    assert batches.sent() == []
    assert (here.auths / "same.json").read_bytes() == b'{"a": 1}'
    assert "same.tmp" not in os.listdir(here.auths)


def test_document_to_document(here: Mount) -> None:
    """`rename` of a document to another document name is one commit: a put of the new name and a
    delete of the old.
    """
    (here.auths / "team").mkdir()
    write(here.auths / "old.json", b'{"a": 1}')
    write(here.auths / "replaced.json", b'{"b": 1}')
    ino = (here.auths / "old.json").stat().st_ino
    batches = Batches(here)
    os.rename(here.auths / "old.json", here.auths / "new.json")
    os.rename(here.auths / "new.json", here.auths / "team/moved.json")
    os.rename(here.auths / "team/moved.json", here.auths / "replaced.json")
    steps = [("old", "new"), ("new", "team/moved"), ("team/moved", "replaced")]
    assert batches.sent() == [
        [["put", f"auths/{new}.json"], ["delete", f"auths/{old}.json"]] for old, new in steps
    ]
    assert (here.auths / "replaced.json").read_bytes() == b'{"a": 1}'
    assert (here.auths / "replaced.json").stat().st_ino == ino
    assert (here.store / "auths/replaced.json").read_bytes() == b'{"a": 1}'
    for name in ("old.json", "new.json", "team/moved.json"):
        assert not (here.auths / name).exists()
        assert not (here.store / "auths" / name).exists()


def test_one_step(here: Mount) -> None:
    """`rename` replaces in one step: a reader sees the old document or the new one, whole."""
    path, temporary = here.auths / "step.json", here.auths / "step.tmp"
    versions = [b'{"v": "%s"}' % (b"%d" % digit * length) for digit, length in ((1, 9), (2, 9000))]
    write(path, versions[0])
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.add(read_file(str(path)))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for turn in range(scaled(1000)):
            write(temporary, versions[turn % 2])
            os.rename(temporary, path)
    finally:
        ended.set()
        reader.join()
    assert seen <= set(versions)


def test_document_to_local(here: Mount) -> None:
    """`rename` of a document to a local name is a delete that is held back for 2 seconds."""
    for attempt in range(5):  # again where the machine was too slow to look within 2 seconds
        path = here.auths / f"held{attempt}.json"
        backup, stored = path.with_suffix(".bak"), here.store / "auths" / path.name
        write(path, b'{"a": 1}')
        batches, began = Batches(here), time.monotonic()
        os.rename(path, backup)
        here.sync()
        still, sent = stored.exists(), batches.sent()
        if time.monotonic() - began < 1.9:
            break
    assert still
    assert sent == []
    assert not path.exists()
    assert backup.read_bytes() == b'{"a": 1}'
    assert attribute(backup, "state") == "local"
    until(lambda: not stored.exists(), "the delete goes out")
    assert batches.sent() == [[["delete", f"auths/{path.name}"]]]
    assert backup.read_bytes() == b'{"a": 1}'
    here.sync()
    assert not path.exists()


def replaced_as_vim_does(path: Path, data: bytes) -> None:
    backup = path.with_name(f"{path.name}~")
    os.rename(path, backup)
    write(path, data, os.O_CREAT | os.O_EXCL)
    backup.unlink()


def test_backup_and_new(mounts: Mounts) -> None:
    """If the name returns within that time, both become one put, and the document is never
    deleted.
    """
    one, other = mounts("one"), mounts("other")
    write(one.auths / "a.json", b'{"a": 1}')
    shows(other.auths / "a.json", b'{"a": 1}')
    batches = Batches(one)
    with Watch(other.auths) as watch:
        replaced_as_vim_does(one.auths / "a.json", b'{"a": 2}')
        assert (one.store / "auths/a.json").read_bytes() == b'{"a": 2}'
        os.rename(one.auths / "a.json", one.auths / "a.bak")
        os.rename(one.auths / "a.bak", one.auths / "a.json")
        assert (one.auths / "a.json").read_bytes() == b'{"a": 2}'
        # Held back later than both, and gone: so nothing of them is still to come.
        write(one.auths / "end.json", b"{}")
        os.rename(one.auths / "end.json", one.auths / "end.bak")
        watch.expect("DELETE", "end.json")
    assert other.auths.joinpath("a.json").read_bytes() == b'{"a": 2}'
    assert [batch for batch in batches.sent() if batch != [["put", "auths/end.json"]]] == [
        [["put", "auths/a.json"]],
        [["delete", "auths/end.json"]],
    ]


def test_crash_undoes(mounts: Mounts) -> None:
    """A crash in that time undoes the delete."""
    one = mounts("one")
    write(one.auths / "a.json", b'{"a": 1}')
    os.rename(one.auths / "a.json", one.auths / "a.bak")
    one.kill()
    one.start()
    assert (one.auths / "a.json").read_bytes() == b'{"a": 1}'
    assert (one.auths / "a.bak").read_bytes() == b'{"a": 1}'
    assert (one.store / "auths/a.json").read_bytes() == b'{"a": 1}'


def test_open_while_renamed(here: Mount) -> None:
    """A file that is open while it is renamed onto a document name goes on as that document."""
    path, temporary = here.auths / "going.json", here.auths / "going.tmp"
    with open(temporary, "w+b", buffering=0) as file:
        file.write(b'{"a": 1}')
        os.rename(temporary, path)
        assert (here.store / "auths/going.json").read_bytes() == b'{"a": 1}'
        file.write(b"\n")
        assert path.read_bytes() == b'{"a": 1}\n'
        file.seek(0)
        assert file.read() == b'{"a": 1}\n'
    assert (here.store / "auths/going.json").read_bytes() == b'{"a": 1}\n'


@pytest.mark.parametrize("source", ["during.tmp", "during-old.json"])
def test_written_while_renamed(here: Mount, source: str) -> None:
    """A file that is open while it is renamed onto a document name goes on as that document."""
    path, temporary = here.auths / "during.json", here.auths / source
    write(temporary, b'{"a": 1}')
    fault = here.fault("commit.slow", "0.5")
    with open(temporary, "r+b", buffering=0) as file:
        batches = Batches(here)
        renaming = threading.Thread(target=os.rename, args=(temporary, path))
        renaming.start()
        try:
            until(batches.sent, "the rename is on its way")
            file.seek(0, os.SEEK_END)
            file.write(b"\n\n")
            renaming.join()
        finally:
            fault.unlink()
        assert path.read_bytes() == b'{"a": 1}\n\n'
    assert path.read_bytes() == b'{"a": 1}\n\n'
    until(
        lambda: (here.store / "auths/during.json").read_bytes() == b'{"a": 1}\n\n',
        "all of it is committed",
    )


def test_config_replaced(mounts: Mounts) -> None:
    """`rename` onto `config/config.yaml` succeeds with a warning in the log and in the status:
    programs that watch the old file are deaf from then on.
    """
    one = mounts("one")
    assert one.status()["warnings"] == []
    for value in (1, 2):
        write(one.config.with_name("new.yaml"), b"a: %d\n" % value)
        os.rename(one.config.with_name("new.yaml"), one.config)
        assert (one.store / "config/config.yaml").read_bytes() == b"a: %d\n" % value
    assert [said.partition(":")[0] for said in one.status()["warnings"]] == ["config replaced"]
    assert one.log().count("config/config.yaml was replaced by a rename") == 1
    one.stop()
    one.start()
    assert one.status()["warnings"] == []


def test_config_rewritten_after(mounts: Mounts) -> None:
    """The version of the config that the next rewrite replaces after such a rename is kept in
    `.storefs/conflicts/`.
    """
    one = mounts("one")
    write(one.config, b"a: 1\n")
    assert one.kept("conflicts") == {}
    write(one.config.with_name("new.yaml"), b"a: 2\n")
    os.rename(one.config.with_name("new.yaml"), one.config)
    for value in (3, 4):
        write(one.config, b"a: %d\n" % value)
    until(lambda: list(one.kept("conflicts").values()) == [b"a: 2\n"], "the version is kept")
