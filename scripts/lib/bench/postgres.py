"""PostgreSQL: storefs over a server of its own, made durable as Debian makes it.

What each call costs is compared with the same call on the memory backend and the same SQL, side
table and trigger included, by psycopg in a worker thread. Everything runs on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

from bench import candidates
from bench.calls import body
from bench.candidates import BIN, LIBRARY, Broken, Mounted
from bench.events import arrive
from bench.figures import Figure, Goal
from bench.samples import Samples, ratio
from storefs.backends.postgres_schema import SWITCH, tables_in
from storefs.backends.postgres_sql import digest_for, statements
from tests.servers.postgres_cluster import Cluster, binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    from bench.stages import Scale
    from tests.servers.postgres_cluster import Database

    Session = psycopg.Connection[Any]

_PATIENCE = 30.0
_PROGRAMS = 8
DURABLE = ("shared_buffers=128MB",)


def run(base: Path, scale: Scale) -> Iterator[Figure]:
    """Every figure of PostgreSQL; none where no server is installed. Raises Broken, OSError."""
    found = binaries()
    if found is None:
        print("bench: no PostgreSQL server is installed: its figures are left out", file=sys.stderr)
        return
    base.mkdir(parents=True, exist_ok=True)
    with serving(Cluster.make(found, options=DURABLE)) as cluster:
        yield _write(base / "write", cluster.database(), scale)
        yield _change(base / "change", cluster.database(), scale)
        yield _programs(base / "programs", cluster.database(), scale)
        yield from _most(base / "most", cluster.database(), scale)


@contextmanager
def serving(cluster: Cluster) -> Iterator[Cluster]:
    """Remove it in the end."""
    try:
        yield cluster
    finally:
        cluster.remove()


def storefs(base: Path, database: Database) -> Mounted:
    """storefs over a database."""
    words = ["mount", str(base / "mnt"), "--foreground", "--mirror", str(base / "root")]
    return Mounted("storefs", base, [str(BIN / "storefs"), *words], "auths", **database.env())


def rewrite(file: Path, data: bytes) -> None:
    """Make or rewrite one document."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, data)
    os.close(fd)


def _timed(call: Callable[[], object]) -> float:
    """Microseconds."""
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e6


def _write(base: Path, database: Database, scale: Scale) -> Figure:
    """A document rewritten, against its parts; all three in turn, call by call."""
    names = ("storefs", "memory", "sql")
    found = {name: Samples() for name in names}
    memory = candidates.memory(base / "memory")
    with storefs(base / "storefs", database) as mounted, memory, database.session() as session:
        files = [mounted.documents / "a.json", memory.documents / "a.json"]
        for file in files:
            rewrite(file, body(0))
        rewrite(mounted.documents / "sql.json", body(0))
        plain = Plain(session, hashlib.sha256(body(0)).digest())
        with ThreadPoolExecutor(1) as thread:
            for turn in range(scale.rounds):
                times: dict[str, list[float]] = {name: [] for name in names}
                for number in range(scale.writes):
                    data = body(turn * scale.writes + number + 1)
                    times["storefs"].append(_timed(lambda: rewrite(files[0], data)))  # noqa: B023
                    times["memory"].append(_timed(lambda: rewrite(files[1], data)))  # noqa: B023
                    times["sql"].append(
                        _timed(lambda: thread.submit(plain.put, data).result())  # noqa: B023
                    )
                for name in names:
                    found[name].rounds.append(times[name])
    return _against("pg_write", "O_TRUNC, write, close, PostgreSQL", 1.5, found, scale.writes)


def _against(
    key: str, what: str, limit: float, found: dict[str, Samples], documents: int
) -> Figure:
    others = [samples for name, samples in found.items() if name != "storefs"]
    values = [ratio(found["storefs"], others, share) for share in (0.5, 0.1)]
    parts = " + ".join(name for name in found if name != "storefs")
    goal = Goal(f"storefs / ({parts})", values[0], limit, "x", values[1])
    return Figure(
        key, what, documents, [goal], {name: samples.summary() for name, samples in found.items()}
    )


class Plain:
    """The statement that storefs sends, by psycopg alone; the trigger announces it."""

    def __init__(self, session: Session, expect: bytes, name: str = "sql.json") -> None:
        """`expect`: the revision of the document as it is."""
        made = statements(
            tables_in("public", "config_store", "auth_store"),
            digest_for(session.info.server_version),
            reads=True, writes=True, purges=True,
        )  # fmt: skip
        quiet, loud = (f"'{SWITCH}', '{word}'".encode() for word in ("off", "on"))
        self._statement = made.replace_auth.replace(quiet, loud)
        self._session, self._expect = session, expect
        self._name = name

    def put(self, data: bytes) -> None:
        digest = hashlib.sha256(data).digest()
        values = {"id": self._name, "expect": self._expect, "revision": digest, "data": data}
        row = self._session.execute(self._statement, values, binary=True, prepare=True).fetchone()
        if row is None:
            raise Broken("the plain statement found another revision")
        self._expect = digest


