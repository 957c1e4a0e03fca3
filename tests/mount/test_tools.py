"""Tools that copy, move, list, follow and unpack, and a database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import Batches, shows, write
from tests.mount.harness import Mount, Watch, environment, until
from tests.mount.tools import call, need

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

FILES = {
    "a.json": b'{"a": 1}',
    "team/b.json": b'{"b": 2}\n',
    "team/notes.txt": b"notes\n",
    "team/deep/c.json": b'{"c": "\xc3\xa9"}',
    "team/deep/big.bin": os.urandom(300_000),
    ".hidden": b"h",
}
OLD = 1_500_000_000
"""A time that a copy must keep."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory outside the mount, with documents and other files, all of them old."""
    top = tmp_path / "outside"
    for name, data in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o640)
    for path in [top, *top.rglob("*")]:
        os.utime(path, (OLD, OLD))
    return top


def contents(top: Path) -> dict[str, bytes]:
    """Path below `top` -> bytes, of all files."""
    files = (path for path in sorted(top.rglob("*")) if path.is_file())
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


def _check_arrived(mount: Mount, top: Path) -> None:
    """All files are there, the documents in the store, the rest not; local ones kept mode, time."""
    assert contents(top) == FILES
    shared = {name: data for name, data in FILES.items() if name.endswith(".json")}
    assert contents(mount.store / top.relative_to(mount.path)) == shared
    for name in FILES.keys() - shared.keys():
        info = (top / name).stat()
        assert (int(info.st_mtime), info.st_mode & 0o777) == (OLD, 0o640), name
    assert mount.status()["conflicts"] == 0


def test_copy_in_and_out(mount: Mount, tree: Path, tmp_path: Path) -> None:
    call(mount, "cp", "-a", tree, mount.auths / "tree")
    _check_arrived(mount, mount.auths / "tree")
    call(mount, "cp", "-a", mount.auths / "tree", tmp_path / "back")
    assert contents(tmp_path / "back") == FILES
    batches = Batches(mount)
    call(mount, "cp", "-a", f"{tree}/.", mount.auths / "tree")  # over what is there
    assert contents(mount.auths / "tree") == FILES
    assert batches.sent() == []


