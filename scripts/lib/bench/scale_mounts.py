"""How cost grows with machines: 1 to 32 mounts over one PostgreSQL, S3 server or Git remote.

A change is committed through the first mount; every other one must raise IN_MODIFY, after which
the new bytes are read there. All mounts, the server and the watcher share this machine.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

from bench.calls import body, write
from bench.candidates import Broken, cpu
from bench.samples import quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.candidates import Mounted

Row = dict[str, float]

_PATIENCE = 60.0
_PAUSE = 1.3
"""Seconds between two changes of one document: what is written sooner after a delivery is merged,
and a poll that both fall into would count twice."""


class Shared(Protocol):
    """The one store of all mounts."""

    place: str
    """Where it is: a DSN or URL."""

    def processes(self) -> list[int]:
        """The server's."""

    def mount(self, base: Path) -> Mounted: ...

    def counters(self) -> Row:
        """Numbers that only grow, by name: requests, notifications, …"""

    def gauges(self) -> Row:
        """Numbers as they are now: connections."""


@dataclass
class _Watched:
    mounted: Mounted
    inotify: INotify


def rows(shared: Shared, base: Path, counts: list[int], changes: int, idle: float) -> Iterator[Row]:
    """One row a count of mounts; nothing changes for `idle` seconds. Raises Broken, OSError."""
    with ExitStack() as stack:
        mounts: list[_Watched] = []
        for count in counts:
            while len(mounts) < count:
                mounted = stack.enter_context(shared.mount(base / f"mount-{len(mounts)}"))
                if not mounts:
                    _first(mounted)
                inotify = stack.enter_context(INotify())
                inotify.add_watch(mounted.documents, flags.MODIFY)
                mounts.append(_Watched(mounted, inotify))
            yield _row(shared, mounts, changes, idle)


def _first(mounted: Mounted) -> None:
    fd = os.open(mounted.documents / "a.json", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, body(0))
    os.close(fd)


def _row(shared: Shared, mounts: list[_Watched], changes: int, seconds: float) -> Row:
    daemons = [one.mounted.pid for one in mounts]
    idle = _spent(shared, daemons, lambda: time.sleep(seconds))
    latencies: list[list[float]] = [[] for _ in mounts[1:]]
    commits: list[float] = []

    def all_changes() -> None:
        for _ in range(changes):
            _change(mounts, latencies, commits)
            time.sleep(_PAUSE)

    busy = _spent(shared, daemons, all_changes)
    # What goes on anyway, polls for one, is no cost of the changes.
    own = {name: (busy[name] - idle[name] / idle["s"] * busy["s"]) / changes for name in idle}
    row = {"mounts": len(mounts), "commit_p50_ms": median(commits), **shared.gauges()}
    row |= {f"{name}_a_change": value for name, value in own.items() if name != "s"}
    row |= {
        f"{name}_a_minute": value / idle["s"] * 60 for name, value in idle.items() if name != "s"
    }
    if latencies:
        together = [value for one in latencies for value in one]
        row |= {
            "event_p50_ms": median(together),
            "event_p99_ms": quantile(together, 0.99),
            "event_max_ms": max(together),
        }
    return row


def _spent(shared: Shared, daemons: list[int], work: Callable[[], None]) -> Row:
    """What `work` costs: seconds, CPU milliseconds of server and daemons, the store's counters."""
    before, begun = _now(shared, daemons), time.perf_counter()
    work()
    after = _now(shared, daemons)
    return {name: after[name] - before[name] for name in after} | {"s": time.perf_counter() - begun}


def _now(shared: Shared, daemons: list[int]) -> Row:
    return {
        "server_cpu_ms": cpu(shared.processes()),
        "daemons_cpu_ms": cpu(daemons),
        **shared.counters(),
    }


def _change(mounts: list[_Watched], latencies: list[list[float]], commits: list[float]) -> None:
    """One change, and when each of the others has shown it (milliseconds from its commit)."""
    data, name = body(time.time_ns()), "a.json"
    called = time.perf_counter()
    write(str(mounts[0].mounted.documents / name), data)
    begun = time.perf_counter()
    commits.append((begun - called) * 1e3)
    waiting = {one.inotify.fd: at for at, one in enumerate(mounts[1:])}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    end = time.monotonic() + _PATIENCE
    while waiting:
        if (left := end - time.monotonic()) <= 0:
            raise Broken(f"{len(waiting)} of {len(mounts)} mounts show no change")
        for fd, _ in poll.poll(left * 1000):
            one = mounts[1 + waiting[fd]]
            one.inotify.read(timeout=0)
            if (one.mounted.documents / name).read_bytes() == data:
                latencies[waiting.pop(fd)].append((time.perf_counter() - begun) * 1e3)
                poll.unregister(fd)
