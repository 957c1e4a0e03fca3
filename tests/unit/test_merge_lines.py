"""Lines that both sides changed close to each other."""

from __future__ import annotations

import pytest

from storefs.lines import MergedLines, merge_lines

CASES = {
    "both cut a line, one puts another in its place": (
        b"a: 1\nb: 1\nc: 1\n",
        b"a: 1\nx: 1\nc: 1\n",
        b"a: 1\nc: 2\n",
        b"a: 1\nx: 1\nc: 2\n",
    ),
    "the same in its place": (b"b: 1\nc: 1\n", b"x: 1\nc: 2\n", b"x: 1\nc: 1\n", b"x: 1\nc: 2\n"),
    "a comment above a new line": (
        b"# n\nb: 1\n",
        b"  # m\nb: 1\n",
        b"# n\nx: 1\nb: 1\n",
        b"  # m\nx: 1\nb: 1\n",
    ),
    "another in its place": (b"b: 1\n", b"x: 1\n", b"y: 1\n", None),
    "new lines of different depth": (
        b"a:\n  k: 1\nz: 1\n",
        b"a:\n  k: 1\n  x: 1\nz: 1\n",
        b"a:\n  k: 1\ny:\nz: 1\n",
        None,
    ),
    "a new line below one that is gone": (
        b"a: 1\nb:\n  k: 1\n",
        b"a: 1\nb:\n  x: 1\n  k: 1\n",
        b"a: 1\n  k: 1\n",
        None,
    ),
    "two last lines without an end": (
        b"a: 1\r\nb: 2\nc: 3",
        b"a: 1\r\nb: 2\nc: 3\r\nd: 4",
        b"a: 1\r\nb: 2\nc: 3\r\ne: 5",
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("turned", [False, True])
def test_lines_beside_each_other(name: str, turned: bool) -> None:
    base, ours, theirs, wanted = CASES[name]
    if turned:
        ours, theirs = theirs, ours
    # Where nothing can be told apart the clash is as in ours.
    merged = merge_lines(base, ours, theirs)
    assert merged == MergedLines(ours if wanted is None else wanted, clash=wanted is None)
