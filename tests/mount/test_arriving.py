"""Where a document from elsewhere meets a name of this machine, or has no place of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, Watch, environment, until
from tests.mount.remote import LONG, Remote, believed, credential, settled, tree
from tests.mount.standin_client import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    remote = Remote(tmp_path / "store")
    remote.seed("a.json", "b.json")
    return remote


def test_a_directory_arrives_with_its_documents(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here")
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        remote.replace("auths/team/x.json", credential(1))
        watch.expect("CREATE", "team")
        until(lambda: (here.auths / "team/x.json").exists(), "the document in it")
        with Watch(here.auths / "team") as inside:
            remote.replace("auths/team/x.json", credential(2))
            inside.expect("MODIFY", "x.json")
            remote.replace("auths/team/y.json", credential(3))
            inside.expect("CREATE", "y.json")
            assert (here.auths / "team/y.json").read_bytes() == credential(3)
            remote.delete("auths/team/x.json")
            inside.expect("DELETE", "x.json")
        remote.replace("auths/one/two/three/deep.json", credential(4))
        watch.expect("CREATE", "one")
        settled(here)
        believed(standin, here)
    remote.delete("auths/team/y.json")
    until(lambda: os.listdir(here.auths / "team") == [], "the last one is gone")
    (here.auths / "team").rmdir()  # an empty directory is this machine's own
    assert here.commits() == []


def test_hidden_names_and_local_trees_do_not_arrive(mounts: Mounts, remote: Remote) -> None:
    hidden = ["auths/.x.json", "auths/.git/y.json", "auths/logs/z.json", "config/static/w.json"]
    for path in hidden[:2]:
        remote.write(path, credential(5))
    here = mounts("here")
    for path in hidden[2:]:
        remote.write(path, credential(5))
    remote.write("stranger/v.json", credential(5))
    with Watch(here.auths) as watch:
        remote.write("auths/last.json", credential(6))
        assert next(watch.events(LONG)) == ("CREATE", "last.json")
    here.sync()
    assert sorted(os.listdir(here.auths)) == ["a.json", "b.json", "last.json"]
    assert os.listdir(here.path / "config") == ["config.yaml"]
    (here.auths / ".x.json").write_bytes(b"mine")  # stays here, and there is no conflict
    assert (here.auths / ".x.json").read_bytes() == b"mine"
    assert (remote.store / "auths/.x.json").read_bytes() == credential(5)
    assert here.commits() == []


def test_foreign_documents_are_bytes_and_travel_both_ways(mounts: Mounts, remote: Remote) -> None:
    remote.write("auths/old.txt", b"\xff\x00 not JSON")
    here = mounts("here")
    with Watch(here.auths) as watch, Watch(here.path / "config") as beside:
        assert (here.auths / "old.txt").read_bytes() == b"\xff\x00 not JSON"
        remote.replace("auths/new.bin", bytes(range(256)))
        watch.expect("CREATE", "new.bin")
        remote.replace("config/extra.yaml", b"a: [\n")
        beside.expect("CREATE", "extra.yaml")
    (here.auths / "old.txt").write_bytes(b"\xfe")
    (here.auths / "new.bin").unlink()
    (here.auths / "mine.txt").write_bytes(b"local")
    assert (remote.store / "auths/old.txt").read_bytes() == b"\xfe"
    assert not remote.has("auths/new.bin")
    assert not remote.has("auths/mine.txt")
    assert here.commits() == [[["put", "auths/old.txt"]], [["delete", "auths/new.bin"]]]


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_a_local_file_makes_way(mounts: Mounts, remote: Remote, is_open: bool) -> None:
    here = mounts("here")
    file = here.auths / "notes.txt"
    file.write_bytes(b"what this machine wrote")
    inode = file.stat().st_ino
    fd = os.open(file, os.O_RDONLY) if is_open else -1
    with Watch(here.auths) as watch:
        remote.replace("auths/notes.txt", b"what the others wrote")
        watch.expect("MODIFY", "notes.txt")
        assert file.read_bytes() == b"what the others wrote"
    if is_open:
        assert os.pread(fd, 100, 0) == b"what the others wrote"
        os.close(fd)
    assert file.stat().st_ino == inode
    until(lambda: here.status()["found"] == 1, "the local file is kept")
    assert [*here.kept("found").values()] == [b"what this machine wrote"]
    [name] = os.listdir(here.path / ".storefs/found")
    assert (here.path / ".storefs/found" / name).read_bytes() == b"what this machine wrote"
    assert "the local file moved to found/" in here.log()
    settled(here)
    assert here.commits() == []


def test_a_directory_in_the_way_stays_until_it_goes(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here", start=False)
    with here:
        (here.auths / "x.json").mkdir()
        (here.auths / "x.json/inside.txt").write_bytes(b"local")
        (here.auths / "team").write_bytes(b"a local file, and no directory")
        remote.replace("auths/x.json", credential(7))
        remote.replace("auths/team/y.json", credential(8))
        blocked = ["auths/team/y.json", "auths/x.json"]
        until(lambda: here.status()["skipped"] == blocked, "both are left out", LONG)
        assert (here.auths / "x.json/inside.txt").read_bytes() == b"local"
        assert (here.auths / "team").read_bytes() == b"a local file, and no directory"
        here.sync()
        assert here.log().count("'auths/x.json' is not shown") == 1
        (here.auths / "x.json/inside.txt").unlink()
        (here.auths / "x.json").rmdir()
        (here.auths / "team").unlink()
        here.sync()
        settled(here)
        assert here.status()["skipped"] == []
    assert here.commits() == []


def test_what_is_in_the_way_is_left_out_at_the_start_too(mounts: Mounts, remote: Remote) -> None:
    here = mounts("here", start=False)
    with here:
        (here.auths / "x.json").mkdir()
        (here.auths / "x.json/inside.txt").write_bytes(b"local")
        (here.auths / "team").write_bytes(b"a local file, and no directory")
        (here.auths / "notes.txt").write_bytes(b"local")
    remote.replace("auths/x.json", credential(7))
    remote.replace("auths/team/y.json", credential(8))
    remote.replace("auths/notes.txt", b"the others'")
    with here:
        assert set(os.listdir(here.auths)) == {"a.json", "b.json", "notes.txt", "team", "x.json"}
        assert here.status()["skipped"] == ["auths/team/y.json", "auths/x.json"]
        assert (here.auths / "x.json/inside.txt").read_bytes() == b"local"
        assert (here.auths / "team").read_bytes() == b"a local file, and no directory"
        assert (here.auths / "notes.txt").read_bytes() == b"the others'"
        assert [*here.kept("found").values()] == [b"local"]
    assert here.commits() == []


@contextmanager
def memory_mount(base: Path) -> Iterator[tuple[Mount, Callable[..., None]]]:
    """A mount over a memory backend, and what changes that backend as another machine."""
    mount = Mount(base, base / "unused")
    words = ["mount", str(mount.path), "--foreground", "--backend", "memory"]
    with open(base / "stdout", "wb") as out, open(base / "stderr", "wb") as err:
        mount.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mount.memory_mount", *words, "--mirror", str(mount.root)],
            env=environment(mount.home), cwd=mount.home, stdin=subprocess.PIPE, stdout=out,
            stderr=err,
        )  # fmt: skip
    pipe = mount.process.stdin
    assert pipe is not None

    def tell(*changes: tuple[str, str | None]) -> None:
        pipe.write(json.dumps(changes).encode() + b"\n")
        pipe.flush()

    try:
        until(lambda: b"is mounted" in (base / "stdout").read_bytes(), f"mounted {mount.log()}", 60)
        yield mount, tell
        assert mount.stop() == 0
    finally:
        if mount.process is not None:
            mount.kill()
        mount.clear()
        pipe.close()


def test_a_file_wins_over_deeper_names(tmp_path: Path) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with memory_mount(tmp_path / "here") as (mount, tell):
        tell(("auths/a.json", "{}"), ("auths/a.json/b.json", "{}"), ("auths/c.json/d.json", "{}"))
        shown = {"a.json": b"{}", "c.json/d.json": b"{}"}
        until(lambda: tree(mount.auths) == shown, "the file, and what is below no file")
        assert mount.status()["skipped"] == ["auths/a.json/b.json"]
        tell(("auths/a.json/e.json", "{}"), ("auths/last.json", "{}"))
        until(lambda: (mount.auths / "last.json").exists(), "the next change")
        assert mount.status()["skipped"] == ["auths/a.json/b.json", "auths/a.json/e.json"]
        assert mount.log().count("'auths/a.json/b.json' is not shown: auths/a.json is a file") == 1
        tell(("auths/a.json", None))
        until(lambda: not (mount.auths / "a.json").exists(), "the file is gone")
        mount.sync()
        until(lambda: set(os.listdir(mount.auths)) == {"a.json", "c.json", "last.json"}, "all")
        until(lambda: len(tree(mount.auths)) == 4, "the deeper names have their place")
        assert mount.status()["skipped"] == []
