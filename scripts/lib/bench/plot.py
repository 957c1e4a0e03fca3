"""Plots as SVG, from the JSON of `--scale`: text, no library; legible on light and dark."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.scale_mounts import Row

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 170, 40, 48
_COLOURS = ("#3b82c4", "#d9822b", "#3f9b57", "#b04a8f", "#8a6d3b", "#5a5fc7")
_GREY = "#808080"


@dataclass(frozen=True)
class Plot:
    """One picture: which rows, which columns of them, and what the axes mean."""

    name: str
    title: str
    x: str
    unit: str
    lines: Mapping[tuple[str, str], str]
    """(part, column) -> what the line is called."""


PLOTS = (
    Plot(
        "documents-time", "Time by documents", "documents", "s",
        {
            ("documents-local", "fill_s"): "first fill, local",
            ("documents-local", "restart_s"): "restart, local",
            ("documents-postgres", "fill_s"): "first fill, PostgreSQL",
            ("documents-postgres", "restart_s"): "restart, PostgreSQL",
        },
    ),
    Plot(
        "documents-calls", "Listing and change by documents", "documents", "ms",
        {
            ("documents-local", "listing_ms"): "listing",
            ("documents-local", "change_p50_ms"): "change, local",
            ("documents-postgres", "change_p50_ms"): "change, PostgreSQL",
        },
    ),
    Plot(
        "documents-memory", "Resident memory and disk by documents", "documents", "MB",
        {
            ("documents-local", "memory_listed_mb"): "memory, local",
            ("documents-postgres", "memory_listed_mb"): "memory, PostgreSQL",
            ("documents-local", "disk_mb"): "disk",
        },
    ),
    Plot(
        "mounts-events", "Commit to event on the others, by mounts", "mounts", "ms",
        {
            ("mounts-postgres", "event_p50_ms"): "PostgreSQL p50",
            ("mounts-postgres", "event_p99_ms"): "PostgreSQL p99",
            ("mounts-s3", "event_p50_ms"): "S3 p50, poll 1 s",
            ("mounts-git", "event_p50_ms"): "Git p50, poll 1 s",
        },
    ),
    Plot(
        "mounts-server", "CPU of the server for one change, by mounts", "mounts", "ms",
        {
            ("mounts-postgres", "server_cpu_ms_a_change"): "PostgreSQL",
            ("mounts-s3", "server_cpu_ms_a_change"): "S3 (moto)",
            ("mounts-git", "server_cpu_ms_a_change"): "Git",
        },
    ),
    Plot(
        "mounts-commits", "Commits a second, different documents", "mounts", "",
        {
            ("commits-postgres", "mounts_commits_a_second"): "mounts",
            ("commits-postgres", "clients_commits_a_second"): "psycopg clients",
        },
    ),
)  # fmt: skip


def write(source: Path, directory: Path) -> None:
    """Draw every plot of which `source` has numbers. Raises OSError, ValueError."""
    parts: dict[str, list[Row]] = json.loads(source.read_text())["scale"]
    directory.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        lines = {
            called: [(row[plot.x], row[column]) for row in parts.get(part, ()) if column in row]
            for (part, column), called in plot.lines.items()
        }
        lines = {called: points for called, points in lines.items() if len(points) > 1}
        if lines:
            (directory / f"{plot.name}.svg").write_text(drawn(plot, lines))


def drawn(plot: Plot, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One SVG, both axes logarithmic; points of no or negative size are left out."""
    lines = {name: [(x, y) for x, y in points if y > 0] for name, points in lines.items()}
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))
    across = _Scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    up = _Scale(low, max(high, low * 10), _HEIGHT - _BOTTOM, _TOP)
    body = [_text(_LEFT, 22, plot.title, size=15)]
    for value in sorted(set(xs)):
        body.append(_text(across(value), _HEIGHT - _BOTTOM + 18, _short(value), anchor="middle"))
        body.append(_rule(across(value), _TOP, across(value), _HEIGHT - _BOTTOM))
    for value in up.decades():
        body.append(_text(_LEFT - 8, up(value) + 4, f"{_short(value)} {plot.unit}", anchor="end"))
        body.append(_rule(_LEFT, up(value), _WIDTH - _RIGHT, up(value)))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    body.append(_text(middle, _HEIGHT - 10, plot.x, anchor="middle"))
    for at, (name, points) in enumerate(lines.items()):
        body += _curve([(across(x), up(y)) for x, y in points], name, at)
    inside = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif">\n{inside}\n</svg>\n'
    )


@dataclass(frozen=True)
class _Scale:
    """From values to places, logarithmically."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.begin + share * (self.end - self.begin), 1)

    def decades(self) -> Iterator[float]:
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        yield from (10.0**power for power in range(first, last + 1))


def _curve(points: Sequence[tuple[float, float]], name: str, at: int) -> Iterator[str]:
    colour = _COLOURS[at % len(_COLOURS)]
    path = " ".join(f"{x},{y}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
    row = _TOP + 12 + 18 * at
    left = _WIDTH - _RIGHT + 12
    yield f'<rect x="{left}" y="{row - 8}" width="12" height="4" fill="{colour}"/>'
    yield _text(left + 18, row - 2, name)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 11) -> str:
    place = f'x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{_GREY}"'
    return f"<text {place}>{escape(text)}</text>"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {ends} stroke="{_GREY}" stroke-opacity="0.25"/>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
