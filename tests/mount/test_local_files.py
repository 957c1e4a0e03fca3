"""Everything that is no document lives on this machine. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import mmap
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import Batches, attribute, one_mount, refused, write
from tests.mount.harness import Mount, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

LOCAL = (
    "auths/a.json.tmp",
    "auths/a.JSON",
    "auths/.hidden.json",
    "auths/.cache/a.json",
    "auths/.oauth-codex-1.oauth",
    "auths/a.cds",
    "auths/.a.json.swp",
    "auths/logs/main.log",
    "auths/logs/request.json",
    "config/static/management.html",
    "config/static/data.json",
    "config/config-validate-1.yaml",
    "config/config.yml",
    "config/a.json",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("local"))


def test_which_are_local(here: Mount) -> None:
    """Every other file is a local file."""
    batches = Batches(here)
    for name in LOCAL:
        (here.path / name).parent.mkdir(exist_ok=True)
        write(here.path / name, b"neither JSON\nnor YAML: [")
        assert attribute(here.path / name, "state") == "local", name
    assert batches.sent() == []


def test_never_leaves(mounts: Mounts) -> None:
    """A local file never leaves the machine."""
    one, other = mounts("one"), mounts("other")
    with Watch(other.auths) as watch:
        for name in LOCAL:
            (one.path / name).parent.mkdir(exist_ok=True)
            write(one.path / name, b"{}")
        one.sync()
        write(one.auths / "z.json", b"{}")
        watch.expect("CREATE", "z.json")
    kept = [file for file in one.store.rglob("*") if file.is_file()]
    assert {str(file.relative_to(one.store)) for file in kept} >= {"auths/z.json"}
    for name in LOCAL:
        assert one.store / name not in kept
        assert not (other.path / name).exists()


def test_an_empty_directory(mounts: Mounts) -> None:
    """An empty directory is local: no other machine sees it."""
    one, other = mounts("one"), mounts("other")
    (one.auths / "empty").mkdir()
    (one.auths / "team").mkdir()
    with Watch(other.auths) as watch:
        write(one.auths / "team" / "a.json", b"{}")
        watch.expect("CREATE", "team")
    assert os.listdir(other.auths) == ["team"]


def test_append_cut_large_holes(here: Mount) -> None:
    """A local file is as on any disk: it can be appended to, cut, have holes, be of any length,
    and be written through a memory map.
    """
    path = here.auths / "any.log"
    for number in range(200):
        write(path, b"line %d\n" % number, os.O_CREAT | os.O_APPEND)
    expected = b"".join(b"line %d\n" % number for number in range(200))
    assert path.read_bytes() == expected
    os.truncate(path, 7)
    assert path.read_bytes() == b"line 0\n"
    with open(path, "r+b") as file:
        file.seek(50 << 20)
        file.write(b"end")
        file.flush()
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[100:103] = b"map"
    assert path.stat().st_size == (50 << 20) + 3
    with open(path, "rb") as file:
        assert file.read(200) == b"line 0\n" + bytes(93) + b"map" + bytes(97)
        file.seek(-6, os.SEEK_END)
        assert file.read() == bytes(3) + b"end"
    data = os.urandom(1 << 20) * 20
    write_all(path, data)
    assert path.read_bytes() == data


def write_all(path: os.PathLike[str], data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def test_directories(here: Mount) -> None:
    """Directories of local files can be made, renamed and removed."""
    base = here.auths / "logs" / "deep"
    base.mkdir(parents=True, exist_ok=True)
    write(base / "a.log", b"a")
    with refused(errno.ENOTEMPTY):
        base.rmdir()
    with refused(errno.EEXIST):
        base.mkdir()
    base.rename(here.auths / "logs" / "other")
    assert not base.exists()
    assert (here.auths / "logs/other/a.log").read_bytes() == b"a"
    write(here.auths / "logs/other/a.log", b"b")
    (here.auths / "logs/other/a.log").unlink()
    (here.auths / "logs/other").rmdir()
    assert "other" not in os.listdir(here.auths / "logs")
    with refused(errno.ENOENT):
        (here.auths / "logs/other").rmdir()


def test_rename_over_directories(here: Mount) -> None:
    """Directories of local files can be made, renamed and removed."""
    base = here.path / "config" / "static"
    for name in ("one", "two", "full"):
        (base / name).mkdir(parents=True)
    write(base / "full" / "file", b"x")
    with refused(errno.ENOTEMPTY):
        os.rename(base / "one", base / "full")
    os.rename(base / "full", base / "two")
    assert (base / "two" / "file").read_bytes() == b"x"
    with refused(errno.EISDIR):
        os.rename(base / "two" / "file", base / "one")
    with refused(errno.ENOTDIR):
        os.rename(base / "one", base / "two" / "file")
    with refused(errno.EINVAL):
        os.rename(base / "two", base / "two" / "inside")


def test_mode_and_times(mounts: Mounts) -> None:
    """Mode and times that a program gives to a local file are kept."""
    one = mounts("one")
    path = one.auths / "kept.txt"
    write(path, b"kept")
    path.chmod(0o640)
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    os.chown(path, os.getuid(), os.getgid())
    script = one.auths / "run.sh"
    write(script, b"#!/bin/sh\n")
    script.chmod(0o400)
    one.stop()
    one.start()
    info = path.stat()
    assert (info.st_mode & 0o7777, info.st_mtime_ns) == (0o640, 1_400_000_000_987_654_321)
    assert script.stat().st_mode & 0o7777 == 0o400
    assert script.read_bytes() == b"#!/bin/sh\n"


def test_database(here: Mount) -> None:
    """A database with its locks and its journal works in a local file."""
    path = here.auths / "state.db"
    for mode in ("delete", "wal"):
        with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path)) as other:
            one.execute(f"pragma journal_mode = {mode}")
            one.execute("create table if not exists t (x)")
            with one:
                one.executemany("insert into t values (?)", [(n,) for n in range(500)])
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("pragma busy_timeout = 0").execute("begin immediate")
            assert other.execute("select count(*) from t").fetchone()[0] in (500, 1000)
            assert other.execute("pragma integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("select count(*) from t").fetchone() == (1000,)


def test_renamed_while_open(here: Mount) -> None:
    """A local file that is renamed or unlinked while it is open goes on as on any disk."""
    old, new = here.auths / "main.log", here.auths / "main.log.1"
    write(new, b"replaced")
    with open(old, "wb", buffering=0) as file, open(new, "rb") as replaced:
        file.write(b"one ")
        os.rename(old, new)
        write(old, b"fresh")
        file.write(b"two")
        assert new.read_bytes() == b"one two"
        assert replaced.read() == b"replaced"
        assert old.read_bytes() == b"fresh"
        new.unlink()
        file.write(b" three")
        assert os.fstat(file.fileno()).st_size == 13
        assert not new.exists()
        os.fsync(file.fileno())


def test_unlinked_while_open(here: Mount) -> None:
    """A local file that is renamed or unlinked while it is open goes on as on any disk."""
    path = here.auths / "gone.tmp"
    write(path, b"one")
    with open(path, "r+b", buffering=0) as file:
        path.unlink()
        write(path, b"other")
        file.seek(0, os.SEEK_END)
        file.write(b" two")
        file.seek(0)
        assert file.read() == b"one two"
    assert path.read_bytes() == b"other"


def test_after_a_restart(mounts: Mounts) -> None:
    """A local file and its directory are there again after a restart."""
    one = mounts("one")
    (one.auths / "logs" / "deep").mkdir(parents=True)
    (one.auths / "empty").mkdir()
    write(one.auths / "logs" / "deep" / "a.log", b"a" * 100_000)
    write(one.path / "config" / "note", b"")
    write(one.auths / "a.json", b"{}")
    before = listing(one)
    one.stop()
    one.start()
    assert listing(one) == before
    assert (one.auths / "logs" / "deep" / "a.log").read_bytes() == b"a" * 100_000
    one.kill()
    one.start()
    assert listing(one) == before


def listing(mount: Mount) -> list[str]:
    tops = (mount.auths, mount.path / "config")
    return sorted(str(file) for top in tops for file in top.rglob("*"))


def test_name_taken(mounts: Mounts) -> None:
    """A local file whose name appears in the backend moves to `.storefs/found/`."""
    one = mounts("one")
    path = one.auths / "notes.txt"
    write(path, b"mine")
    (one.store / "auths").mkdir(exist_ok=True)
    with Watch(one.auths) as watch, open(path, "rb", buffering=0) as file:
        (one.store / "auths/notes.txt").write_bytes(b"theirs")
        watch.expect("MODIFY", "notes.txt")
        assert file.read() == b"theirs"
    assert path.read_bytes() == b"theirs"
    assert attribute(path, "state") == "synced"
    assert list(one.kept("found").values()) == [b"mine"]
