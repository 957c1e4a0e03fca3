"""The root on disk: private, in stored form, and never a source of changes by itself."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.mount.harness import storefs, until
from tests.mount.processes import put, token, tree_of, umask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


def sent(machine: Mount) -> list[list[str]]:
    """Every change that was ever sent to the store."""
    return [change for batch in machine.commits() for change in batch]


def entries(top: Path) -> list[Path]:
    return [top, *top.rglob("*")]


def test_everything_below_the_root_is_private_whatever_the_umask(
    mounts: Mounts, tmp_path: Path
) -> None:
    put(tmp_path / "store", "auths/team/deep/z.json", token(0))
    with umask(0):
        machine = mounts("a", "--offline", "refuse", start=False)
        with machine:
            (machine.auths / "new").mkdir()
            (machine.auths / "new" / "b.json").write_bytes(token(2))
            (machine.auths / "gone.json").write_bytes(token(3))
            (tmp_path / "store/auths/gone.json").unlink()
            until(lambda: not (machine.auths / "gone.json").exists(), "it is in the trash")
            machine.fault("commit.fail-before")
            with pytest.raises(OSError, match="Input/output"):
                (machine.auths / "new" / "b.json").write_bytes(token(4))
    seen = entries(machine.root)
    assert {path.name for path in seen} >= {"z.json", "b.json", "config.yaml", "log", "lock"}
    assert machine.kept("trash")
    assert machine.kept("conflicts")
    for path in seen:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"


def test_a_root_that_was_open_to_others_is_closed(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    machine.root.mkdir(mode=0o755)
    machine.root.chmod(0o755)
    with machine:
        assert stat.S_IMODE(machine.root.stat().st_mode) == 0o700


def test_a_new_root_hides_from_git_and_an_old_gitignore_stays(mounts: Mounts) -> None:
    assert (mounts("a").root / ".gitignore").read_text() == "*\n"
    other = mounts("b", start=False)
    put(other.root, ".gitignore", b"mine\n")
    with other:
        assert (other.root / ".gitignore").read_text() == "mine\n"


def test_the_mirror_holds_the_stored_form(mounts: Mounts, tmp_path: Path) -> None:
    stored = b"# comment\r\nport: 1\r\nauth-dir: '/somewhere/else' # theirs\r\n"
    put(tmp_path / "store", "config/config.yaml", stored)
    machine = mounts("a")
    shown = machine.config.read_bytes()
    assert yaml.safe_load(shown)["auth-dir"] == str(machine.auths)
    assert (machine.root / "config/config.yaml").read_bytes() == stored
    machine.config.write_bytes(shown.replace(b"port: 1", b"port: 2"))
    changed = stored.replace(b"port: 1", b"port: 2")
    assert (machine.store / "config/config.yaml").read_bytes() == changed
    until(lambda: (machine.root / "config/config.yaml").read_bytes() == changed, "in the mirror")


def test_a_file_put_into_the_mirror_is_not_sent_but_found(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    with machine:
        (machine.auths / "a.json").write_bytes(token(1))
    before, commits = tree_of(machine.store), sent(machine)
    put(machine.root, "auths/by-hand.json", token("by hand"))
    put(machine.root, "auths/notes.txt", b"a local file")
    with machine:
        assert (tree_of(machine.store), sent(machine)) == (before, commits)
        assert [*machine.kept("found").values()] == [token("by hand")]
        assert {*os.listdir(machine.auths)} == {"a.json", "notes.txt"}
        assert machine.status()["found"] == 1
        assert storefs(machine.home, "status", str(machine.path)).returncode == 7
        (name,) = os.listdir(machine.path / ".storefs/found")
        assert (machine.path / ".storefs/found" / name).read_bytes() == token("by hand")
        assert not name.endswith(".json")


def test_a_mirror_file_changed_by_hand_is_not_sent_but_found(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    with machine:
        (machine.auths / "a.json").write_bytes(token(1))
        machine.config.write_bytes(b"port: 1\n")
    before, commits = tree_of(machine.store), sent(machine)
    (machine.root / "auths/a.json").write_bytes(token("by hand"))
    (machine.root / "config/config.yaml").write_bytes(b"port: 99\n")
    with machine:
        assert (tree_of(machine.store), sent(machine)) == (before, commits)
        assert {*machine.kept("found").values()} == {token("by hand"), b"port: 99\n"}
        assert (machine.auths / "a.json").read_bytes() == token(1)
        assert b"port: 1\n" in machine.config.read_bytes()
        assert machine.status()["found"] == 2
    assert tree_of(machine.root) == before


def test_a_torn_mirror_file_is_fetched_again(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    names = "empty", "missing", "zeros"
    with machine:
        for name in names:
            (machine.auths / f"{name}.json").write_bytes(token(name * 100))
    commits = sent(machine)
    files = {name: machine.root / f"auths/{name}.json" for name in names}
    files["empty"].write_bytes(b"")
    files["missing"].unlink()
    zeros = files["zeros"].stat()
    files["zeros"].write_bytes(bytes(zeros.st_size))  # as a crash leaves it: its row is right
    os.utime(files["zeros"], ns=(zeros.st_atime_ns, zeros.st_mtime_ns))
    with machine:
        for name in ("empty", "missing"):
            assert (machine.auths / f"{name}.json").read_bytes() == token(name * 100)
        until(lambda: readable(machine.auths / "zeros.json"), "it is fetched again")
        assert (machine.auths / "zeros.json").read_bytes() == token("zeros" * 100)
        assert sent(machine) == commits
    assert tree_of(machine.root) == tree_of(machine.store)


def readable(file: Path) -> bool:
    try:
        return bool(file.read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize("lost", ["documents", "everything"])
def test_a_wiped_mirror_deletes_nothing(mounts: Mounts, tmp_path: Path, lost: str) -> None:
    for number in range(30):
        put(tmp_path / "store", f"auths/{number}.json", token(number))
    machine = mounts("a", start=False)
    with machine:
        assert len(tree_of(machine.path)) == 31
    before, commits = tree_of(machine.store), sent(machine)
    for part in ("auths", "config") if lost == "documents" else (".",):
        shutil.rmtree(machine.root / part)
    with machine:
        assert tree_of(machine.path).keys() == before.keys()
        machine.sync()
        assert (tree_of(machine.store), sent(machine)) == (before, commits)
        assert machine.status()["held_deletions"] == 0


def test_a_mirror_wiped_under_a_running_mount_deletes_nothing(mount: Mount) -> None:
    for number in range(10):
        (mount.auths / f"{number}.json").write_bytes(token(number))
    before, commits = tree_of(mount.store), sent(mount)
    until(lambda: len(tree_of(mount.root)) == 11, "the mirror is written")
    shutil.rmtree(mount.root / "auths")
    shutil.rmtree(mount.root / "config")
    mount.sync()
    assert tree_of(mount.store) == before
    assert len(tree_of(mount.path)) == 11
    assert sent(mount) == commits
    (mount.auths / "new.json").write_bytes(token("new"))
    assert (mount.store / "auths/new.json").read_bytes() == token("new")


def test_deletions_made_elsewhere_while_stopped_are_taken(mounts: Mounts, tmp_path: Path) -> None:
    for number in range(10):
        put(tmp_path / "store", f"auths/{number}.json", token(number))
    machine = mounts("a", start=False)
    with machine:
        pass
    (machine.store / "auths/3.json").unlink()
    (machine.store / "auths/7.json").unlink()
    with machine:
        assert len(os.listdir(machine.auths)) == 8
        assert {*machine.kept("trash").values()} == {token(3), token(7)}
        assert storefs(machine.home, "status", str(machine.path)).returncode == 0
    assert tree_of(machine.root) == tree_of(machine.store)


def test_too_many_deletions_made_elsewhere_while_stopped_are_held(
    mounts: Mounts, tmp_path: Path
) -> None:
    for number in range(10):
        put(tmp_path / "store", f"auths/{number}.json", token(number))
    machine = mounts("a", start=False)
    with machine:
        pass
    for number in range(5):
        (machine.store / f"auths/{number}.json").unlink()
    with machine:
        assert {*os.listdir(machine.auths)} == {f"{number}.json" for number in range(10)}
        until(lambda: machine.status()["held_deletions"] == 5, "they are held back")
        assert (machine.auths / "0.json").read_bytes() == token(0)
        machine.sync("accept-deletions")
        until(lambda: len(os.listdir(machine.auths)) == 5, "the person said so")
        until(lambda: len(machine.kept("trash")) == 5, "they are in the trash")


def test_a_mirror_that_belongs_to_another_daemon(mounts: Mounts) -> None:
    """Refused, with the other one's mount point and the remedy; the other one goes on."""
    one, two = mounts("one"), mounts("two", start=False)
    (one.auths / "a.json").write_bytes(token(1))
    pid = one.status()["pid"]
    words = ["--local-store", str(one.store), "--mirror", str(one.root)]
    done = storefs(two.home, "mount", str(two.path), *words)
    assert done.returncode == 3
    for said in (f"is in use by the mount at {one.path} ", f"(process {pid})", "--mirror"):
        assert said in done.stderr
    assert not two.path.is_mount()
    assert (one.auths / "a.json").read_bytes() == token(1)
    (one.auths / "a.json").write_bytes(token(2))
    assert tree_of(one.store)["auths/a.json"] == token(2)
    assert one.status()["pid"] == pid
