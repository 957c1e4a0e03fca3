"""Runs one command on a mount: its words, its environment, its signals and its end.

The command belongs to the caller's process group, so the terminal and its keys are its own. The
mount is either a child of this process, in another session, or one that was there before. One
thread, no trio.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

from storefs import daemon, mountpoint
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_PASSED_ON = {
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip

_TICK = 1.0
"""Seconds between looks at what sends no signal."""

GRACE = 10.0
"""Seconds a mount may need to end, beyond what it may spend on sending."""

_KILLED = 5.0
"""Seconds for a killed process to be gone; one in a call that cannot be ended is left behind."""

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNALLED = 128
"""As a shell reports them; to the last the number of the signal is added."""


class Ground(Protocol):
    """The mount that a command stands on."""

    def lost(self) -> bool:
        """Whether it is gone, and with it every watch of the command."""

    def leave(self) -> None:
        """The command has ended."""


@dataclass
class Own:
    """A mount made for the command: a child of this process."""

    pid: int
    patience: float
    """Seconds it may need to send what is pending, and to end."""
    _gone: bool = False

    def lost(self) -> bool:
        self._gone = self._gone or os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return self._gone

    def leave(self) -> None:
        """End it; returns when it has sent what is pending. Raises Quit where it does not end."""
        if self.lost():
            return
        os.kill(self.pid, signal.SIGTERM)
        child = os.pidfd_open(self.pid)
        try:
            poll = select.poll()
            poll.register(child, select.POLLIN)
            if not poll.poll(_TICK * 1000):
                print("storefs: sending what is pending", file=sys.stderr)
                if not poll.poll(self.patience * 1000):
                    cause = f"its process {self.pid} still runs after {self.patience:g} s"
                    raise Quit(Exit.FAILED, f"the mount does not end: {cause}")
        finally:
            os.close(child)
        self.lost()


@dataclass
class Used:
    """A mount that was there before and stays."""

    place: Path
    serving: object = field(init=False)
    """Tells its daemon from another that takes its place."""
    subdir: str = field(init=False)

    def __post_init__(self) -> None:
        """Raises OSError where the mount does not answer."""
        state = self._state()
        self.serving = state.get("pid"), state.get("since")
        self.subdir = str(state.get("subdir") or "")

    def _state(self) -> Mapping[str, Any]:
        file = self.place / ".storefs/status"
        state: Mapping[str, Any] = json.loads(mountpoint.ask(file.read_bytes, mountpoint.PATIENCE))
        return state

    def lost(self) -> bool:
        try:
            state = self._state()
        except TimeoutError:  # busy or hanging: its watches are still there
            return False
        except (OSError, ValueError):
            return True
        return (state.get("pid"), state.get("since")) != self.serving

    def leave(self) -> None:
        pass


def live(place: Path) -> Used | None:
    """The storefs mount at `place`, None where there is none that lives."""
    if mountpoint.find(place) is None or mountpoint.state(place) is not mountpoint.State.ALIVE:
        return None
    with suppress(OSError, ValueError):
        return Used(place)
    return None


def filled(words: Sequence[str], place: Path, subdir: str) -> list[str]:
    """The words of a command with the places of the mount filled in.

    Raises Quit for a place that a mount of `subdir` does not have.
    """
    whole = {"config": place / "config/config.yaml", "auths": place / "auths"}
    part = {"config": place / "config.yaml", "auths": place}
    places = {subdir: part[subdir]} if subdir else whole
    done = list(words)
    for name in whole:
        if name in places:
            done = [word.replace(f"{{{name}}}", str(places[name])) for word in done]
        elif any(f"{{{name}}}" in word for word in done):
            raise Quit(Exit.USAGE, f"{{{name}}} is not in this mount, which shows {subdir}/ alone")
    return [word.replace("{mount}", str(place)) for word in done]


class _End(Enum):
    """Why a command is no longer waited for."""

    ENDED = "it ended"
    LOST = "the mount is gone"
    DEAF = "its watch on the config is gone"


@dataclass
class Runner:
    """One command, started again where that is wanted."""

    ground: Ground
    words: Sequence[str]
    env: Mapping[str, str]
    grace: float
    """Seconds from SIGTERM to SIGKILL for a command that must end."""
    config: Path | None = None
    """Started again when the watch on this file would be gone; None: never."""

    def run(self) -> int:
        """Returns the exit code as a shell tells it. Raises Quit where the mount is lost."""
        with _blocked() as mask:
            try:
                while True:
                    code = self._once(mask)
                    if code is not None:
                        return code
            finally:
                self.ground.leave()

    def _once(self, mask: set[int]) -> int | None:
        """The exit code; None: start it again."""
        watch = _Watch(self.config) if self.config else None
        try:
            process = _start(self.words, self.env, mask)
            daemon.notify("READY=1")
            end = self._attend(process, watch)
            if end is _End.ENDED:
                code = process.returncode
                return code if code >= 0 else _SIGNALLED - code
            print(f"storefs: {self.words[0]} is stopped: {end.value}", file=sys.stderr)
            _stop(process, self.grace)
        finally:
            if watch:
                watch.close()
        if end is _End.LOST:
            raise Quit(Exit.FAILED, "the mount ended under the command: start both again")
        return None

    def _attend(self, process: subprocess.Popen[bytes], watch: _Watch | None) -> _End:
        while process.poll() is None:
            if self.ground.lost():
                return _End.LOST
            if watch and watch.is_deaf():
                return _End.DEAF
            found = signal.sigtimedwait(_PASSED_ON | {signal.SIGCHLD}, _TICK)
            # What the kernel sent, a key of the terminal, has reached the whole process group.
            if found and found.si_signo != signal.SIGCHLD and found.si_code <= 0:
                process.send_signal(found.si_signo)
        return _End.ENDED


class _Watch:
    """The eyes of a program that watches the file: gone when another takes its name."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._inotify = INotify()
        self._gone = False
        self._inotify.add_watch(file, flags.DELETE_SELF | flags.MOVE_SELF)

    def is_deaf(self) -> bool:
        """Whether the watched file lost its name, and another has it."""
        self._gone = self._gone or bool(self._inotify.read(timeout=0))
        return self._gone and self._file.exists()

    def close(self) -> None:
        self._inotify.close()


