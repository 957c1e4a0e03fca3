"""What is shown of long work, and where."""

from __future__ import annotations

import os
import pty
import select
import termios
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, TextIO

import pytest

from storefs.progress import Progress, line

if TYPE_CHECKING:
    from collections.abc import Iterator

MUCH = 100_000


@contextmanager
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A terminal, and the descriptor at which what it shows can be read."""
    outer, inner = pty.openpty()
    try:
        with open(inner, "w") as stream:
            yield stream, outer
    finally:
        os.close(outer)


def shown(outer: int) -> str:
    """What was shown since the last call; a terminal makes CR LF of LF, and there is none."""
    if not select.select([outer], [], [], 0)[0]:
        return ""
    return os.read(outer, 4096).decode()


def test_a_terminal_shows_how_far_it_is_and_an_empty_line_in_the_end() -> None:
    with terminal() as (stream, outer):
        with Progress("fetching", MUCH, stream) as progress:
            progress.show(25_000)
            said = shown(outer)
            assert said.startswith("\rfetching 25,000 of 100,000")
            progress.show(25_001)
            assert shown(outer) == ""  # a moment later
        assert shown(outer) == "\r" + " " * (len(said) - 1) + "\r"


def test_what_is_soon_done_is_not_shown() -> None:
    with terminal() as (stream, outer):
        with Progress("fetching", 10, stream) as progress:
            progress.show(5)
        assert shown(outer) == ""


def test_what_is_no_terminal_gets_nothing() -> None:
    stream = StringIO()
    with Progress("fetching", MUCH, stream) as progress:
        progress.show(1)
    assert stream.getvalue() == ""


def test_a_terminal_that_stands_still_holds_nothing_up() -> None:
    with terminal() as (stream, outer):
        termios.tcflow(stream.fileno(), termios.TCOOFF)
        with Progress("fetching", MUCH, stream) as progress:
            progress.show(1)
        termios.tcflow(stream.fileno(), termios.TCOON)
        assert shown(outer) == ""


@pytest.mark.parametrize(
    ("done", "seconds", "width", "words"),
    [
        (0, 0.0, 79, f"fetching 0 of 1,000 [{'-' * 30}]"),
        (500, 5.0, 79, f"fetching 500 of 1,000 [{'#' * 15}{'-' * 15}] 5 s left"),
        (1, 1.0, 79, f"fetching 1 of 1,000 [{'-' * 30}] 16:39 min left"),
        (500, 5.0, 40, "fetching 500 of 1,000 5 s left"),
        (500, 5.0, 25, "fetching 500 of 1,000"),
        (500, 5.0, 10, "fetching 5"),
        (1000, 5.0, 79, f"fetching 1,000 of 1,000 [{'#' * 30}] 0 s left"),
    ],
)
def test_the_line_fits(done: int, seconds: float, width: int, words: str) -> None:
    assert line("fetching", done, 1000, seconds, width) == words


def test_nothing_to_do_is_done() -> None:
    assert line("fetching", 0, 0, 0.0, 79) == f"fetching 0 of 0 [{'#' * 30}]"
