"""A mount over a memory backend, with a second session of it in the test's hand.

    python -m tests.mount.memory_mount mount MOUNTPOINT --foreground --backend memory …

Each line on stdin is a JSON list of [path, text or null] that another machine puts or deletes,
in one go. Only such a store can hold `a.json` beside `a.json/b.json`.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from storefs import backends, cli
from storefs.backends.contract import Change, Delete, Put
from storefs.backends.memory import Memory
from storefs.errors import StoreError


def _obey(machine: Memory) -> None:
    for line in sys.stdin:
        batch: list[Change] = []
        for path, text in json.loads(line):
            [(_, blob)] = machine.read([path])
            if text is not None:
                batch.append(Put(path, text.encode(), blob.entry.revision if blob else None))
            elif blob is not None:
                batch.append(Delete(path, blob.entry.revision))
        [outcome] = machine.commit([batch], 5.0)
        if isinstance(outcome, StoreError):  # the test must not wait for what never comes
            print(f"memory_mount: {outcome}", file=sys.stderr, flush=True)
            os._exit(70)


def main() -> int:
    memory = Memory()
    backends.OPENERS = {"memory": lambda settings: memory}
    threading.Thread(target=_obey, args=(memory.session(),), daemon=True).start()
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
