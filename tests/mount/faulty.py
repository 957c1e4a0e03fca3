"""`storefs` with faults: `python -m tests.mount.faulty CONTROL mount …`.

The backend is wrapped (tests/faults.py, driven by files in CONTROL), and a file
`CONTROL/break.<method>` makes that method of the VFS raise what nobody expects. A file
`CONTROL/clock` holds by how many seconds this machine's clock is wrong.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storefs import backends, cli
from storefs.control import Control
from storefs.handles import Handles
from storefs.inodes import Inodes
from storefs.names import Names
from storefs.vfs import Vfs
from tests.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Backend
    from storefs.settings import Settings


def _wrapped(opener: Callable[[Settings], Backend], control: Path) -> Callable[..., Backend]:
    def connect(settings: Settings) -> Backend:
        return Faults(opener(settings), control=control)

    return connect


def _breakable(owner: type, name: str, control: Path) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def call(*args: Any, **more: Any) -> Any:
        if (control / f"break.{name}").exists():
            raise RuntimeError(f"broken on purpose: {name}")
        return method(*args, **more)

    setattr(owner, name, call)


def _misset(control: Path) -> None:
    """Let the wall clock follow the control file; the monotonic one never jumps."""
    real = time.time_ns

    def wrong_ns() -> int:
        try:
            seconds = int((control / "clock").read_text() or 0)
        except FileNotFoundError:
            seconds = 0
        return real() + seconds * 1_000_000_000

    time.time_ns = wrong_ns
    time.time = lambda: wrong_ns() / 1e9


def main() -> int:
    control = Path(sys.argv[1])
    _misset(control)
    backends.OPENERS = {
        name: _wrapped(opener, control) for name, opener in backends.OPENERS.items()
    }
    for owner in (Vfs, Names, Inodes, Handles, Control):
        for name, value in list(vars(owner).items()):
            if callable(value) and not name.startswith("_"):
                _breakable(owner, name, control)
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