def test_rsync(mounts: Mounts, tree: Path, tmp_path: Path) -> None:
    need("rsync")
    here, there = mounts("here"), mounts("there")
    target = here.auths / "tree"
    call(here, "rsync", "-a", f"{tree}/", target)
    _check_arrived(here, target)
    shows(there.auths / "tree/a.json", FILES["a.json"])
    batches = Batches(here)
    call(here, "rsync", "-a", "--checksum", f"{tree}/", target)
    assert batches.sent() == []
    (tree / "a.json").write_bytes(b'{"a": 2}')
    (tree / "team/deep/c.json").unlink()
    call(here, "rsync", "-a", "--checksum", "--delete", f"{tree}/", target)
    # rsync is two programs: what both ask for at one moment goes out in one call.
    assert sorted(change for batch in batches.sent() for change in batch) == [
        ["delete", "auths/tree/team/deep/c.json"],
        ["put", "auths/tree/a.json"],
    ]
    shows(there.auths / "tree/a.json", b'{"a": 2}')
    until(lambda: not (there.auths / "tree/team/deep/c.json").exists(), "deleted there too")
    call(here, "rsync", "-a", f"{target}/", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(target)


def test_rsync_in_place(mount: Mount, tree: Path) -> None:
    need("rsync")
    call(mount, "rsync", "-a", "--inplace", f"{tree}/", mount.auths / "tree")
    _check_arrived(mount, mount.auths / "tree")


def test_moving_in_and_out(mounts: Mounts, tree: Path, tmp_path: Path) -> None:
    """mv across file systems: into the mount a put, out of it a delete."""
    here, there = mounts("here"), mounts("there")
    batches = Batches(here)
    call(here, "mv", tree / "a.json", here.auths / "a.json")
    assert batches.sent() == [[["put", "auths/a.json"]]]
    shows(there.auths / "a.json", FILES["a.json"])
    with Watch(there.auths) as watch:
        call(here, "mv", here.auths / "a.json", tmp_path / "out.json")
        watch.expect("DELETE", "a.json")
    assert batches.sent()[1:] == [[["delete", "auths/a.json"]]]
    assert (tmp_path / "out.json").read_bytes() == FILES["a.json"]
    call(here, "mv", tree, here.auths / "tree")
    assert not tree.exists()
    assert contents(here.auths / "tree").keys() == FILES.keys() - {"a.json"}
    call(here, "mv", here.auths / "tree", tmp_path / "all")
    assert list(here.auths.iterdir()) == []
    until(lambda: not [*(here.store / "auths").rglob("*.json")], "nothing is left in the store")


def test_moving_a_directory_of_documents(mount: Mount, tree: Path) -> None:
    """rename gives EXDEV, so mv copies and deletes."""
    call(mount, "cp", "-a", tree, mount.auths / "tree")
    call(mount, "mv", mount.auths / "tree", mount.auths / "moved")
    _check_arrived(mount, mount.auths / "moved")
    assert not (mount.auths / "tree").exists()


def test_unpacking(mount: Mount, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "tree.tar"
    call(mount, "tar", "-C", tree, "-cf", archive, ".")
    target = mount.auths / "tree"
    target.mkdir()
    for _ in range(2):  # the second time over what is there
        call(mount, "tar", "--warning=no-timestamp", "-xpf", archive, "-C", target)
        _check_arrived(mount, target)
    call(mount, "tar", "-C", target, "-cf", tmp_path / "again.tar", ".")
    call(mount, "tar", "-df", archive, "-C", tree)


def test_git_in_the_mount(mount: Mount) -> None:
    """A repository in a local directory: links, renames, modes and a storm of stats."""
    need("git")
    place = mount.path / "config" / "static" / "repository"
    place.mkdir(parents=True)
    names = [f"dir-{number % 7}/file-{number}.txt" for number in range(200)]
    for name in names:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "gc.auto=0"]
    call(mount, *git, "init", "-q", ".", cwd=place)
    call(mount, *git, "add", ".", cwd=place)
    call(mount, *git, "commit", "-q", "-m", "first", cwd=place)
    for _ in range(5):
        assert call(mount, *git, "status", "--porcelain", cwd=place) == ""
    (place / names[3]).write_text("changed")
    (place / names[4]).unlink()
    (place / "new.txt").write_text("new")
    status = call(mount, *git, "status", "--porcelain", cwd=place)
    assert status.splitlines() == [f" M {names[3]}", f" D {names[4]}", "?? new.txt"]
    call(mount, *git, "add", "-A", cwd=place)
    call(mount, *git, "commit", "-q", "-m", "second", cwd=place)
    call(mount, *git, "checkout", "-q", "HEAD~1", cwd=place)
    call(mount, *git, "fsck", "--no-progress", "--strict", cwd=place)
    assert (place / names[4]).read_text() == names[4]


def test_stats_of_a_thousand_documents(mounts: Mounts) -> None:
    """What `git status` or `ls -l` asks, over and over, while another machine changes one."""
    here, there = mounts("here"), mounts("there", start=False)
    (there.store / "auths").mkdir(exist_ok=True)
    for number in range(1000):
        (there.store / f"auths/{number:04}.json").write_bytes(b'{"n": %d}' % number)
    until(lambda: here.status()["documents"] == 1001, "all arrived", 60)
    until(lambda: len(os.listdir(here.auths)) == 1000, "all are listed", 60)
    sizes = {f"{number:04}.json": len(b'{"n": %d}' % number) for number in range(1000)}
    for size in (20, 30, 40):
        sizes["0500.json"] = size
        with Watch(here.auths) as watch:
            data = b'{"n": "' + b"x" * (size - 9) + b'"}'
            (there.store / "auths/0500.json").write_bytes(data)
            watch.expect("MODIFY", "0500.json")
            listed = call(here, "find", ".", "-name", "*.json", "-printf", "%f %s\n")
            assert dict(line.split() for line in listed.splitlines()) == {
                name: str(size) for name, size in sizes.items()
            }


def test_following_a_log(mount: Mount) -> None:
    """tail -f sees what another process appends; on FUSE it looks once a second."""
    path = mount.auths / "logs" / "main.log"
    path.parent.mkdir()
    path.write_text("first\n")
    words = ["tail", "-n", "+1", "-f", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(mount.home)) as tail:
        assert tail.stdout is not None
        try:
            assert tail.stdout.readline() == b"first\n"
            for number in range(4):
                call(mount, "sh", "-c", f"echo line {number} >> logs/main.log")
                assert tail.stdout.readline() == b"line %d\n" % number
        finally:
            tail.kill()
    assert path.read_text().count("\n") == 5


def test_following_a_document(mounts: Mounts) -> None:
    """tail -F of a document that another machine lengthens."""
    here, there = mounts("here"), mounts("there")
    write(there.auths / "a.json", b'{"a": 1}\n')
    shows(here.auths / "a.json", b'{"a": 1}\n')
    words = ["tail", "-c", "+1", "-F", str(here.auths / "a.json")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(here.home)) as tail:
        assert tail.stdout is not None
        try:
            assert tail.stdout.readline() == b'{"a": 1}\n'
            write(there.auths / "a.json", b'{"a": 1}\n\n\n')
            assert tail.stdout.readline() == b"\n"
        finally:
            tail.kill()


def test_programs_that_append_to_one_log(mount: Mount) -> None:
    """Lines of several processes, none torn, none lost; rotated meanwhile by a rename."""
    path = mount.auths / "logs" / "main.log"
    path.parent.mkdir()
    script = 'i=0; while [ $i -lt 100 ]; do echo "$0 $i" >> main.log; i=$((i+1)); done'
    writers = [
        subprocess.Popen(["sh", "-c", script, name], cwd=path.parent, env=environment(mount.home))
        for name in "abc"
    ]
    until(lambda: path.exists() and path.stat().st_size > 200, "they write")
    path.rename(path.with_name("main-1.log"))
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = [
        line
        for name in ("main-1.log", "main.log")
        if path.with_name(name).exists()
        for line in path.with_name(name).read_text().splitlines()
    ]
    assert sorted(lines) == sorted(f"{name} {number}" for name in "abc" for number in range(100))


WORKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
for number in range(40):
    with db:
        db.execute("UPDATE counter SET value = value + 1")
        db.execute("INSERT INTO seen VALUES (?, ?)", (sys.argv[2], number))
db.close()
"""


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_a_database_of_several_programs(mount: Mount, mode: str) -> None:
    """SQLite's locks and journals, or its shared memory, hold among processes."""
    path = mount.auths / "state.db"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
        db.execute("CREATE TABLE counter (value)")
        db.execute("CREATE TABLE seen (who, number)")
        db.execute("INSERT INTO counter VALUES (0)")
        db.commit()
    words = ["python3", "-c", WORKER, str(path)]
    env = environment(mount.home)
    workers = [subprocess.Popen([*words, name], env=env) for name in "abc"]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT value FROM counter").fetchone() == (120,)
        assert db.execute("SELECT count(*) FROM seen").fetchone() == (120,)
    mount.stop()
    mount.start()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM counter").fetchone() == (120,)
