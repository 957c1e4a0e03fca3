"""Bringing many documents into the mirror: the disk takes some while the next are read.

Before the mount is made, so nobody else uses the mirror. Shows how far it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from storefs.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from storefs.backends.contract import Blob
    from storefs.mirror import Mirror


class Filling:
    """One filling, as a context. `done` of about `total` were handed over."""

    def __init__(self, mirror: Mirror, total: int) -> None:
        self._mirror, self._total = mirror, total
        self._progress = Progress("fetching", total)
        self._done = 0
        self._written: Future[object] | None = None

    async def take(self, blobs: Sequence[tuple[str, Blob]]) -> None:
        """Have the disk take these; returns when it has taken those before them, or refused."""
        await self._settled()
        self._written = self._mirror.fill(blobs)
        self._done += len(blobs)
        self._progress.show(min(self._done, self._total))

    async def _settled(self) -> None:
        if self._written is not None:
            await trio.to_thread.run_sync(self._written.result)

    async def __aenter__(self) -> Self:
        self._progress.__enter__()
        self._progress.show(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._settled()  # whatever follows uses the mirror
        finally:
            self._progress.__exit__(kind, error, trace)
