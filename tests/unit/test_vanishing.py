"""When absence is believed: 1 s later, few at a time, and never at once for most of them."""

from __future__ import annotations

import pytest

from storefs.vanishing import BELIEVED_AFTER, CONFIRMED_AFTER, Vanishing


def absent(*paths: str, since: float = 100.0) -> Vanishing:
    vanishing = Vanishing()
    vanishing.note(paths, since)
    return vanishing


def test_it_is_believed_a_second_later_and_not_before() -> None:
    vanishing = absent("a")
    assert vanishing.next_look() == 100.0 + BELIEVED_AFTER
    assert vanishing.ripe(100.9) == []
    assert vanishing.ripe(101.0) == ["a"]


def test_seen_absent_again_it_does_not_start_anew() -> None:
    vanishing = absent("a")
    vanishing.note(["a", "b"], 100.5)
    assert vanishing.ripe(101.0) == ["a"]


def test_what_returned_is_not_absent() -> None:
    vanishing = absent("a", "b")
    vanishing.held_since = 100.0
    vanishing.returned("a")
    vanishing.returned("never noted")
    assert vanishing.ripe(102.0) == ["b"]
    assert vanishing.held_since == 100.0
    vanishing.returned("b")
    assert vanishing.held_since is None
    assert vanishing.next_look() is None


@pytest.mark.parametrize(
    ("gone", "known", "too_many"),
    [
        (0, 0, False),
        (1, 1, True),  # all of them
        (1, 2, False),
        (3, 3, True),
        (3, 4, False),
        (4, 5, True),  # more than three, and more than a fifth
        (4, 19, True),
        (4, 20, False),
        (20, 100, False),
        (21, 100, True),
    ],
)
def test_more_than_three_and_a_fifth_are_too_many(gone: int, known: int, too_many: bool) -> None:
    vanishing = absent(*(f"{number}" for number in range(gone)))
    assert vanishing.too_many(known) is too_many


def test_a_second_snapshot_confirms_what_was_absent_in_the_first() -> None:
    vanishing = absent("a", "b")
    assert vanishing.confirmed(1000.0) == []
    vanishing.held_since = 101.0
    vanishing.note(["late"], 110.0)
    assert vanishing.next_look() == 101.0 + CONFIRMED_AFTER
    assert vanishing.confirmed(101.0 + CONFIRMED_AFTER - 0.1) == []
    assert vanishing.confirmed(101.0 + CONFIRMED_AFTER) == ["a", "b"]
