"""status, sync and umount as a person calls them: exit codes, what is printed, what is asked.

No mount is made: an ordinary directory that a made-up mountinfo calls a storefs mount.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import storefs
from storefs import cli, commands, mountinfo, screen
from storefs.errors import Exit

# See test_mountpoint.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

FINE: dict[str, Any] = {
    "version": "9.9",
    "pid": 0,
    "backend": "local",
    "identity": "local:/store",
    "mountpoint": "/mnt",
    "subdir": "",
    "root": "/root-of-it",
    "log": "/root-of-it/.storefs/log",
    "since": 1000.0,
    "online": True,
    "error": "",
    "documents": 3,
    "pending": 0,
    "refused": 0,
    "conflicts": 0,
    "found": 0,
    "held_deletions": 0,
    "last_in": None,
    "last_out": 1000.0,
    "skipped": [],
    "too_large": [],
    "warnings": [],
    "read_only": False,
    "traits": {"writes": "lock and compare", "changes": "polled"},
}


class Mount:
    """A directory in the place of a mount."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "mnt"
        (self.path / ".storefs").mkdir(parents=True)
        self.mountinfo = base / "mountinfo"
        line = f"42 22 0:39 / {self.path} rw - fuse.storefs storefs rw\n"
        self.mountinfo.write_text(line)
        self.say()

    def say(self, **changes: object) -> None:
        (self.path / ".storefs/status").write_text(json.dumps({**FINE, **changes}))

    def fusermount(self, script: str) -> None:
        program = self.base / "bin/fusermount3"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    mount = Mount(Path(os.path.realpath(tmp_path)))
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", mount.mountinfo)
    monkeypatch.setenv("PATH", f"{mount.base}/bin:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return mount


def call(*argv: object) -> int:
    return cli.main([str(word) for word in argv])


@pytest.mark.parametrize("command", ["status", "sync", "umount"])
def test_without_a_mount_every_command_says_so(
    mount: Mount, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    mount.mountinfo.write_text("")
    assert call(command, mount.path) == Exit.NOT_MOUNTED
    assert f"storefs mount {mount.path}" in capsys.readouterr().err


def test_commands_need_no_settings(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREFS_NO_SUCH_THING", "1")
    monkeypatch.setenv("PGSTORE_DSN", "postgres://db/x")
    assert call("status", mount.path) == 0


def test_the_default_mount_point_is_the_same_for_every_command(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(mount.base))
    (mount.base / ".cli-proxy-api").symlink_to("mnt")
    assert call("status") == 0


def test_status_is_one_screen(mount: Mount, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", mount.path) == 0
    shown = capsys.readouterr().out
    for text in ("/mnt: online", "local:/store", "/root-of-it/.storefs/log", "never", "9.9"):
        assert text in shown
    assert "conflicts" not in shown


def test_status_is_the_document_itself_for_programs(
    mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("status", mount.path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == FINE


@pytest.mark.parametrize(
    "trouble",
    [
        {"online": False, "error": "no route to it"},
        {"pending": 1},
        {"refused": 1},
        {"conflicts": 1},
        {"found": 1},
        {"held_deletions": 1},
    ],
)
def test_what_waits_for_somebody_is_shown_and_degrades(
    mount: Mount, capsys: pytest.CaptureFixture[str], trouble: dict[str, object]
) -> None:
    mount.say(**trouble)
    assert call("status", mount.path) == Exit.DEGRADED
    shown = capsys.readouterr().out
    name = next(iter(trouble)).replace("_", " ")
    assert ("OFFLINE" in shown and "no route to it" in shown) if name == "online" else name in shown


def test_warnings_are_shown_and_long_lists_cut(
    mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    mount.say(warnings=["config replaced"], skipped=[f"auths/{n}" for n in range(9)])
    assert call("status", mount.path) == 0
    shown = capsys.readouterr().out
    assert "config replaced" in shown
    assert "auths/4" in shown
    assert "auths/5" not in shown
    assert "and 4 more" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s ago"),
        (119, "119 s ago"),
        (120, "2 minutes ago"),
        (7200, "2 hours ago"),
        (86400 * 3, "3 days ago"),
        (-5, "0 s ago"),
    ],
)
def test_times_are_told_as_ages(seconds: int, words: str) -> None:
    assert words in screen.render({**FINE, "last_out": None}, 1000.0 + seconds)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_status_nobody_understands(mount: Mount, text: str) -> None:
    (mount.path / ".storefs/status").write_text(text)
    assert call("status", mount.path) == Exit.FAILED


@pytest.mark.parametrize("command", ["status", "sync"])
def test_a_mount_that_hangs_costs_patience_only(
    mount: Mount,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    for name in ("status", "sync"):
        (mount.path / ".storefs" / name).unlink(missing_ok=True)
        os.mkfifo(mount.path / ".storefs" / name)
    monkeypatch.setattr(commands, "PATIENCE", 0.05)
    monkeypatch.setattr(commands, "_SYNC_PATIENCE", 0.05)
    assert call(command, mount.path) == Exit.FAILED
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "order"), [((), "1\n"), (("--accept-deletions",), "accept-deletions\n")]
)
def test_sync_writes_the_order(mount: Mount, option: tuple[str, ...], order: str) -> None:
    file = mount.path / ".storefs/sync"
    file.touch()
    assert call("sync", mount.path, *option) == 0
    assert file.read_text() == order


def test_sync_without_a_backend_points_at_status(
    mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing is mapped at address 0, and the kernel calls that EIO.
    (mount.path / ".storefs/sync").symlink_to("/proc/self/mem")
    assert call("sync", mount.path) == Exit.UNREACHABLE
    assert "storefs status" in capsys.readouterr().err


def test_sync_reports_any_other_failure(mount: Mount, capsys: pytest.CaptureFixture[str]) -> None:
    (mount.path / ".storefs/sync").symlink_to("/dev/full")
    assert call("sync", mount.path) == Exit.FAILED
    assert "No space left" in capsys.readouterr().err


def test_umount_waits_for_the_daemon(mount: Mount) -> None:
    with subprocess.Popen(["sleep", "1000"]) as daemon:
        mount.say(pid=daemon.pid)
        mount.fusermount(f'echo "$@" > {mount.base}/args; kill {daemon.pid}')
        assert call("umount", mount.path) == 0
        assert os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    assert (mount.base / "args").read_text().split() == ["-u", "--", str(mount.path)]


def test_umount_says_when_the_daemon_goes_on(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "_GRACE", 0.01)
    with subprocess.Popen(["sleep", "1000"]) as daemon:
        mount.say(pid=daemon.pid)
        mount.fusermount("exit 0")
        assert call("umount", mount.path, "--stop-timeout", "0.01") == Exit.FAILED
        daemon.kill()
    assert str(daemon.pid) in capsys.readouterr().err


def test_umount_of_what_is_in_use(mount: Mount, capsys: pytest.CaptureFixture[str]) -> None:
    mount.fusermount("echo 'umount failed: Device or resource busy' >&2; exit 1")
    assert call("umount", mount.path) == Exit.MOUNT_POINT
    assert f"fuser -vm {mount.path}" in capsys.readouterr().err


def test_umount_of_a_mount_that_cannot_say_its_process(mount: Mount) -> None:
    (mount.path / ".storefs/status").unlink()
    mount.fusermount("exit 0")
    assert call("umount", mount.path) == 0


def test_a_closed_pipe_is_no_traceback(mount: Mount) -> None:
    program = (
        "import sys; from pathlib import Path; from storefs import cli, mountinfo; "
        f"mountinfo._MOUNTINFO = Path({str(mount.mountinfo)!r}); "
        f"sys.exit(cli.main(['status', {str(mount.path)!r}]))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-u", "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(storefs.__file__).parent.parent)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