def _change(base: Path, database: Database, scale: Scale) -> Figure:
    """From a rewrite on one mount to the event with the new bytes on another."""
    found = Samples()
    with storefs(base / "a", database) as one, storefs(base / "b", database) as other:
        near, far = one.documents / "a.json", other.documents / "a.json"
        rewrite(near, body(0))
        _until(far.exists, "the document is on the other mount")
        with INotify() as inotify:
            inotify.add_watch(other.documents, flags.MODIFY)
            for turn in range(scale.rounds):
                times = []
                for number in range(scale.changes):
                    data = body(1 + turn * scale.changes + number)
                    began = time.perf_counter()
                    rewrite(near, data)
                    arrive(inotify, far, data)
                    times.append((time.perf_counter() - began) * 1e6)
                found.rounds.append(times)
    summary = found.summary()
    goals = [
        Goal("p50", summary["p50"] / 1e3, 10.0, "ms", summary["p10"] / 1e3),
        Goal("p99", summary["p99"] / 1e3, 50.0, "ms"),
    ]
    return Figure("pg_change", "close to event, PostgreSQL", 1, goals, {"storefs": summary})


def _until(met: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not met():
        if time.monotonic() > end:
            raise Broken(f"not within {_PATIENCE:g} s: {what}")
        time.sleep(0.01)


def _programs(base: Path, database: Database, scale: Scale) -> Figure:
    """Programs that rewrite documents of their own through one mount: eight against one."""
    rates: dict[int, list[float]] = {1: [], _PROGRAMS: []}
    with storefs(base, database) as mounted:
        for number in range(_PROGRAMS):
            (mounted.documents / f"p{number}").mkdir()
            rewrite(mounted.documents / f"p{number}/a.json", body(number))
        for _ in range(scale.rounds):
            for count, into in rates.items():
                into.append(rate(mounted, count, scale.writes))
    one, eight = (sorted(each)[len(each) // 2] for each in rates.values())
    goal = Goal("1 program / 8 programs", one / eight, 0.4, "x")
    more = {"commits_per_second_1": one, "commits_per_second_8": eight}
    return Figure("pg_programs", "commits per second, PostgreSQL", _PROGRAMS, [goal], more=more)


def rate(mounted: Mounted, programs: int, writes: int) -> float:
    """Commits per second of so many programs together, their own starts left out."""
    calls = str(LIBRARY / "bench/calls.py")
    running = [
        subprocess.Popen(
            [sys.executable, "-IS", calls, f"{mounted.documents}/p{number}", "write", str(writes)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        for number in range(programs)
    ]
    try:
        took = [sum(json.loads(each.communicate(timeout=300)[0])) / 1e6 for each in running]
    except BaseException:
        mounted.kill()
        for each in running:
            each.kill()
        raise
    found: float = programs * writes / max(took)
    return found


def _most(base: Path, database: Database, scale: Scale) -> Iterator[Figure]:
    """The first fill, and a restart at which nothing has changed."""
    fill: dict[str, list[float]] = {"storefs": [], "select + plain": []}
    first = storefs(base / "first", database)
    with first:
        pass  # makes the tables
    with database.session() as session:
        insert(session, scale.most)
        for number in range(max(1, scale.rounds // 3)):
            mounted = storefs(base / f"fill-{number}", database)
            fill["storefs"].append(mounted.start())
            mounted.stop()
            began = time.perf_counter()
            _select_and_write(session, base / f"plain-{number}")
            fill["select + plain"].append(time.perf_counter() - began)
    restarts = []
    for _ in range(scale.rounds):
        restarts.append(mounted.start())
        mounted.stop()
    found = {name: _seconds(values) for name, values in fill.items()}
    yield _against("pg_fill", "first fill, PostgreSQL", 1.5, found, scale.most)
    again = _seconds(restarts).summary()
    goal = Goal("storefs", again["p50"] / 1e6, 3.0, "s", again["p10"] / 1e6)
    yield Figure(
        "pg_restart", "restart, nothing changed, PostgreSQL", scale.most, [goal], {"storefs": again}
    )


def _seconds(values: list[float]) -> Samples:
    return Samples([[value * 1e6] for value in values])


def insert(session: Session, count: int) -> None:
    """As the native store fills its table: content alone."""
    with session.cursor().copy("COPY auth_store (id, content) FROM STDIN") as copy:
        for number in range(count):
            copy.write_row((f"user-{number:06d}@example.com.json", body(number).decode()))
    session.execute("VACUUM ANALYZE auth_store")


def _select_and_write(session: Session, directory: Path) -> None:
    directory.mkdir(parents=True)
    for name, text in session.execute("SELECT id, content::text FROM auth_store"):
        fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, text.encode())
        os.close(fd)
