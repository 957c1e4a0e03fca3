"""Times remote changes: `python events.py WATCHED STORE COUNT`, a JSON list of microseconds.

Each change renames a new version over a document below STORE; its time ends when, after an
IN_MODIFY of that name in WATCHED, the new content was read there. One process makes the change
and sees it arrive, so one clock measures both.
"""

import json
import os
import sys
import time
from pathlib import Path

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

from bench.calls import body

PATIENCE = 20.0


def arrive(inotify: INotify, file: Path, data: bytes) -> None:
    """Wait for the event of `file` after which it holds `data`."""
    end = time.monotonic() + PATIENCE
    while (left := end - time.monotonic()) > 0:
        for event in inotify.read(timeout=left * 1000):
            if event.name == file.name and file.read_bytes() == data:
                return
    raise TimeoutError(f"{file}: no IN_MODIFY with the new content within {PATIENCE:g} s")


def measure(watched: Path, store: Path, count: int) -> list[float]:
    """Microseconds of each of `count` changes, one after the other."""
    names = sorted(os.listdir(store))
    aside = store.parent / "bench-aside"
    times, serial = [], time.time_ns()
    with INotify() as inotify:
        inotify.add_watch(watched, flags.MODIFY)
        for number in range(count):
            name, data = names[number % len(names)], body(serial + number)
            aside.write_bytes(data)
            start = time.perf_counter_ns()
            aside.rename(store / name)
            arrive(inotify, watched / name, data)
            times.append((time.perf_counter_ns() - start) / 1000)
    return times


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
