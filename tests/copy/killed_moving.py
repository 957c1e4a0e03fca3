"""`storefs`, killed (SIGKILL) at one step of moving in: `killed_moving.py N COMMAND...`.

A step is whatever changes a disk or the store; N of them are made.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import wraps
from typing import TYPE_CHECKING

from storefs import cli, disk, movein, originals

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = (
    (movein.MoveIn, "_commit"),
    (movein.MoveIn, "_settle"),
    (movein.MoveIn, "_set_aside"),
    (originals, "save"),
    (originals, "set_aside"),
    (disk, "replace"),
    (os, "link"),
    (os, "unlink"),
    (os, "fsync"),
)


def arm(count: int) -> None:
    """Let the step after `count` others kill this process, once moving in has begun."""
    left = count
    begun = False

    def deadly(function: Callable[..., object]) -> Callable[..., object]:
        @wraps(function)
        def step(*args: object, **more: object) -> object:
            nonlocal left
            left -= begun
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)

        return step

    def run(self: movein.MoveIn, found: list[originals.Original]) -> None:
        nonlocal begun
        begun = True
        try:
            made(self, found)
        finally:
            begun = False

    made = movein.MoveIn.run
    movein.MoveIn.run = run  # type: ignore[assignment, method-assign]
    movein._CHUNK = 2
    for owner, name in STEPS:
        setattr(owner, name, deadly(getattr(owner, name)))


if __name__ == "__main__":
    arm(int(sys.argv[1]))
    sys.exit(cli.main(sys.argv[2:]))
