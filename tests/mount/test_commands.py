"""mount, status, sync and umount by real processes: what they do, say and return."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import storefs, until
from tests.mount.processes import Place, ended, launched, mounted, put, token, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "one") as place:
        yield place


def test_mount_returns_when_the_whole_tree_is_there(place: Place) -> None:
    for number in range(300):
        put(place.store, f"auths/team/{number}.json", token(number))
    put(place.store, "config/config.yaml", b"port: 1\nauth-dir: /x\n")
    done = place.mount()
    shown = tree_of(place.mnt)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"is mounted at {place.mnt}\n" in done.stdout
    assert str(place.root) in done.stdout
    assert len(shown) == 301
    assert all(shown[f"auths/team/{n}.json"] == token(n) for n in range(300))


def test_the_daemon_leaves_the_terminal_and_umount_waits_for_its_end(place: Place) -> None:
    assert place.mount().returncode == 0
    daemon = place.daemon()
    assert os.getsid(daemon) != os.getsid(0)
    assert os.readlink(f"/proc/{daemon}/cwd") == "/"
    done = place.storefs("umount", place.mnt)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ended(daemon, 0)
    assert not mounted(place.mnt)
    assert [*place.mnt.iterdir()] == []


def test_umount_sends_a_delete_that_was_held_back(place: Place) -> None:
    put(place.store, "auths/a.json", token(1))
    assert place.mount().returncode == 0
    (place.mnt / "auths/a.json").rename(place.mnt / "auths/a.json~")
    assert place.storefs("umount", place.mnt).returncode == 0
    assert not (place.store / "auths/a.json").exists()
    assert (place.root / "auths/a.json~").read_bytes() == token(1)


def test_the_default_mount_point_serves_every_command(place: Place) -> None:
    assert place.storefs("status").returncode == 8
    assert place.storefs("mount").returncode == 0
    default = place.home / ".cli-proxy-api"
    state = json.loads(place.storefs("status", "--json").stdout)
    assert state["mountpoint"] == str(default)
    assert (default / "config/config.yaml").exists()
    assert place.storefs("sync").returncode == 0
    assert place.storefs("umount").returncode == 0
    assert not mounted(default)


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_after_the_mount_and_not_before(
    mounts: Mounts, tmp_path: Path, abstract: bool
) -> None:
    put(tmp_path / "store", "auths/a.json", token(1))
    machine = mounts("a", start=False)
    address = f"@storefs-{os.getpid()}-{time.time_ns()}" if abstract else str(tmp_path / "notify")
    machine.env["NOTIFY_SOCKET"] = address
    hang = machine.fault("snapshot.hang")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.setblocking(False)
        with launched(machine) as process:
            marker = machine.root / ".storefs/marker"
            until(marker.exists, "the first look has begun", 60)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)
            assert not mounted(machine.path)
            hang.unlink()
            systemd.settimeout(60)
            assert systemd.recv(100) == b"READY=1"
            assert tree_of(machine.path)["auths/a.json"] == token(1)
            process.terminate()
            assert process.wait(30) == 0


def test_status_tells_a_person_and_a_program_that_all_is_well(mount: Mount) -> None:
    screen = storefs(mount.home, "status", str(mount.path))
    assert (screen.returncode, screen.stderr) == (0, "")
    assert screen.stdout.startswith(f"{mount.path}: online\n")
    for words in (f"local:{mount.store}", str(mount.root), str(mount.root / ".storefs/log")):
        assert words in screen.stdout
    program = storefs(mount.home, "status", str(mount.path), "--json")
    state = json.loads(program.stdout)
    assert program.returncode == 0
    assert state.keys() == mount.status().keys()
    assert (state["online"], state["documents"], state["pending"]) == (True, 1, 0)


def test_status_and_sync_when_the_backend_cannot_answer(mount: Mount) -> None:
    fault = mount.fault("snapshot.fail-before")
    sync = storefs(mount.home, "sync", str(mount.path))
    assert sync.returncode == 4
    assert "backend could not be asked" in sync.stderr
    status = storefs(mount.home, "status", str(mount.path))
    assert status.returncode == 7
    assert "OFFLINE" in status.stdout
    assert "fail-before" in status.stdout
    fault.unlink()
    assert storefs(mount.home, "sync", str(mount.path)).returncode == 0
    assert storefs(mount.home, "status", str(mount.path)).returncode == 0


def test_a_conflict_copy_degrades_the_status(mounts: Mounts) -> None:
    here, there = mounts("here"), mounts("there")
    (here.auths / "a.json").write_bytes(token(1))
    until((there.auths / "a.json").exists, "it arrived")
    here.fault("wait.hang")
    with open(here.auths / "a.json", "r+b", buffering=0) as file:
        file.write(token(2))
        (there.auths / "a.json").write_bytes(token(3))
    done = storefs(here.home, "status", str(here.path))
    assert done.returncode == 7
    assert "needs a look" in done.stdout
    assert json.loads(storefs(here.home, "status", str(here.path), "--json").stdout)["conflicts"]
    assert token(2) in here.kept("conflicts").values()


def test_sync_takes_in_what_no_hint_told(mounts: Mounts, tmp_path: Path) -> None:
    file = put(tmp_path / "store", "auths/a.json", token(1) + b"          ")
    machine = mounts("a", "--snapshot-interval", "3600")
    os.truncate(file, len(token(1)))  # opens nothing: the store's watcher cannot see it
    assert storefs(machine.home, "sync", str(machine.path)).returncode == 0
    until(lambda: (machine.auths / "a.json").read_bytes() == token(1), "the new content")


def test_sync_accepts_deletions_that_were_held_back(mounts: Mounts, tmp_path: Path) -> None:
    for number in range(10):
        put(tmp_path / "store", f"auths/{number}.json", token(number))
    machine = mounts("a")
    for number in range(8):
        (machine.store / f"auths/{number}.json").unlink()
    until(lambda: machine.status()["held_deletions"] == 8, "the deletions are held back")
    status = storefs(machine.home, "status", str(machine.path))
    assert (status.returncode, "held deletions" in status.stdout) == (7, True)
    assert len([*machine.auths.iterdir()]) == 10
    assert storefs(machine.home, "sync", str(machine.path), "--accept-deletions").returncode == 0
    until(lambda: len([*machine.auths.iterdir()]) == 2, "the names are gone")
    until(lambda: len(machine.kept("trash")) == 8, "they are in the trash")
    assert storefs(machine.home, "status", str(machine.path)).returncode == 0


def test_commands_where_nothing_is_mounted(place: Place) -> None:
    place.mnt.mkdir()
    for command in ("status", "sync", "umount"):
        done = place.storefs(command, place.mnt)
        assert done.returncode == 8
        assert f"storefs mount {place.mnt}" in done.stderr


def test_commands_on_a_mount_whose_daemon_was_killed(mounts: Mounts) -> None:
    machine = mounts("a", start=False).start()
    assert machine.process is not None
    machine.process.kill()
    machine.process.wait()
    for command in ("status", "sync"):
        done = storefs(machine.home, command, str(machine.path))
        assert (done.returncode, "is dead" in done.stderr) == (8, True)
    assert storefs(machine.home, "umount", str(machine.path)).returncode == 0
    assert not mounted(machine.path)


def test_a_daemon_that_hangs_costs_a_command_a_few_seconds(mount: Mount) -> None:
    assert mount.process is not None
    mount.process.send_signal(signal.SIGSTOP)
    try:
        done = storefs(mount.home, "status", str(mount.path))
    finally:
        mount.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_umount_of_a_busy_mount_changes_nothing(mount: Mount) -> None:
    with subprocess.Popen(["sleep", "1000"], cwd=mount.auths) as squatter:
        try:
            done = storefs(mount.home, "umount", str(mount.path))
            assert done.returncode == 6
            assert f"fuser -vm {mount.path}" in done.stderr
            (mount.auths / "a.json").write_bytes(token(1))
            assert (mount.store / "auths/a.json").read_bytes() == token(1)
        finally:
            squatter.kill()
    assert storefs(mount.home, "umount", str(mount.path)).returncode == 0


@pytest.mark.parametrize(
    ("words", "variables", "code"),
    [
        (["--no-such-option"], {}, 2),
        (["--subdir", "elsewhere"], {}, 2),
        (["--deadline", "soon"], {}, 2),
        ([], {"STOREFS_DEADLINE": "soon"}, 3),
        ([], {"STOREFS_SUBDIR": "elsewhere"}, 3),
        (["--env-file", "missing.env"], {}, 3),
    ],
)
def test_a_bad_setting_mounts_nothing(
    place: Place, words: list[str], variables: dict[str, str], code: int
) -> None:
    done = place.mount(*words, env=variables)
    assert done.returncode == code
    assert (words or [*variables])[0] in done.stderr or words[-1] in done.stderr
    assert not place.mnt.exists()
    assert not place.root.exists()
