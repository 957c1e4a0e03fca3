"""What is measured: a plain directory, storefs, rclone mount. Each is started as a user would.

A mounted candidate is one process in the foreground. It gets SIGTERM when this process dies,
whatever the cause, and unmounts by itself; `stop` makes sure of both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.calls import body
from storefs.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PROFILE = "BENCH_PROFILE"
"""A directory: every storefs leaves a cProfile in it, and is slower. For whoever looks for time."""

_PATIENCE = 300.0
"""Seconds to wait for a mount: the first one of 100,000 documents copies them all."""
_STOP = 60.0
_LOOK = 0.002
_TICKS = os.sysconf("SC_CLK_TCK")

SPIN = Settings.__dataclass_fields__["spin"].default
"""Microseconds."""

BIN = Path(sys.prefix) / "bin"
LIBRARY = Path(__file__).parent.parent


class Broken(Exception):
    """A candidate did not start, answer or end; the message says which and what it printed."""


class Candidate:
    """A directory of documents. As it is: a plain directory."""

    def __init__(self, name: str, documents: Path) -> None:
        self.name = name
        self.documents = documents
        """Where programs find them."""
        self.pid = 0

    def kill(self) -> None:
        """Make calls that hang in it return."""


class Mounted(Candidate):
    """A directory that a process serves."""

    def __init__(
        self, name: str, base: Path, command: list[str], below: str = "", **env: str
    ) -> None:
        """`base` holds home, log and mount point; `below` is the documents' place in the mount."""
        self.base, self.mountpoint = base, base / "mnt"
        super().__init__(name, self.mountpoint / below)
        self._command = command
        self._env = {"PATH": os.environ["PATH"], "HOME": str(base), "LANG": "C.UTF-8", **env}
        self._process: subprocess.Popen[bytes] | None = None
        self.mountpoint.mkdir(parents=True, exist_ok=True)

    def start(self) -> float:
        """Mount; returns the seconds until it answered. Raises Broken."""
        begun = time.perf_counter()
        with open(self.base / "log", "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command],
                env=self._env,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        while not is_mounted(self.mountpoint):
            if self._process.poll() is not None or time.perf_counter() - begun > _PATIENCE:
                raise Broken(f"{self.name} did not mount:\n{self._said()}")
            time.sleep(_LOOK)
        os.stat(self.mountpoint)
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Unmount and end. Raises Broken if it had to be killed."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        late = False
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            process.wait()
        while is_mounted(self.mountpoint):
            unmount = ["fusermount3", "-uz", "--", str(self.mountpoint)]
            subprocess.run(unmount, check=True, capture_output=True)
        if late:
            raise Broken(f"{self.name} did not end within {_STOP:g} s:\n{self._said()}")

    def kill(self) -> None:
        """See Candidate."""
        if self._process is not None:
            self._process.kill()

    def memory(self) -> int:
        """Bytes of resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise Broken(f"{self.name} is not running:\n{self._said()}")

    def _said(self) -> str:
        with suppress(FileNotFoundError):
            return (self.base / "log").read_text(errors="replace")[-2000:]
        return ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            with suppress(Broken):
                self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.stop()
        else:
            with suppress(Broken, OSError, subprocess.SubprocessError):
                self.stop()


def storefs(base: Path, store: Path) -> Mounted:
    """storefs with the local backend."""
    return _storefs("storefs", base, "--local-store", str(store))


def memory(base: Path) -> Mounted:
    """storefs with the memory backend, whose documents are those that `fill` writes."""
    return _storefs("memory", base, "--backend", "memory")


def _storefs(name: str, base: Path, *options: str) -> Mounted:
    words = ["mount", str(base / "mnt"), "--foreground", "--mirror", str(base / "root"), *options]
    command, env = [str(BIN / "storefs"), *words], {}
    if directory := os.environ.get(PROFILE):
        command = [sys.executable, "-m", "bench.profiled", *words]
        env = {PROFILE: directory, "PYTHONPATH": str(LIBRARY)}
    return Mounted(name, base, command, "auths", **env)


def loop(base: Path, count: int) -> Mounted:
    """The bare pyfuse3 loop, with the spin of storefs and so many documents."""
    command = [sys.executable, "-m", "bench.loop", str(base / "mnt"), str(count), str(SPIN)]
    return Mounted("loop", base, command, PYTHONPATH=f"{LIBRARY}:{LIBRARY.parents[1]}")


def rclone(base: Path, source: Path) -> Mounted:
    """rclone mount with its full cache and otherwise its defaults, over a local directory."""
    command = [str(BIN / "rclone"), "mount", str(source), str(base / "mnt")]
    command += ["--vfs-cache-mode", "full", "--cache-dir", str(base / "cache")]
    return Mounted("rclone", base, command, RCLONE_CONFIG=str(base / "rclone.conf"))


def fill(directory: Path, count: int) -> None:
    """Make so many documents of 2 KB."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (directory / f"user-{number:06d}@example.com.json").write_bytes(body(number))


def is_mounted(place: Path) -> bool:
    """Whether anything is mounted at this place."""
    with open("/proc/self/mountinfo", "rb") as table:
        return any(line.split()[4] == os.fsencode(place) for line in table)


def cpu(pids: list[int]) -> float:
    """CPU milliseconds so far of these processes, the children that ended included."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError):  # ended: its parent has its time
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total * 1000 / _TICKS
