"""One line on a terminal that says how far a long piece of work has come.

Nothing is shown where the stream is not a terminal, nor of what is soon done. Never blocks: a
terminal that takes nothing (Ctrl-S) is left as it is. Knows nothing of what is being done.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_PATIENCE = 0.5
"""Seconds of work before a line is worth it, unless there is much to do."""

_MUCH = 1000
_INTERVAL = 0.1
_BAR = 30
"""Characters."""


class Progress:
    """Shown from the first `show` to the end of the block; then the line is empty again."""

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        """`what` is done to so many documents; `stream` is stderr where none is given."""
        self._what, self._total = what, total
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._begun = self._next = time.monotonic()
        if total < _MUCH:
            self._next += _PATIENCE
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._write("")

    def show(self, done: int) -> None:
        """So many of them are done. Cheap: most calls show nothing."""
        now = time.monotonic()
        if self._terminal and now >= self._next:
            self._next = now + _INTERVAL
            columns = shutil.get_terminal_size().columns
            self._write(line(self._what, done, self._total, now - self._begun, columns - 1))

    def _write(self, text: str) -> None:
        """In place of what is shown. By spaces: not every terminal knows how to erase."""
        ready = select.poll()
        ready.register(self._stream.fileno(), select.POLLOUT)
        if not ready.poll(0):
            return
        words = f"\r{text.ljust(self._shown)}" + ("" if text else "\r")
        os.write(self._stream.fileno(), words.encode())
        self._shown = len(text)


def line(what: str, done: int, total: int, seconds: float, width: int) -> str:
    """The words for `done` of `total` after so many seconds, in at most `width` characters."""
    share = done / total if total else 1.0
    words = f"{what} {done:,} of {total:,}"
    filled = int(share * _BAR)
    bar = f" [{'#' * filled}{'-' * (_BAR - filled)}]"
    left = f" {_duration(seconds * (total - done) / done)} left" if done and seconds else ""
    for shown in (words + bar + left, words + left, words):
        if len(shown) <= width:
            return shown
    return words[: max(width, 0)]


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d} min" if whole >= 60 else f"{whole} s"
