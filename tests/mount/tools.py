"""Programs that tests run in a mount, and what the daemon logs about it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, environment, until

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 16 << 20
"""Bytes of the longest document, unless --max-file-size says otherwise."""


class Log:
    """What the daemon logs from here on."""

    def __init__(self, mount: Mount) -> None:
        self._mount, self._before = mount, len(mount.log())

    def text(self) -> str:
        return self._mount.log()[self._before :]

    def expect(self, *words: str) -> None:
        """One line with all these words."""

        def said() -> bool:
            return any(all(w in line for w in words) for line in self.text().splitlines())

        until(said, f"a line with {words} in: {self.text()}")


def need(program: str) -> None:
    """Skip where a program of scripts/lib/setup.sh is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed; scripts/test installs it")


def call(mount: Mount, *words: str | Path, cwd: Path | None = None) -> str:
    """Run a program to its end; returns its output. It must succeed and complain of nothing."""
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd or mount.auths,
        env=environment(mount.home, LANG="C.UTF-8"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{words}: {done}"
    return done.stdout


def stored(mount: Mount, path: Path) -> bytes:
    """What the backend has."""
    return (mount.store / path.relative_to(mount.path)).read_bytes()
