"""Commits of different documents: so many mounts, each with a program, against plain clients.

`python -m bench.scale_commits DSN NAME COUNT` is one such client: seconds as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

import psycopg

from bench import postgres
from bench.calls import body
from bench.candidates import LIBRARY
from bench.scale_stores import on_postgres
from storefs.backends.postgres_schema import tables_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.candidates import Mounted

Row = dict[str, float]


def rows(base: Path, counts: list[int], commits: int, rounds: int) -> Iterator[Row]:
    """One row a count: commits a second of all together. Raises Broken, OSError.

    `commits`: of all of them in one round.
    """
    with on_postgres(base) as shared, ExitStack() as stack:
        mounts: list[Mounted] = []
        for count in counts:
            while len(mounts) < count:
                number = len(mounts)
                mounted = stack.enter_context(shared.mount(base / f"mount-{number}"))
                mounts.append(mounted)
                (mounted.documents / f"m{number}").mkdir()
                postgres.rewrite(mounted.documents / f"m{number}/a.json", body(0))
                postgres.rewrite(mounted.documents / f"c{number}.json", body(0))
            ours, theirs, writes = [], [], max(5, commits // count)
            for _ in range(rounds):
                calls = [_calls(one, at, writes) for at, one in enumerate(mounts)]
                ours.append(_rate(calls, writes))
                clients = [_client(shared.place, at, writes) for at in range(count)]
                theirs.append(_rate(clients, writes))
            yield {
                "mounts": count,
                "mounts_commits_a_second": median(ours),
                "clients_commits_a_second": median(theirs),
                "ratio": median(one / other for one, other in zip(ours, theirs, strict=True)),
            }


def _calls(mounted: Mounted, number: int, writes: int) -> list[str]:
    calls = str(LIBRARY / "bench/calls.py")
    place = f"{mounted.documents}/m{number}"
    return [sys.executable, "-IS", calls, place, "write", str(writes)]


def _client(dsn: str, number: int, writes: int) -> list[str]:
    return [sys.executable, "-m", "bench.scale_commits", dsn, f"c{number}.json", str(writes)]


def _rate(commands: list[list[str]], writes: int) -> float:
    """Commits a second of all programs; the slowest one's own time counts, its start does not."""
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        for words in commands
    ]
    try:
        took = [json.loads(each.communicate(timeout=300)[0]) for each in running]
    finally:
        for each in running:
            each.kill()
    seconds = [sum(one) / 1e6 if isinstance(one, list) else float(one) for one in took]
    return len(commands) * writes / max(seconds)


def main(dsn: str, name: str, writes: int) -> float:
    """Seconds for so many commits of one document, one after the other."""
    with psycopg.connect(dsn, autocommit=True) as session:
        side = tables_in("public", "config_store", "auth_store").side
        query = f"SELECT revision FROM {side} WHERE id = %s".encode()
        ((revision,),) = session.execute(query, (name,)).fetchall()
        plain = postgres.Plain(session, bytes(revision), name)
        begun = time.perf_counter()
        for number in range(writes):
            plain.put(body(time.time_ns() + number))
        return time.perf_counter() - begun


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
