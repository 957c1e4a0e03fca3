"""The path lock: one backend commit at a time for a path. Reconcile never takes it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from storefs.errors import BackendFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


class PathLocks:
    """Locks by path, alive while somebody holds or wants them."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    def held(self, path: str) -> bool:
        """Whether a commit of `path` is under way or about to be."""
        return path in self._locks

    @asynccontextmanager
    async def hold(self, paths: Iterable[str], deadline: float) -> AsyncIterator[None]:
        """Hold the locks of all `paths`, taken in sorted order so that two never wait in a ring.

        `deadline` is a trio time and bounds the waiting only. Raises BackendFailed.
        """
        held: list[str] = []
        try:
            for path in sorted(set(paths)):
                await self._acquire(path, deadline)
                held.append(path)
            yield
        finally:
            for path in held:
                self._release(path)

    async def _acquire(self, path: str, deadline: float) -> None:
        lock = self._locks.setdefault(path, trio.Lock())
        try:
            with trio.move_on_at(deadline):
                await lock.acquire()
                return
        finally:
            self._drop_if_free(path)
        raise BackendFailed(f"{path}: an earlier change is still on its way to the backend")

    def _release(self, path: str) -> None:
        self._locks[path].release()
        self._drop_if_free(path)

    def _drop_if_free(self, path: str) -> None:
        """A lock that nobody has would count as a commit under way for ever."""
        lock = self._locks.get(path)
        if lock is not None and not lock.locked():  # release() hands it on when somebody waits
            del self._locks[path]
