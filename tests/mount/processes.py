"""Commands and daemons as processes of their own: for tests of the command line and the root."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from tests.mount.harness import Mount

_END_WITHIN = 30.0
"""Seconds a daemon may need to end when its mount is taken away."""


def token(value: object, **more: object) -> bytes:
    """A small auth document."""
    return json.dumps({"type": "claude", "access_token": value, **more}).encode()


def put(tree: Path, path: str, data: bytes) -> Path:
    """A file with its directories, as another machine or a person would make it."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def tree_of(top: Path) -> dict[str, bytes]:
    """Every file below `config/` and `auths/`, by its path."""
    files = (file for part in ("config", "auths") for file in (top / part).rglob("*"))
    return {str(file.relative_to(top)): file.read_bytes() for file in files if file.is_file()}


def mounted(place: Path) -> bool:
    """Whether anything is mounted there. Asks the kernel's table only, never the mount."""
    return str(place) in _mounted_places()


def _mounted_places() -> list[str]:
    def octal(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 8)])

    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [os.fsdecode(re.sub(rb"\\([0-7]{3})", octal, line.split()[4])) for line in lines]


@contextmanager
def launched(machine: Mount) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that may never be ready. None is left behind, however the test ends."""
    process = machine.launch()
    try:
        yield process
    finally:
        machine.process = None
        if process.poll() is None:
            process.kill()
        process.wait()
        machine.clear()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Another umask, for this process and what it starts."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@dataclass
class Place:
    """One machine whose commands a person types: a home, a mount point, a root, a store."""

    base: Path

    def __post_init__(self) -> None:
        self.home = self.base / "home"
        self.mnt = self.base / "mnt"
        self.root = self.base / "root"
        self.store = self.base / "store"
        self.home.mkdir(parents=True)

    def storefs(
        self, *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; it fails with TimeoutExpired when it hangs."""
        return subprocess.run(
            [sys.executable, "-m", "storefs", *map(str, words)],
            env=environment(self.home, **(env or {})),
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def mount(
        self,
        *options: str | Path,
        at: str | Path = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`storefs mount` as a daemon, with this machine's root and store."""
        places = "--local-store", self.store, "--mirror", self.root
        return self.storefs("mount", at or self.mnt, *places, *options, cwd=cwd, env=env)

    def daemon(self, root: Path | None = None) -> int:
        """The process id of the daemon that has the root."""
        return int(((root or self.root) / ".storefs/lock").read_text().split()[0])

    def log(self) -> str:
        """What the daemon wrote to the log file of its root."""
        with suppress(FileNotFoundError):
            return (self.root / ".storefs/log").read_text()
        return ""

    def __enter__(self) -> Self:
        if not os.path.exists("/dev/fuse"):
            pytest.skip("this machine has no /dev/fuse")
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take away every mount below this machine's directory, and end what served it."""
        for point in self._mounts():
            subprocess.run(["fusermount3", "-uz", point], check=False, capture_output=True)
        for lock in self.base.rglob(".storefs/lock"):
            with suppress(ValueError, IndexError):
                self._end(int(lock.read_text().split()[0]))

    def _mounts(self) -> list[str]:
        below = f"{self.base}/"
        return sorted((p for p in _mounted_places() if p.startswith(below)), reverse=True)

    def _end(self, pid: int) -> None:
        with suppress(OSError):
            if os.fsencode(self.base) not in Path(f"/proc/{pid}/environ").read_bytes():
                return
            if not ended(pid, _END_WITHIN):
                os.kill(pid, signal.SIGKILL)


def ended(pid: int, within: float) -> bool:
    """Whether a process that is no child of ours ends in time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(within * 1000))
    finally:
        os.close(fd)
