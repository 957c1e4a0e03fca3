"""Writes many documents at once: `python -m bench.together DIRECTORY COUNT`, seconds as JSON.

So many processes are started and wait; the clock runs from the moment they are all let go until
the last has closed its document, which is then in the store.
"""

import json
import os
import sys
import time

from bench.calls import body, write


def measure(directory: str, count: int) -> float:
    """Seconds until all of `count` processes have written a document of their own."""
    names = [os.path.join(directory, name) for name in sorted(os.listdir(directory))[:count]]
    ready, told = os.pipe()
    gate, opener = os.pipe()
    serial = time.time_ns()
    children = []
    for number, name in enumerate(names):
        if (pid := os.fork()) == 0:
            os.close(opener)
            os.write(told, b".")
            os.read(gate, 1)  # until every copy of the other end is closed
            write(name, body(serial + number))
            os._exit(0)
        children.append(pid)
    waiting = 0
    while waiting < len(children):
        waiting += len(os.read(ready, len(children)))
    start = time.perf_counter()
    os.close(opener)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    if any(codes):
        raise RuntimeError(f"{sum(map(bool, codes))} of {count} writers failed")
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
