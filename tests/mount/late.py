"""`faulty` with answers that come late: `python -m tests.mount.late CONTROL mount …`.

While `CONTROL/read.late` or `CONTROL/commit.late` is there, the backend has done its work and the
answer does not arrive; `CONTROL/late.<op>` then says that one is on its way.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from storefs import backends
from tests.mount import faulty
from tests.mount.harness import Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from storefs.backends.contract import Backend, Batch, Blob, Entry, Outcome
    from storefs.backends.local import Local
    from storefs.settings import Settings


class Late:
    """The local backend with its answers held up."""

    def __init__(self, inner: Local, control: Path) -> None:
        self._inner, self._control = inner, control
        self.identity, self.concurrency = inner.identity, inner.concurrency

    def snapshot(self) -> Mapping[str, Entry]:
        return self._inner.snapshot()

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        answers = list(self._inner.read(paths))
        self._hold_up("read")
        yield from answers

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        outcomes = self._inner.commit(batches, timeout)
        self._hold_up("commit")
        return outcomes

    def wait(self, timeout: float) -> Collection[str] | None:
        return self._inner.wait(timeout)

    def close(self) -> None:
        self._inner.close()

    def _hold_up(self, what: str) -> None:
        while (self._control / f"{what}.late").exists():
            (self._control / f"late.{what}").touch()
            time.sleep(0.01)


class LateMount(Mount):
    """A machine whose backend may answer late."""

    program: ClassVar[str] = "tests.mount.late"


def _wrapped(opener: Callable[[Settings], Backend], control: Path) -> Callable[..., Backend]:
    def connect(settings: Settings) -> Backend:
        inner: Local = opener(settings)  # type: ignore[assignment]  # no other one is opened here
        return Late(inner, control)

    return connect


def main() -> int:
    control = Path(sys.argv[1])
    backends.OPENERS = {
        name: _wrapped(opener, control) for name, opener in backends.OPENERS.items()
    }
    return faulty.main()


if __name__ == "__main__":
    sys.exit(main())
