"""What comes out: the table for a person, the JSON for the next run, and what was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import storefs
from bench.candidates import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.figures import Figure, Goal

_COLUMNS = ("storefs", "loop", "memory", "plain", "plain fsync", "rclone")


def machine(base: Path) -> dict[str, object]:
    """Where it was measured; `base` lies on the disk that was used."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "disk": _filesystem(base),
        "load": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Of everything that takes part."""
    rclone = subprocess.run([BIN / "rclone", "version"], check=True, capture_output=True, text=True)
    fuse = subprocess.run(["fusermount3", "--version"], check=True, capture_output=True, text=True)
    return {
        "storefs": storefs.__version__,
        "python": platform.python_version(),
        "pyfuse3": version("pyfuse3"),
        "trio": version("trio"),
        "fusermount3": fuse.stdout.split()[-1],
        "rclone": rclone.stdout.split()[1],
    }


def table(figures: list[Figure]) -> str:
    """Times are medians of the rounds' medians, in microseconds; `calm` is the same from p10."""
    rows: list[tuple[str, ...]] = [
        ("what", "documents", *_COLUMNS, "figure", "value", "calm", "reach", "")
    ]
    for figure in figures:
        rows += [_row(figure, goal, first=not at) for at, goal in enumerate(figure.goals)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in rows)


def compared(figures: list[Figure], old: Mapping[str, Any]) -> str:
    """One line per goal that both runs have: then, now, and how often now is what it was then.

    `old`: the JSON of an earlier run. Times compare only on the same machine; ratios anywhere.
    """
    rows = [("what", "figure", "then", "now", "now / then")]
    for figure in figures:
        before = {
            goal["name"]: goal for goal in old["figures"].get(figure.key, {}).get("goals", ())
        }
        for goal in figure.goals:
            if goal.name in before and (then := before[goal.name]["value"]):
                values = _number(then, goal.unit), _number(goal.value, goal.unit)
                rows.append((figure.what, goal.name, *values, f"{goal.value / then:.2f}"))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cells(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        left = at in (0, len(_COLUMNS) + 2)
        yield cell.ljust(width) if left else cell.rjust(width)


def _row(figure: Figure, goal: Goal, *, first: bool) -> tuple[str, ...]:
    numbers = {name: f"{times['p50']:,.1f}" for name, times in figure.microseconds.items()}
    numbers |= {name: f"{size:,.0f} MB" for name, size in figure.megabytes.items()}
    return (
        figure.what if first else "",
        f"{figure.documents:,}" if first else "",
        *(numbers.get(name, "") if first else "" for name in _COLUMNS),
        goal.name,
        _number(goal.value, goal.unit),
        "" if goal.calm is None else _number(goal.calm, goal.unit),
        f"≤ {goal.limit:g} {goal.unit}",
        "" if goal.met else "missed",
    )


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit == "MB" else f"{value:.2f} {unit}"


def _first(file: str, name: str) -> str:
    """The value of the first line that begins with this name."""
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def _filesystem(base: Path) -> str:
    """The type of the file system, as `stat -f` calls it."""
    words = ["stat", "-f", "-c", "%T", str(base)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
