"""Marks: what reconcile shall look at, and when a name may go once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.marks import BETWEEN_REMOVALS, Marks
from tests.machines import follow

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def marks(woken: list[str]) -> Marks:
    marks = Marks()
    marks.wake = lambda: woken.append("woken")
    return marks


def test_every_mark_wakes_and_an_empty_hint_does_not(marks: Marks, woken: list[str]) -> None:
    marks.mark([])
    assert not woken
    marks.mark(["a"])
    marks.mark_everything()
    marks.show("b")
    assert len(woken) == 3
    assert (marks.dirty, marks.everything, marks.shows) == ({"a"}, True, {"b"})


def test_what_was_deferred_is_dirty_when_the_change_is_over(marks: Marks, woken: list[str]) -> None:
    marks.deferred = {"a"}
    marks.over("b")
    assert not woken
    assert marks.deferred == {"a"}
    marks.over("a")
    assert woken
    assert (marks.deferred, marks.dirty) == (set(), {"a"})


def test_a_name_goes_once_in_1_1_seconds(
    marks: Marks, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(mock_clock, monkeypatch)
    assert marks.removable_in("a") == 0
    marks.removed("a")
    mock_clock.jump(0.5)
    assert marks.removable_in("a") == pytest.approx(BETWEEN_REMOVALS - 0.5)
    assert marks.removable_in("b") == 0
    marks.removed("a")
    assert marks.removable_in("a") == pytest.approx(BETWEEN_REMOVALS)
    mock_clock.jump(BETWEEN_REMOVALS)
    assert marks.removable_in("a") == 0


def test_it_remembers_no_more_than_it_must(
    marks: Marks, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(mock_clock, monkeypatch)
    for number in range(100):
        marks.removed(str(number))
        mock_clock.jump(1)
    assert len(marks._removed) <= 3
