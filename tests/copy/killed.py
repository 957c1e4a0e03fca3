"""`storefs`, killed (SIGKILL) in the middle: `killed.py N SUFFIX COMMAND...`.

N commits by `copy` or moving in are made in full; SUFFIX `before` or `after` the next one it ends.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from storefs import cli, copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.backends.contract import Change


def arm(count: int, *, before: bool) -> None:
    """Make the commits of a copy small, and the last of them deadly."""
    made = copy.Copy._commit
    left = [count]

    def commit(self: copy.Copy, changes: Sequence[Change], **more: Any) -> list[str]:
        left[0] -= 1
        if left[0] < 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        again = made(self, changes, **more)
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return again

    copy._CHUNK = 4
    copy.Copy._commit = commit  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(int(sys.argv[1]), before=sys.argv[2] == "before")
    sys.exit(cli.main(sys.argv[3:]))
