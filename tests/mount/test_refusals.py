"""Where `storefs mount` refuses: the exit code, a sentence that helps, and nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.mount.harness import environment, until
from tests.mount.processes import Place, ended, mounted, put, token, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.user

MOUNT_POINT = 6
SETTINGS = 3
UNREACHABLE = 4

needs_a_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may do this")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "one") as place:
        yield place


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It said why in one sentence, without a traceback, and told the shell."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("storefs: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_a_mount_point_that_holds_files(place: Place) -> None:
    put(place.mnt, "precious.json", token(1))
    done = place.mount("--no-move-in")
    refused(done, MOUNT_POINT, str(place.mnt), "precious.json", "move them away")
    assert not mounted(place.mnt)
    assert (place.mnt / "precious.json").read_bytes() == token(1)
    assert not place.root.exists()


def test_a_mount_point_that_is_a_file(place: Place) -> None:
    place.mnt.write_text("precious")
    refused(place.mount(), MOUNT_POINT, str(place.mnt), "not a directory")
    assert place.mnt.read_text() == "precious"


@needs_a_user
def test_a_mount_point_one_may_not_write(place: Place) -> None:
    place.mnt.mkdir(mode=0o500)
    refused(place.mount(), MOUNT_POINT, str(place.mnt), "not yours")


@needs_a_user
def test_a_mount_point_of_somebody_else(place: Place) -> None:
    somebody = os.path.dirname(os.__file__)
    if os.stat(somebody).st_uid == os.geteuid():
        pytest.skip(f"{somebody} belongs to the user who runs the tests")
    refused(place.mount(at=somebody), MOUNT_POINT, somebody, "not yours")


@needs_a_user
def test_allow_other_without_the_consent_of_root(place: Place) -> None:
    with open("/etc/fuse.conf", encoding="utf-8") as file:
        if "user_allow_other" in [line.strip() for line in file]:
            pytest.skip("/etc/fuse.conf of this machine allows it")
    refused(place.mount("--allow-other"), MOUNT_POINT, "/etc/fuse.conf", "user_allow_other")


@needs_a_user
def test_owner_is_for_root(place: Place) -> None:
    refused(place.mount("--owner", "root"), SETTINGS, "--owner needs root")


def test_a_place_that_is_mounted_already(place: Place) -> None:
    assert place.mount().returncode == 0
    (place.mnt / "auths/a.json").write_bytes(token(1))
    refused(place.mount(), MOUNT_POINT, "already", "storefs status", "storefs umount")
    inside = place.mount(at=place.mnt / "auths")
    refused(inside, MOUNT_POINT, "lies inside the storefs mount", str(place.mnt))
    assert (place.mnt / "auths/a.json").read_bytes() == token(1)
    assert place.storefs("status", place.mnt).returncode == 0


def test_a_missing_mount_point_is_made_with_its_parents(place: Place) -> None:
    deep = place.base / "not" / "yet" / "there"
    assert place.mount(at=deep).returncode == 0
    assert mounted(deep)
    assert place.storefs("umount", deep).returncode == 0
    assert deep.stat().st_mode & 0o777 == 0o700


def test_a_mount_whose_daemon_was_killed_is_replaced(place: Place) -> None:
    assert place.mount().returncode == 0
    (place.mnt / "auths/a.json").write_bytes(token(1))
    pid = place.daemon()
    os.kill(pid, 9)
    assert ended(pid, 30)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(place.mnt)
    assert place.mount().returncode == 0
    assert (place.mnt / "auths/a.json").read_bytes() == token(1)
    until(lambda: place.storefs("status", place.mnt).returncode == 0, "it is healthy")


def test_an_unknown_variable_is_named_and_its_value_is_not(place: Place) -> None:
    done = place.mount(env={"STOREFS_MIROR": "s3cr3t-in-the-wrong-place"})
    refused(done, SETTINGS, "STOREFS_MIROR", "STOREFS_MIRROR")
    assert "s3cr3t" not in done.stderr


def test_a_backend_that_cannot_be_reached_is_named_and_its_password_is_not(place: Place) -> None:
    done = place.mount(env={"PGSTORE_DSN": "postgres://me:s3cr3t@127.0.0.1:1/db"})
    refused(done, UNREACHABLE, "postgres", "127.0.0.1:1", "PGSTORE_DSN")
    assert "s3cr3t" not in done.stderr
    assert place.mount("--backend", "local", env={"PGSTORE_DSN": "s3cr3t"}).returncode == 0


def test_a_root_in_use_names_the_mount_that_uses_it(place: Place) -> None:
    assert place.mount().returncode == 0
    second = place.base / "second"
    refused(place.mount(at=second), SETTINGS, str(place.mnt), "--mirror", str(place.daemon()))
    assert not mounted(second)
    assert place.storefs("status", place.mnt).returncode == 0


def test_two_mounts_of_one_default_root(place: Place) -> None:
    store = "--local-store", place.store
    assert place.storefs("mount", place.mnt, *store).returncode == 0
    second = place.base / "second"
    done = place.storefs("mount", second, *store)
    refused(done, SETTINGS, str(place.mnt), "--mirror")
    tokens = place.storefs("mount", second, *store, "--subdir", "auths")
    assert tokens.returncode == 0, tokens.stderr


def test_a_root_of_another_store(place: Place) -> None:
    assert place.mount().returncode == 0
    put(place.mnt, "auths/a.json", token(1))
    assert place.storefs("umount", place.mnt).returncode == 0
    other = place.base / "other"
    done = place.mount("--local-store", other)
    refused(done, SETTINGS, str(place.root), f"local:{place.store}", "--mirror")
    assert (place.root / "auths/a.json").read_bytes() == token(1)
    assert tree_of(other) == {}


def test_a_root_of_another_part(place: Place) -> None:
    assert place.mount().returncode == 0
    assert place.storefs("umount", place.mnt).returncode == 0
    refused(place.mount("--subdir", "auths"), SETTINGS, str(place.root), "--mirror")


@pytest.mark.parametrize(
    ("option", "below"),
    [("--mirror", "mnt/root"), ("--mirror", "mnt"), ("--local-store", "mnt/store")],
)
def test_nothing_of_the_daemon_lies_below_the_mount_point(
    place: Place, option: str, below: str
) -> None:
    refused(place.mount(option, place.base / below), SETTINGS, option, "wait for itself")
    assert not mounted(place.mnt)


@pytest.mark.parametrize(("above", "said"), [("root", "the root"), ("store", "the local store")])
def test_the_mount_point_lies_below_nothing_of_the_daemon(
    place: Place, above: str, said: str
) -> None:
    refused(place.mount(at=place.base / above / "mnt"), SETTINGS, f"below {said}")
    assert not (place.base / above / "mnt").exists()


def test_a_link_to_a_place_below_the_mount_point_is_seen_through(place: Place) -> None:
    place.mnt.mkdir()
    (place.base / "link").symlink_to(place.mnt, target_is_directory=True)
    done = place.mount("--local-store", place.base / "link" / "store")
    refused(done, SETTINGS, "--local-store")


def test_mounting_at_the_working_directory(place: Place) -> None:
    place.mnt.mkdir()
    done = place.mount(at=".", cwd=place.mnt)
    assert done.returncode == 0, done.stderr
    put(place.mnt, "auths/a.json", token(1))
    assert (place.store / "auths/a.json").read_bytes() == token(1)
    assert place.storefs("status", ".", cwd=place.mnt).returncode == 0
    assert place.storefs("sync", ".", cwd=place.mnt).returncode == 0
    assert place.storefs("umount", ".", cwd=place.mnt).returncode == 0
    put(place.mnt, "data", b"of a person")
    done = place.mount("--no-move-in", at=".", cwd=place.mnt)
    refused(done, MOUNT_POINT, str(place.mnt), "data")


def test_the_foreground_at_the_working_directory_ends_when_told(place: Place) -> None:
    place.mnt.mkdir()
    words = ["mount", ".", "--foreground", "--local-store", place.store, "--mirror", place.root]
    with subprocess.Popen(
        [sys.executable, "-m", "storefs", *map(str, words)],
        env=environment(place.home),
        cwd=place.mnt,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as daemon:
        try:
            assert daemon.stdout is not None
            assert b"is mounted at" in daemon.stdout.readline()
            put(place.mnt, "auths/a.json", token(1))
            daemon.terminate()
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
    assert not mounted(place.mnt)


@pytest.mark.parametrize(
    "name", ["with space", "mit Ümläut 日本", "back\\slash", "tab\there", "-dash", "a'b\"c$d"]
)
def test_any_name_of_a_mount_point(place: Place, name: str) -> None:
    odd = place.base / name
    assert place.mount(at=odd).returncode == 0
    assert mounted(odd)
    put(odd, "auths/a.json", token(1))
    assert yaml.safe_load((odd / "config/config.yaml").read_text())["auth-dir"] == f"{odd}/auths"
    refused(place.mount(at=odd), MOUNT_POINT, "already")
    assert place.storefs("status", odd).returncode == 0
    assert place.storefs("sync", odd).returncode == 0
    pid = place.daemon()
    os.kill(pid, 9)
    assert ended(pid, 30)
    assert place.mount(at=odd).returncode == 0, "a dead mount of this name is replaced"
    assert (odd / "auths/a.json").read_bytes() == token(1)
    assert place.storefs("umount", odd).returncode == 0
    assert not mounted(odd)


def test_a_start_that_fails_in_the_daemon_is_told_by_the_command(place: Place) -> None:
    example = put(place.base / "work", "config.example.yaml", b"- a list\n")
    refused(place.mount(cwd=example.parent), SETTINGS, str(example), "not a mapping")
    assert not mounted(place.mnt)
    assert ended(place.daemon(), 30)


def test_a_failed_start_leaves_the_next_one_as_it_was(place: Place) -> None:
    put(place.root, "auths/a.json", token(1))
    place.store.write_text("in the way")
    done = place.mount()
    assert done.returncode in (3, 4), done.stderr
    assert not mounted(place.mnt)
    place.store.unlink()
    assert place.mount().returncode == 0
    assert (place.store / "auths/a.json").read_bytes() == token(1)
