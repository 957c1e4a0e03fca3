"""A first fill on a terminal says how far it is; the daemon does, until it leaves the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.processes import Place, put, token, tree_of
from tests.mount.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.user

DOCUMENTS = 1100


def test_a_first_fill_is_shown_on_a_terminal_and_wiped_out(tmp_path: Path) -> None:
    with Place(tmp_path / "one") as place:
        for number in range(DOCUMENTS):
            put(place.store, f"auths/{number}.json", token(number))
        words = [sys.executable, "-m", "storefs", "mount", str(place.mnt)]
        words += ["--local-store", str(place.store), "--mirror", str(place.root)]
        shown_and_wiped_out(words, place, DOCUMENTS, b"local")
        assert len(tree_of(place.mnt)) == DOCUMENTS + 1


def shown_and_wiped_out(words: list[str], place: Place, documents: int, next_: bytes) -> None:
    """Mount on a terminal; `next_` is the first that is said after the line is gone."""
    with Terminal(words, place.home, place.home) as terminal:
        terminal.expect(f"\rfetching 0 of {documents:,}".encode())
        assert terminal.end() == 0
        terminal.expect(b"is mounted at")
        before = terminal.shown.partition(next_)[0]
    assert before.endswith(b" \r"), before
