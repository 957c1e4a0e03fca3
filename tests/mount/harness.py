"""How the tests mount: real daemons in processes of their own, over a store in a directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, ClassVar

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 20.0
"""Seconds a test waits for what must happen."""


def until(met: Callable[[], object], what: str, deadline: float = PATIENCE) -> None:
    """Wait until `met()` is true; fails with `what` when it never is."""
    end = time.monotonic() + deadline
    while not met():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(0.005)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A clean environment for a daemon or a command: its own home, nothing of ours."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": str(home)}
    # What a killed command leaves goes with the test run.
    return {**kept, "TMPDIR": gettempdir(), "PYTHONDONTWRITEBYTECODE": "1", **more}


def storefs(home: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "storefs", *words],
        env=environment(home),
        cwd=cwd or home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def mounts_below(place: Path) -> list[str]:
    """The mount points at or below a directory, deepest first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = line.split()[4].encode().decode("unicode_escape")
            if point == str(place) or point.startswith(f"{place}/"):
                found.append(point)
    return sorted(found, reverse=True)


@dataclass
class Mount:
    """One daemon in the foreground. Two of them over one `store` are two machines."""

    base: Path
    """Holds mount point, mirror, home and log of this machine."""
    store: Path
    options: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    program: ClassVar[str] = "tests.mount.faulty"
    """The module that is run: storefs, with what a test adds to it."""

    def __post_init__(self) -> None:
        self.path = self.base / "mnt"
        self.root = self.base / "root"
        self.home = self.base / "home"
        self.control = self.base / "control"
        """Files here are faults in force; see tests/faults.py and tests/mount/faulty.py."""
        for directory in (self.base, self.home, self.control):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def auths(self) -> Path:
        return self.path / "auths"

    @property
    def config(self) -> Path:
        return self.path / "config" / "config.yaml"

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the daemon without waiting for it."""
        words = ["mount", str(self.path), "--foreground", "--local-store", str(self.store)]
        words += ["--mirror", str(self.root), *self.options]
        with open(self.base / "stdout", "wb") as out, open(self.base / "stderr", "ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, str(self.control), *words],
                env=environment(self.home, **self.env),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        return self.process

    def start(self) -> Self:
        """Start the daemon and wait until it says that it is mounted."""
        process = self.launch()

        def said() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the daemon ended with {process.returncode}:\n{self.log()}")
            return b"is mounted at" in (self.base / "stdout").read_bytes()

        until(said, f"mounted\n{self.log()}", 60)
        return self

    def stop(self, number: int = signal.SIGTERM, deadline: float = 30.0) -> int:
        """End the daemon by a signal; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(deadline)
        self.process = None
        return code

    def kill(self) -> None:
        """kill -9, and clear the dead mount away."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None
        self.clear()

    def clear(self) -> None:
        """Take away whatever is mounted below this machine's directory."""
        for point in mounts_below(self.base):
            subprocess.run(["fusermount3", "-uz", point], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None:
            try:
                code = self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                if kind is None:
                    raise
            else:
                self.clear()  # first: a dead mount would break the next run in this place
                assert kind is not None or code == 0, f"ended with {code}:\n{self.log()}"
        self.clear()
        if kind is not None:
            print(f"--- log of {self.base.name}:\n{self.log()}", file=sys.stderr)

    def log(self) -> str:
        """What the daemon logged, all starts together."""
        with suppress(FileNotFoundError):
            return (self.base / "stderr").read_text(errors="replace")
        return ""

    def status(self) -> dict[str, Any]:
        """What `.storefs/status` says."""
        text = (self.path / ".storefs" / "status").read_text()
        found: dict[str, Any] = json.loads(text)
        return found

    def sync(self, words: str = "1") -> None:
        """Reconcile now; a program would do the same."""
        (self.path / ".storefs" / "sync").write_text(words)

    def fault(self, name: str, content: str = "") -> Path:
        """Put a fault in force, such as `commit.hang`; remove the file to end it."""
        file = self.control / name
        file.write_text(content)
        return file

    def commits(self) -> list[list[list[str]]]:
        """Every batch that was sent to the backend: [operation, path] each."""
        with suppress(FileNotFoundError):
            lines = (self.control / "log").read_text().splitlines()
            return [json.loads(line) for line in lines]
        return []

    def kept(self, place: str) -> dict[str, bytes]:
        """The copies in `conflicts`, `found` or `trash` of the root."""
        directory = self.root / ".storefs" / place
        return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


class Plain(Mount):
    """Without the wrapper that makes faults: it would hide what the backend says of itself."""

    program: ClassVar[str] = "tests.mount.plain"


class Watch:
    """An inotify watch on one directory or file, as a test's own eyes."""

    def __init__(self, place: Path, mask: int | None = None) -> None:
        self._inotify = INotify()
        default = (
            flags.MODIFY | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
            | flags.DELETE_SELF | flags.MOVE_SELF | flags.ATTRIB
        )  # fmt: skip
        self._inotify.add_watch(place, default if mask is None else mask)
        self._read: deque[tuple[str, str]] = deque()
        """Taken from the kernel, but not looked at yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._inotify.close()

    def events(self, seconds: float) -> Iterator[tuple[str, str]]:
        """(kind, name) as they come, for at most so many seconds."""
        end = time.monotonic() + seconds
        while True:
            while self._read:
                yield self._read.popleft()
            if (left := end - time.monotonic()) <= 0:
                return
            self._take(int(left * 1000) + 1)

    def _take(self, timeout: int) -> None:
        for event in self._inotify.read(timeout=timeout):
            for flag in flags.from_mask(event.mask & 0xFFFF):
                self._read.append((flag.name, event.name))

    def expect(self, kind: str, name: str = "", deadline: float = PATIENCE) -> None:
        """Wait for one event; fails with what came instead."""
        seen = []
        for event in self.events(deadline):
            if event == (kind, name):
                return
            seen.append(event)
        raise AssertionError(f"no {kind} {name!r} within {deadline:g} s, but {seen[:50]}")

    def drain(self) -> list[tuple[str, str]]:
        """What is in the queue right now."""
        self._take(0)
        taken = list(self._read)
        self._read.clear()
        return taken
