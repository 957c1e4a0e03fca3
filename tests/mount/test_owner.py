"""A system mount: root makes it for another user, with --owner. Needs root."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import REPOSITORY, Mount, environment, until
from tests.mount.processes import put, token
from tests.mount.standin_client import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = 47110
STRANGER = 47111

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may use --owner")


def run_as(uid: int, machine: Mount, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python process of another user, without groups."""
    return subprocess.run(
        [sys.executable, *words],
        env=environment(machine.home),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=uid,
        group=uid,
        extra_groups=[],
    )


@pytest.fixture
def machine() -> Iterator[Mount]:
    """In a directory that other users can reach, which pytest's own is not."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with tempfile.TemporaryDirectory(prefix="storefs-owner-") as directory:
        base = Path(directory)
        base.chmod(0o755)
        mount = Mount(base / "a", base / "store", ("--owner", f"{OWNER}:{OWNER}"))
        probe = run_as(
            OWNER, mount, "-c", f"import os, tests.mount.standin; os.stat({str(base)!r})"
        )
        if probe.returncode:
            pytest.skip(f"other users cannot reach Python, tests or {base}: {probe.stderr[-200:]}")
        put(mount.store, "config/config.yaml", b"port: 1\n")
        put(mount.store, "auths/known.json", token("known"))
        with mount:
            yield mount


def test_the_proxy_works_as_another_user(machine: Mount) -> None:
    with StandIn(machine.config, machine.auths, user=(OWNER, OWNER)) as proxy:
        assert proxy.belief().credentials.keys() == {"known.json"}
        proxy.save_token("a.json", {"type": "claude", "access_token": "1"})
        proxy.login("b.json", {"type": "claude", "access_token": "2"})
        proxy.save_config("port", "2")
        proxy.append_log("a line")
        assert proxy.oauth("claude", "state", "payload") == "payload"
        put(machine.store, "auths/remote.json", token("remote"))
        put(machine.store, "auths/known.json", token("changed"))
        proxy.wait_until(lambda belief: "remote.json" in belief.credentials, 30)
        (machine.store / "auths/remote.json").unlink()
        proxy.wait_until(lambda belief: "remote.json" not in belief.credentials, 30)
        proxy.delete("b.json")
        proxy.settle(30)
        until(
            lambda: not proxy.agrees_with(machine.auths, machine.config), "it knows what is there"
        )
    stored = {path.name: path for path in (machine.store / "auths").glob("*.json")}
    assert stored.keys() == {"a.json", "known.json"}
    assert b"port: 2" in (machine.store / "config/config.yaml").read_bytes()


def test_everything_shows_the_owner(machine: Mount) -> None:
    (machine.auths / "by-root.json").write_bytes(token(1))
    (machine.auths / "by-root.txt").write_bytes(b"local")
    (machine.auths / "directory").mkdir()
    for path in (machine.path, *machine.path.rglob("*")):
        info = path.lstat()
        assert (info.st_uid, info.st_gid) == (OWNER, OWNER), path
        assert stat.S_IMODE(info.st_mode) & 0o077 == 0 or path.suffix == ".txt", path
    for path in (machine.root, *machine.root.rglob("*")):
        assert path.lstat().st_uid == 0, path


def test_a_third_user_is_refused(machine: Mount) -> None:
    look = f"import os; print(os.listdir({str(machine.path)!r}))"
    assert "PermissionError" in run_as(STRANGER, machine, "-c", look).stderr
    read = f"print(open({str(machine.auths / 'known.json')!r}).read())"
    assert "PermissionError" in run_as(STRANGER, machine, "-c", read).stderr
    assert "known" in run_as(OWNER, machine, "-c", read).stdout
    status = run_as(STRANGER, machine, "-m", "storefs", "status", str(machine.path))
    assert status.returncode == 1
    assert "belongs to another user" in status.stderr


def test_the_owner_may_ask_but_not_unmount(machine: Mount) -> None:
    words = "-m", "storefs"
    assert run_as(OWNER, machine, *words, "status", str(machine.path)).returncode == 0
    assert run_as(OWNER, machine, *words, "sync", str(machine.path)).returncode == 0
    assert run_as(OWNER, machine, *words, "umount", str(machine.path)).returncode == 6
    assert run_as(OWNER, machine, *words, "status", str(machine.path)).returncode == 0
