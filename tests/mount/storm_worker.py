"""One program of the storm: random changes in one directory until a file says stop.

`python storm_worker.py DIRECTORY STOP SEED TAG PAUSE` prints a JSON count of what was
done and of the errnos met; whatever is not expected of a mount in a storm ends it with an error.
PAUSE: seconds between two changes. Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import suppress

NAMES = 12
_EXPECTED = {
    "ENOENT",  # somebody else was faster
    "EEXIST",
    "ENOTEMPTY",
    "EINVAL",  # a rename of what somebody is just writing
    "ESTALE",  # the document changed elsewhere
    "EBUSY",
    "EIO",  # waited too long behind the others
}
_UNMOUNTED = {"ENOTCONN", "ECONNABORTED", "ENODEV"}


class Worker:
    """Makes changes below one directory."""

    def __init__(self, top: str, seed: int, tag: str) -> None:
        self._top, self._tag = top, tag
        self._random = random.Random(seed)
        self._serial = 0
        self._changes = [
            *[self.write] * 3, self.replace, self.unlink, self.move,
            self.local, self.nest, self.look,
        ]  # fmt: skip

    def step(self) -> str:
        """One random change; returns what it was."""
        change = self._random.choice(self._changes)
        change()
        return change.__name__

    def _name(self) -> str:
        return f"{self._top}/storm{self._random.randrange(NAMES)}.json"

    def _put(self, name: str) -> None:
        self._serial += 1
        filler = "x" * self._random.choice([0, 10, 3000, 9000])
        document = {"by": self._tag, "serial": self._serial, "filler": filler}
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, json.dumps(document).encode())
        finally:
            os.close(fd)

    def write(self) -> None:
        self._put(self._name())

    def replace(self) -> None:
        temporary = f"{self._top}/.{self._tag}.tmp"
        self._put(temporary)
        os.rename(temporary, self._name())

    def unlink(self) -> None:
        os.unlink(self._name())

    def move(self) -> None:
        os.rename(self._name(), self._name())

    def local(self) -> None:
        name = f"{self._top}/{self._tag}.log"
        with open(name, "ab") as file:
            file.write(b"a line\n")
        if self._random.random() < 0.1:
            os.unlink(name)

    def nest(self) -> None:
        directory = f"{self._top}/{self._tag}"
        with suppress(FileExistsError):
            os.mkdir(directory)
        self._put(f"{directory}/nested.json")
        os.unlink(f"{directory}/nested.json")
        os.rmdir(directory)

    def look(self) -> None:
        for name in os.listdir(self._top):
            with suppress(FileNotFoundError):
                os.lstat(f"{self._top}/{name}")
        with open(self._name(), "rb") as file:
            file.read()


def main() -> None:
    top, stop, seed, tag, pause = sys.argv[1:]
    worker = Worker(top, int(seed), tag)
    done: Counter[str] = Counter()
    longest = 0.0
    while not os.path.exists(stop):
        began = time.monotonic()
        try:
            done[worker.step()] += 1
        except OSError as error:
            name = errno.errorcode[error.errno or 0]
            if name in _UNMOUNTED or not os.path.isdir(top):
                break
            if name not in _EXPECTED:
                raise
            done[name] += 1
        longest = max(longest, time.monotonic() - began)
        time.sleep(float(pause))
    print(json.dumps({"done": done, "longest": longest}))


if __name__ == "__main__":
    main()
