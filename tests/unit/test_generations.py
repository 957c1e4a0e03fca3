"""The counter that keeps reconcile from acting on old knowledge."""

from __future__ import annotations

from storefs.generations import Generations


def test_each_change_is_newer_than_every_mark_before_it() -> None:
    generations = Generations()
    mark = generations.now
    assert not generations.moved("a", mark)
    first = generations.advance("a")
    assert generations.moved("a", mark)
    assert not generations.moved("a", first)
    assert not generations.moved("b", mark)
    second = generations.advance("b")
    assert second > first
    assert (generations.of("a"), generations.of("b"), generations.of("c")) == (first, second, 0)
    assert generations.now == second


def test_what_is_forgotten_has_not_moved_since() -> None:
    generations = Generations()
    generations.advance("old")
    mark = generations.now
    generations.advance("new")
    generations.forget(mark)
    assert len(generations) == 1
    assert not generations.moved("old", mark)
    assert generations.moved("new", mark)
