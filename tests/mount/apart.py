"""Calls on a mount in a process of its own, so that one that hangs cannot hang the test.

`python apart.py CALL WORDS...` prints `done` and what it found, or the name of the errno. It runs
without the tests' packages, so nothing but the standard library is imported when it starts.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

ANSWERS = 20.0
"""Seconds within which a call that waits for nothing has answered, however busy the machine is.
Deadlines that must not be waited for are far longer."""


class Apart:
    """One call under way; enter to start it, leave to be rid of it."""

    def __init__(self, call: str, *words: object) -> None:
        self.said = f"{call} {' '.join(str(word) for word in words)}"
        self._command = [sys.executable, "-I", "-S", __file__, call, *map(str, words)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        # A process in an uninterruptible call ends when the mount does, which is after the test.
        if self._process.poll() is None:
            threading.Thread(target=self._process.wait, daemon=True).start()

    @property
    def waits(self) -> bool:
        """Whether the call has not returned yet."""
        return self._process.poll() is None

    def answer(self, limit: float = ANSWERS) -> str:
        """What it said; fails when it is still under way after `limit` seconds."""
        try:
            text, _ = self._process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.said}: no answer within {limit:g} s") from None
        return text.strip()


def answer(call: str, *words: object, limit: float = ANSWERS) -> str:
    """Make one call to its end."""
    with Apart(call, *words) as apart:
        return apart.answer(limit)


def _write(file: str, text: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _fsync(file: str, text: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, text.encode())
    os.fsync(fd)  # not closed: the close would commit what the fsync could not


def _look(top: str) -> str:
    """Stat, list, open and read everything below `top`, but what is made anew when it is read."""
    found = 0
    for directory, below, names in os.walk(top, onerror=_raise):
        os.statvfs(directory)
        for name in [*below, *names]:
            os.lstat(os.path.join(directory, name))
            found += 1
        for name in names:
            if name == "sync":
                continue
            with open(os.path.join(directory, name), "rb") as file:
                file.read()
    return str(found)


def _raise(error: OSError) -> None:
    raise error


def _closes(directory: str, count: str) -> str:
    """So many files, each written and closed by a thread of its own; how many closes failed."""
    failed = []

    def one(number: int) -> None:
        try:
            _write(f"{directory}/close{number}.json", f'{{"number": {number}}}')
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{len(failed)} failed"


_CALLS: dict[str, Callable[..., str | None]] = {
    "write": _write,
    "fsync": _fsync,
    "unlink": lambda file: os.unlink(file),
    "rename": lambda old, new: os.rename(old, new),
    "listdir": lambda directory: str(len(os.listdir(directory))),
    "look": _look,
    "closes": _closes,
}


def main() -> None:
    call, *words = sys.argv[1:]
    try:
        found = _CALLS[call](*words)
    except OSError as error:
        print(errno.errorcode[error.errno or 0])
    else:
        print("done" if found is None else f"done {found}")


if __name__ == "__main__":
    main()
