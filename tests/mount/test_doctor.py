"""storefs doctor beside real mounts: alive, dead, and hanging."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import storefs

if TYPE_CHECKING:
    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


def examined(mount: Mount) -> tuple[int, list[str]]:
    """Exit code, and the lines about this machine alone: others may test at the same time."""
    words = ["--local-store", str(mount.store), "--mirror", str(mount.root)]
    done = storefs(mount.home, "doctor", str(mount.path), *words)
    assert done.stderr == ""
    return done.returncode, [line for line in done.stdout.splitlines() if str(mount.base) in line]


def failed(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("fail")]


def test_a_live_mount(mount: Mount) -> None:
    (mount.auths / "a.json").write_bytes(b"{}")
    _, lines = examined(mount)
    assert failed(lines) == []
    assert any(f"the mount at {mount.path} answers" in line for line in lines)
    assert any(f"{mount.root} is writable" in line for line in lines)


def test_a_dead_mount(mounts: Mounts) -> None:
    mount = mounts(start=False).start()
    assert mount.process is not None
    mount.process.kill()
    mount.process.wait()
    mount.process = None
    code, lines = examined(mount)
    [line] = failed(lines)
    assert code == 1
    assert f"the mount at {mount.path} is dead" in line
    assert f"`storefs mount {mount.path}` replaces it" in line


def test_a_mount_that_hangs_costs_seconds(mount: Mount) -> None:
    assert mount.process is not None
    mount.process.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        code, lines = examined(mount)
        took = time.monotonic() - begun
    finally:
        mount.process.send_signal(signal.SIGCONT)
    assert code == 1
    assert took < 40
    [line] = failed(lines)
    assert f"the mount at {mount.path} does not answer" in line
