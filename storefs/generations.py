"""When each path last changed on this machine, so that reconcile never acts on old knowledge.

A generation is raised by each local change and each install. One counter serves all paths:
a pass notes it before it asks the backend and afterwards acts only on paths that did not move.
"""

from __future__ import annotations


class Generations:
    """The counter and the value it had at each path's last change."""

    def __init__(self) -> None:
        self.now = 0
        self._last: dict[str, int] = {}

    def advance(self, path: str) -> int:
        """Note a change of `path`; returns its new generation."""
        self.now += 1
        self._last[path] = self.now
        return self.now

    def of(self, path: str) -> int:
        """The generation of the last change, 0 when there is none on record."""
        return self._last.get(path, 0)

    def moved(self, path: str, mark: int) -> bool:
        """Whether `path` changed after the counter stood at `mark`."""
        return self._last.get(path, 0) > mark

    def forget(self, before: int) -> None:
        """Drop what no pass that began at or after `before` can ask for."""
        self._last = {path: at for path, at in self._last.items() if at > before}

    def __len__(self) -> int:
        return len(self._last)
