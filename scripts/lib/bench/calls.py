"""Times file system calls: `python calls.py DIRECTORY MODE COUNT`, a JSON list of microseconds.

Modes: `read` (open, read, close), `stat`, `list` (the names of the directory), `write` (open with
O_TRUNC, write, close), `sync` (the same with an fsync before the close). The documents of the
directory are taken in turn; each is touched once before the clock runs, so all is warm. A
program of its own that needs the standard library alone: all candidates are measured by it.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable

SIZE = 2000


def body(serial: int) -> bytes:
    """A valid document of SIZE bytes; another serial, other bytes."""
    head = b'{"type": "bench", "serial": %d, "token": "' % serial
    return head + b"x" * (SIZE - len(head) - 2) + b'"}'


def read(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    found = os.read(fd, SIZE * 2)
    os.close(fd)
    if len(found) != SIZE:
        raise RuntimeError(f"{path}: {len(found)} bytes")


def write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    os.write(fd, data)
    os.close(fd)


def sync(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


def stat(path: str, data: bytes) -> None:
    os.stat(path)


def list_names(path: str, data: bytes) -> None:
    os.listdir(path)


CALLS: dict[str, Callable[[str, bytes], None]] = {
    "read": read,
    "stat": stat,
    "list": list_names,
    "write": write,
    "sync": sync,
}


def measure(directory: str, mode: str, count: int) -> list[float]:
    """Microseconds of each of `count` calls."""
    call, warm = CALLS[mode], "read" if mode in ("write", "sync") else mode
    names = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    names = [directory] if mode == "list" else names[:count]
    for name in names:
        CALLS[warm](name, b"")
    gc.collect()
    gc.disable()
    clock, times, serial = time.perf_counter_ns, [], time.time_ns()
    for number in range(count):
        name, data = names[number % len(names)], body(serial + number)
        start = clock()
        call(name, data)
        times.append((clock() - start) / 1000)
    return times


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
