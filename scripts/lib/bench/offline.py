"""A backend that goes away: what the first call waits, the later ones, and the sending afterwards.

PostgreSQL behind a line that stalls, as a network does that drops everything: nobody is told.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import candidates
from bench.calls import body, write
from bench.candidates import BIN, Broken, Mounted
from bench.figures import Figure, Goal
from bench.samples import Samples, ratio
from tests.servers.pgbouncer import Line
from tests.servers.postgres_cluster import Cluster, binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.stages import Scale
    from tests.servers.postgres_cluster import Database

_DEADLINE = 2.0
_PATIENCE = 120.0


def run(base: Path, scale: Scale) -> Iterator[Figure]:
    """Every figure of an outage; none where no PostgreSQL is installed. Raises Broken, OSError."""
    found = binaries()
    if found is None:
        print("bench: no PostgreSQL server is installed: offline is left out", file=sys.stderr)
        return
    base.mkdir(parents=True, exist_ok=True)
    cluster = Cluster.make(found)
    try:
        yield from _outage(base / "outage", cluster.database(), scale)
        yield _behind(base / "behind", cluster.database(), scale)
    finally:
        cluster.remove()


def _storefs(base: Path, database: Database, *options: str) -> Mounted:
    words = ["mount", str(base / "mnt"), "--foreground", "--mirror", str(base / "root"), *options]
    return Mounted("storefs", base, [str(BIN / "storefs"), *words], "auths", **database.env())


def _outage(base: Path, database: Database, scale: Scale) -> Iterator[Figure]:
    first, later, online, sent = Samples(), Samples(), [], []
    with closing(Line(database.cluster.port)) as line:
        near = replace(database, cluster=replace(database.cluster, port=line.port))
        with _storefs(base, near, "--deadline", str(_DEADLINE)) as mounted:
            files = [str(mounted.documents / f"{n}.json") for n in range(scale.few)]
            for number, file in enumerate(files):
                _create(file, body(number))
            for turn in range(max(2, scale.rounds // 2)):
                online.append(sum(_rewrite(files, turn + 1)) / 1e6)
                with _stalled(line):
                    times = _rewrite(files, turn + 1000)
                    begun = time.perf_counter()
                first.rounds.append(times[:1])
                later.rounds.append(times[1:])
                _until(lambda: _status(mounted)["pending"] == 0, "everything is sent")
                sent.append(time.perf_counter() - begun)
    waited, after = first.summary(), later.summary()
    yield Figure(
        "offline_calls", "a write while the backend is away", scale.few,
        [
            Goal("the first", waited["p99"] / 1e6, _DEADLINE + 0.5, "s", waited["p10"] / 1e6),
            Goal("the later, p99", after["p99"] / 1e3, 20.0, "ms", after["p50"] / 1e3),
        ],
        {"first": waited, "later": after},
    )  # fmt: skip
    middle, least = sorted(sent)[len(sent) // 2], min(sent)
    usual = sorted(online)[len(online) // 2]
    goal = Goal("sent / written online", middle / usual, 2.0, "x", least / min(online))
    yield Figure(
        "offline_sent", "what is pending is sent", scale.few, [goal],
        more={"seconds_sent": middle, "seconds_online": usual},
    )  # fmt: skip


def _create(file: str, data: bytes) -> None:
    with open(file, "xb", buffering=0) as made:
        made.write(data)


@contextmanager
def _stalled(line: Line) -> Iterator[None]:
    line.stall()
    try:
        yield
    finally:
        line.flow()


def _rewrite(files: list[str], serial: int) -> list[float]:
    """Microseconds of each."""
    times = []
    for number, file in enumerate(files):
        data = body(serial * len(files) + number)
        begun = time.perf_counter_ns()
        write(file, data)
        times.append((time.perf_counter_ns() - begun) / 1000)
    return times


def _status(mounted: Mounted) -> dict[str, int]:
    found: dict[str, int] = json.loads((mounted.mountpoint / ".storefs/status").read_bytes())
    return found


def _until(met: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not met():
        if time.monotonic() > end:
            raise Broken(f"not within {_PATIENCE:g} s: {what}")
        time.sleep(0.005)


def _behind(base: Path, database: Database, scale: Scale) -> Figure:
    """`--commit behind` over PostgreSQL against the local backend, in turn."""
    found = {"storefs": Samples(), "local": Samples()}
    with (
        _storefs(base / "behind", database, "--commit", "behind") as behind,
        candidates.storefs(base / "local", base / "store") as local,
    ):
        files = {
            name: [str(mounted.documents / f"{number}.json") for number in range(scale.writes)]
            for name, mounted in (("storefs", behind), ("local", local))
        }
        for number in range(scale.writes):
            for each in files.values():
                _create(each[number], body(number))
        _until(lambda: _status(behind)["pending"] == 0, "everything is sent")
        for turn in range(scale.rounds):
            for name, each in files.items():
                found[name].rounds.append(_rewrite(each, turn + 1))
            _until(lambda: _status(behind)["pending"] == 0, "everything is sent")
    values = [ratio(found["storefs"], [found["local"]], share) for share in (0.5, 0.1)]
    goal = Goal("behind / local backend", values[0], 1.2, "x", values[1])
    times_of = {name: samples.summary() for name, samples in found.items()}
    return Figure("offline_behind", "O_TRUNC, write, close", 1, [goal], times_of)
