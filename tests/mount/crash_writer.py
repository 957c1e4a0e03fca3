"""A program that rewrites documents over and over and notes what was acknowledged.

`python -m tests.mount.crash_writer DIRECTORY NOTES HOW NAME...`: writes each NAME in turn, with
a counter that goes on from the notes; HOW is `inplace` (O_TRUNC, write, close), `rename`
(temporary file, rename) or `delete` (in place, and each second time unlink). Every note is one
line, `began` or `done`, name, counter. Ends at the first call that fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

_PIECE = 30_000
"""Bytes of one write(2), so that most versions take several."""


def version(name: str, counter: int) -> bytes:
    """The bytes of a document's version: 70 bytes to 100 KB, no two of them alike."""
    seed = hashlib.sha256(f"{name} {counter}".encode()).digest()
    filler = (seed.hex() * 1600)[: int.from_bytes(seed[:4], "big") % 100_000]
    return json.dumps({"name": name, "counter": counter, "filler": filler}).encode()


def state(how: str, name: str, counter: int) -> bytes | None:
    """What the document is after that step; None: absent."""
    absent = counter == 0 or (how == "delete" and counter % 2 == 0)
    return None if absent else version(name, counter)


class Notes:
    """What the writers of all rounds said: per name the last counter begun and acknowledged."""

    def __init__(self, *files: Path) -> None:
        self.began: defaultdict[str, int] = defaultdict(int)
        self.done: defaultdict[str, int] = defaultdict(int)
        self.count = 0
        """Acknowledged writes, over all names."""
        for file in files:
            text = file.read_text() if file.exists() else ""
            for line in text[: text.rfind("\n") + 1].splitlines():  # the last may be unfinished
                kind, name, counter = line.split()
                if kind == "done":
                    self.done[name] = int(counter)
                    self.count += 1
                else:
                    self.began[name] = int(counter)


def _write(path: Path, data: bytes | None, how: str) -> None:
    if data is None:
        path.unlink()
        return
    target = path.with_name(path.name + ".tmp") if how == "rename" else path
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for start in range(0, len(data), _PIECE):
            os.write(fd, data[start : start + _PIECE])
    finally:
        os.close(fd)
    if how == "rename":
        target.rename(path)


def main() -> int:
    """Write until the mount is gone."""
    directory, notes, how, *names = sys.argv[1:]
    counters = Notes(Path(notes)).began
    log = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        for name in names:
            counters[name] += 1
            os.write(log, f"began {name} {counters[name]}\n".encode())
            try:
                _write(Path(directory) / name, state(how, name, counters[name]), how)
            except OSError as error:
                print(error)
                return 0
            os.write(log, f"done {name} {counters[name]}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
