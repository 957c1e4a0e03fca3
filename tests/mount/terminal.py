"""A program on a terminal of its own: keys are sent, and what it shows is waited for."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

from tests.mount.harness import PATIENCE, environment

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


def as_a_login() -> None:
    """The keys work, though the tests themselves may run in the background of a shell."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """An 80 x 24 terminal with one program in it."""

    def __init__(self, words: list[str], cwd: Path, home: Path) -> None:
        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(home, TERM="vt100", LANG="C.UTF-8"),
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=as_a_login,
        )
        os.close(inner)
        self.shown = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def _read(self, seconds: float) -> bool:
        """Take what the program shows; false when it ended."""
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                self.shown += os.read(self._fd, 4096)
            except OSError:  # EIO: the other end is closed
                return False
        return True

    def expect(self, *texts: bytes) -> None:
        """Wait until the program has shown one of the texts since the last keys."""
        end = time.monotonic() + PATIENCE
        while not any(text in self.shown for text in texts):
            if not self._read(0.1) or time.monotonic() > end:
                raise AssertionError(f"none of {texts!r} is shown, but {self.shown!r}")

    def send(self, keys: bytes) -> None:
        """Type."""
        self.shown = b""
        os.write(self._fd, keys)

    def end(self) -> int:
        """Wait until the program ends; returns its exit code."""
        end = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            self._read(0.05)
            assert time.monotonic() < end, f"it does not end: {self.shown!r}"
        return self._process.returncode
