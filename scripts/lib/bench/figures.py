"""The figures: what each compares, and what it should reach. Names and limits stand here only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from bench.samples import Samples, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Calls = dict[str, Samples]
Rates = dict[str, dict[int, list[float]]]
"""Calls a second, round by round: candidate -> programs at once."""

PROGRAMS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Goal:
    """One number and its limit."""

    name: str
    value: float
    limit: float
    unit: str
    calm: float | None = None
    """The same from p10 instead of p50: what a machine does that has nothing else to do."""

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True)
class Figure:
    """One row of the table: the goals, and the times they were made of."""

    key: str
    what: str
    documents: int
    goals: list[Goal]
    microseconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    megabytes: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        goals = [{**asdict(goal), "met": goal.met} for goal in self.goals]
        return {**asdict(self), "goals": goals}


def _times(calls: Calls) -> dict[str, dict[str, float]]:
    return {name: samples.summary() for name, samples in calls.items()}


def _times_of(calls: Calls, limit: float, *others: str) -> Goal:
    """storefs over the others together."""
    theirs = [calls[name] for name in others]
    values = [ratio(calls["storefs"], theirs, share) for share in (0.5, 0.1)]
    return Goal(f"storefs / {' + '.join(others)}", values[0], limit, "x", values[1])


def _compared(
    key: str, what: str, limits: Mapping[str, float], calls: Calls, documents: int
) -> Figure:
    goals = [_times_of(calls, limit, other) for other, limit in limits.items()]
    return Figure(key, what, documents, goals, _times(calls))


FEW: Mapping[str, Callable[[Calls, int], Figure]] = {
    "read": partial(_compared, "read", "open, read, close", {"loop": 1.25, "rclone": 0.3}),
    "stat": partial(_compared, "stat", "stat", {"plain": 1.5}),
    "list": partial(_compared, "list", "listing", {"loop": 1.3, "rclone": 1.0}),
}


def programs(rates: Rates, documents: int) -> Figure:
    """Eight programs that open, read and close at once; fewer of them beside it."""
    most = max(PROGRAMS)
    goals = []
    for other, limit in ("loop", 0.75), ("rclone", 1.4):
        pairs = zip(rates["storefs"][most], rates[other][most], strict=True)
        values = sorted(theirs / ours for ours, theirs in pairs)
        # The other way round, so that a smaller value is better here too.
        name = f"{other} / storefs, calls a second"
        goals.append(Goal(name, values[len(values) // 2], 1 / limit, "x", values[0]))
    more = {
        f"{name}_{count}": sorted(one)[len(one) // 2]
        for name, counts in rates.items()
        for count, one in counts.items()
    }
    return Figure("read_8", "the same by 8 programs", documents, goals, more=more)


def list_most(calls: Calls, documents: int) -> Figure:
    """The listing of the largest directory."""
    seconds = {share: calls["storefs"].summary()[share] / 1e6 for share in ("p50", "p10")}
    goal = Goal("storefs", seconds["p50"], 1.2, "s", seconds["p10"])
    return Figure("list_100k", "listing", documents, [goal], _times(calls))


def write(calls: Calls, documents: int) -> Figure:
    """A document rewritten and committed, against its parts."""
    goal = _times_of(calls, 1.5, "memory", "plain fsync")
    return Figure("write", "O_TRUNC, write, close", documents, [goal], _times(calls))


def changes(samples: Samples, documents: int) -> Figure:
    """A change made elsewhere, until a program that was told has read it."""
    found = samples.summary()
    goals = [
        Goal("p50", found["p50"] / 1e3, 10.0, "ms", found["p10"] / 1e3),
        Goal("p99", found["p99"] / 1e3, 50.0, "ms"),
    ]
    return Figure("change", "change to event", documents, goals, {"storefs": found})


def start(calls: Calls, documents: int) -> Figure:
    """From the command to a mount that answers."""
    seconds = calls["storefs"].summary()
    goal = Goal("storefs", seconds["p50"] / 1e6, 1.5, "s", seconds["p10"] / 1e6)
    return Figure("start", "mount, mirror warm", documents, [goal], _times(calls))


def memory(
    key: str, limit: float, megabytes: dict[str, float], documents: int, **more: float
) -> Figure:
    """Resident memory when every document has been listed and read."""
    goal = Goal("storefs", megabytes["storefs"], limit, "MB")
    return Figure(key, "memory, all read", documents, [goal], megabytes=megabytes, more=more)
