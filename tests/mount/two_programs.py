"""Two programs with the same file open: a script of steps, and what each of them sees.

`run` plays the script in two processes, `a` and `b`, over any directory; the transcript holds
what each step answered and what both see afterwards. `python -m tests.mount.two_programs
DIRECTORY` is one such program: JSON commands on stdin, answers on stdout.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.mount.harness import environment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Step = tuple[str, str, *tuple[Any, ...]]
"""Program (`a` or `b`), call, arguments."""


class Program:
    """The calls a program can be told to make; `fds` are its descriptors by name."""

    def __init__(self) -> None:
        self.fds: dict[str, int] = {}
        self.maps: dict[str, mmap.mmap] = {}

    def open(self, key: str, name: str, *flags: str) -> None:
        value = 0
        for flag in flags:
            value |= getattr(os, flag)
        self.fds[key] = os.open(name, value, 0o600)

    def close(self, key: str) -> None:
        os.close(self.fds.pop(key))

    def write(self, key: str, text: str) -> int:
        return os.write(self.fds[key], text.encode())

    def pwrite(self, key: str, text: str, offset: int) -> int:
        return os.pwrite(self.fds[key], text.encode(), offset)

    def read(self, key: str, size: int) -> str:
        return os.read(self.fds[key], size).decode()

    def seek(self, key: str, offset: int, whence: int) -> int:
        return os.lseek(self.fds[key], offset, whence)

    def ftruncate(self, key: str, size: int) -> None:
        os.ftruncate(self.fds[key], size)

    def truncate(self, name: str, size: int) -> None:
        os.truncate(name, size)

    def fsync(self, key: str) -> None:
        os.fsync(self.fds[key])

    def map(self, key: str, size: int) -> None:
        self.maps[key] = mmap.mmap(self.fds[key], size)

    def poke(self, key: str, text: str, offset: int) -> None:
        self.maps[key][offset : offset + len(text)] = text.encode()

    def msync(self, key: str) -> None:
        self.maps[key].flush()

    def unmap(self, key: str) -> None:
        self.maps.pop(key).close()

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, name: str) -> None:
        os.unlink(name)

    def put(self, name: str, text: str) -> None:
        with open(name, "wb") as file:
            file.write(text.encode())

    def see(self, name: str) -> dict[str, Any]:
        """All that this program can see of the file: by name, by descriptor, by mapping."""
        seen: dict[str, Any] = {"entries": sorted(os.listdir("."))}
        try:
            with open(name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                seen["name"] = [file.read().decode(), size, os.stat(name).st_size]
        except FileNotFoundError:
            seen["name"] = None
        for key, fd in self.fds.items():
            info = os.fstat(fd)
            seen[key] = [info.st_size, info.st_nlink, os.lseek(fd, 0, os.SEEK_CUR)]
            flags = os.get_blocking(fd) and _access(fd)
            if flags != os.O_WRONLY:
                seen[key].append(os.pread(fd, 1 << 20, 0).decode())
        for key, mapping in self.maps.items():
            seen[f"map {key}"] = mapping[:].decode()
        return seen


def _access(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        flags = next(line for line in info if line.startswith("flags"))
    return int(flags.split()[1], 8) & os.O_ACCMODE


class Played:
    """A program of its own process."""

    def __init__(self, directory: Path, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mount.two_programs", str(directory)],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: Any) -> Any:
        """Make one call; returns its value or the name of its errno."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """End the program; its descriptors are closed."""
        self._process.communicate(timeout=60)


def run(script: Iterable[Step], directory: Path, home: Path, name: str) -> list[Any]:
    """Play the script in `directory`; one entry per step: what was done, said and then seen."""
    programs = {"a": Played(directory, home), "b": Played(directory, home)}
    transcript = []
    try:
        for who, *words in script:
            said = programs[who].call(*words)
            seen = {key: program.call("see", name) for key, program in programs.items()}
            transcript.append([[who, *words], said, seen])
    finally:
        for program in programs.values():
            program.end()
    return transcript


def main() -> int:
    """Obey until stdin ends."""
    os.chdir(sys.argv[1])
    program = Program()
    for line in sys.stdin:
        call, *words = json.loads(line)
        try:
            answer = getattr(program, call)(*words)
        except OSError as error:
            answer = f"error {errno.errorcode[error.errno or 0]}"
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