@contextmanager
def _blocked() -> Iterator[set[int]]:
    """Signals wait until they are looked at; gives the mask from before."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    try:
        yield set(mask)
    finally:
        # Ctrl-C was the command's to answer, and it did; it must not end us by a traceback.
        while signal.sigtimedwait(_PASSED_ON | {signal.SIGCHLD}, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(words: Sequence[str], env: Mapping[str, str], mask: set[int]) -> subprocess.Popen[bytes]:
    """Raises NotStarted."""
    try:
        return subprocess.Popen(words, env=env, preexec_fn=partial(_become, os.getpid(), mask))
    except OSError as error:
        # A closed directory of PATH hides that the command is in none of them.
        code = _NOT_EXECUTABLE if _exists(words[0], env) else _NOT_FOUND
        raise NotStarted(code, f"{words[0]}: {error.strerror}") from None


def _exists(word: str, env: Mapping[str, str]) -> bool:
    """Whether there is a file that the first word of a command can mean."""
    if "/" in word:
        return os.path.exists(word)
    return any(os.path.exists(os.path.join(place, word)) for place in os.get_exec_path(env))


class NotStarted(Exception):
    """The command cannot be started: the exit code of a shell, and why."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(cause)
        self.code = code


def _become(parent: int, mask: set[int]) -> None:
    """In the new process, before it is the command: its watches would end with the mount."""
    daemon.end_with(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stop(process: subprocess.Popen[bytes], grace: float) -> None:
    process.terminate()
    process.send_signal(signal.SIGCONT)
    end = time.monotonic() + grace
    while process.poll() is None and time.monotonic() < end:
        signal.sigtimedwait({signal.SIGCHLD}, max(0.0, min(_TICK, end - time.monotonic())))
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED)
