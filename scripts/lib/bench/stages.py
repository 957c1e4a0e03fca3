"""The measurements: each stage starts its candidates, runs the rounds and yields its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import candidates, figures
from bench.candidates import LIBRARY, Broken, Candidate, Mounted
from bench.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.figures import Figure

_PATIENCE = 300.0
"""Seconds for one round of one candidate."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    few: int
    many: int
    most: int
    """Documents: 1,000, 10,000 and 100,000."""
    writes: int
    changes: int
    lists: int
    """Calls of a round."""


FULL = Scale(rounds=7, few=1000, many=10_000, most=100_000, writes=200, changes=100, lists=20)
QUICK = Scale(rounds=2, few=50, many=100, most=200, writes=10, changes=5, lists=2)


def run(base: Path, scale: Scale) -> Iterator[Figure]:
    """Every figure, in the order of the table. Raises Broken, OSError."""
    yield from _few(base / "few", scale)
    yield from _many(base / "many", scale)
    yield from _most(base / "most", scale)


def _few(base: Path, scale: Scale) -> Iterator[Figure]:
    """Reading, stat, listing and writing of 1,000 documents; changes made elsewhere."""
    store = base / "store"
    for directory in ("store/auths", "plain", "source"):
        candidates.fill(base / directory, scale.few)
    plain = Candidate("plain", base / "plain")
    with ExitStack() as stack:
        storefs = stack.enter_context(candidates.storefs(base / "storefs", store))
        memory = stack.enter_context(candidates.memory(base / "memory"))
        rclone = stack.enter_context(candidates.rclone(base / "rclone", base / "source"))
        loop = stack.enter_context(candidates.loop(base / "loop", scale.few))
        candidates.fill(memory.documents, scale.few)
        everybody = [storefs, memory, plain, rclone]
        for mode, count in ("read", scale.few), ("stat", scale.few), ("list", scale.lists):
            calls = _compare(scale.rounds, [*everybody, loop], mode, count)
            figure = figures.FEW[mode](calls, scale.few)
            spent = _spent([storefs, loop, rclone], count) if mode == "read" else {}
            yield replace(figure, more=spent)
        yield figures.programs(_together(scale, [storefs, loop, rclone]), scale.few)
        changes = [_events(storefs, store / "auths", scale.changes) for _ in range(scale.rounds)]
        yield figures.changes(Samples(changes), scale.few)
        # Last, since rclone sends later what it was given: that must not disturb the others.
        calls = _compare(scale.rounds, everybody, "write", scale.writes)
        calls |= {"plain fsync": _compare(scale.rounds, [plain], "sync", scale.writes)["plain"]}
        yield figures.write(calls, scale.few)


def _spent(mounts: Sequence[Mounted], count: int) -> dict[str, float]:
    """CPU microseconds of each daemon for one open, read and close."""
    found = {}
    for mounted in mounts:
        before = candidates.cpu([mounted.pid])
        call(mounted, "read", count)  # which reads each document once before
        found[f"{mounted.name}_cpu_us"] = (candidates.cpu([mounted.pid]) - before) * 1e3 / count / 2
    return found


def _together(scale: Scale, everybody: Sequence[Candidate]) -> figures.Rates:
    """Calls a second of 1, 2, 4 and 8 programs that read at once, in alternating rounds."""
    rates: figures.Rates = {one.name: {} for one in everybody}
    for number in range(scale.rounds):
        first = number % len(everybody)
        for candidate in [*everybody[first:], *everybody[:first]]:
            for programs in figures.PROGRAMS:
                rate = _rate(candidate, programs, scale.few)
                rates[candidate.name].setdefault(programs, []).append(rate)
    return rates


def _rate(candidate: Candidate, programs: int, count: int) -> float:
    """Each program's own start is left out: the slowest one's calls tell."""
    words = [str(LIBRARY / "bench/calls.py"), str(candidate.documents), "read", str(count)]
    with ThreadPoolExecutor(programs) as pool:
        runs = [
            pool.submit(_measured, candidate, [sys.executable, "-IS", *words])
            for _ in range(programs)
        ]
        took = [sum(run.result()) / 1e6 for run in runs]
    return programs * count / max(took)


def _many(base: Path, scale: Scale) -> Iterator[Figure]:
    """Starting with a warm mirror, and memory, at 10,000 documents."""
    candidates.fill(base / "store/auths", scale.many)
    storefs = candidates.storefs(base / "storefs", base / "store")
    with storefs:
        cold = call(storefs, "list", 1)  # the mirror is filled
    rclone = candidates.rclone(base / "rclone", base / "store/auths")
    starts: dict[str, list[float]] = {"storefs": [], "rclone": []}
    for _ in range(scale.rounds):
        for mounted in (storefs, rclone):
            starts[mounted.name].append(mounted.start() * 1e6)
            mounted.stop()
    assert cold
    yield figures.start(
        {name: Samples([[t] for t in times]) for name, times in starts.items()}, scale.many
    )
    with storefs, rclone:
        yield figures.memory(
            "memory_10k",
            120,
            {one.name: _resident(one, scale.many) for one in (storefs, rclone)},
            scale.many,
        )


def _most(base: Path, scale: Scale) -> Iterator[Figure]:
    """Listing and memory at 100,000 documents."""
    documents = base / "store/auths"
    candidates.fill(documents, scale.most)
    storefs = candidates.storefs(base / "storefs", base / "store")
    filled = storefs.start()
    storefs.stop()
    rclone = candidates.rclone(base / "rclone", documents)
    with storefs, rclone:
        everybody: list[Candidate] = [storefs, Candidate("plain", documents), rclone]
        calls = _compare(scale.rounds, everybody, "list", 1)
        yield figures.list_most(calls, scale.most)
        yield figures.memory(
            "memory_100k",
            300,
            {"storefs": _resident(storefs, scale.most)},
            scale.most,
            first_mount_seconds=filled,
        )


def _resident(mounted: Mounted, count: int) -> float:
    """Resident MB when all documents have been listed and read."""
    call(mounted, "read", count)
    return mounted.memory() / 1e6


def _compare(
    rounds: int, everybody: Sequence[Candidate], mode: str, count: int
) -> dict[str, Samples]:
    """Alternating rounds: in each, every candidate in turn, another one first."""
    found = {candidate.name: Samples() for candidate in everybody}
    for number in range(rounds):
        first = number % len(everybody)
        for candidate in [*everybody[first:], *everybody[:first]]:
            found[candidate.name].rounds.append(call(candidate, mode, count))
    return found


def call(candidate: Candidate, mode: str, count: int) -> list[float]:
    words = [str(LIBRARY / "bench/calls.py"), str(candidate.documents), mode, str(count)]
    return _measured(candidate, [sys.executable, "-IS", *words])


def _events(candidate: Candidate, store: Path, count: int) -> list[float]:
    words = ["-m", "bench.events", str(candidate.documents), str(store), str(count)]
    return _measured(candidate, [sys.executable, *words])


def _measured(candidate: Candidate, command: list[str]) -> list[float]:
    """The times that a measuring program prints. Raises Broken."""
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = program.communicate(timeout=_PATIENCE)
    except BaseException as error:
        # It may wait for the candidate, and cannot be killed then: end that one first.
        candidate.kill()
        program.kill()
        program.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise Broken(f"{candidate.name}: {command[1:]} took {_PATIENCE:g} s") from None
    if program.returncode:
        raise Broken(f"{candidate.name}: {command[1:]} failed:\n{err}")
    times: list[float] = json.loads(out)
    return times
