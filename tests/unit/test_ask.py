"""`ask`: a call that may never return costs its patience, nothing more."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from storefs.mountpoint import ask

# See test_mountpoint.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def test_ask_gives_the_answer_however_long() -> None:
    assert ask(lambda: b"x" * 1_000_000, 60.0) == b"x" * 1_000_000


def test_ask_raises_what_the_call_raised() -> None:
    with pytest.raises(FileNotFoundError):
        ask(lambda: Path("/nowhere/at/all").read_bytes(), 60.0)


def test_ask_does_not_wait_for_ever() -> None:
    def hang() -> bytes:
        signal.pause()
        return b""

    with pytest.raises(TimeoutError):
        ask(hang, 0.05)


def test_ask_survives_a_child_that_dies() -> None:
    def die() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        ask(die, 60.0)
