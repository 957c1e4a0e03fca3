"""Git: storefs over smart HTTP on loopback, against the git program in a warm clone.

The server is `git http-backend`, in a process of its own; the same for all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

from bench import candidates
from bench.calls import body, write
from bench.candidates import BIN, Broken, Mounted
from bench.events import arrive
from bench.figures import Figure, Goal
from bench.samples import Samples, ratio
from tests.servers.git import TOKEN, apart, available, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.stages import Scale
    from tests.servers.git import Repository

_POLL = 1.0
_WRITERS = 50
_PATIENCE = 300.0


def run(base: Path, scale: Scale) -> Iterator[Figure]:
    """Every figure of Git. Raises Broken, OSError."""
    if reason := available():
        raise Broken(reason)
    with apart(base / "server") as host:
        repository = host.repository("store", "master")
        work = repository.clone(base / "work")
        candidates.fill(work / "auths", _WRITERS)
        (work / "config").mkdir()
        (work / "config/config.yaml").write_text("port: 8317\n")
        git("checkout", "--quiet", "-B", "master", cwd=work)
        push(work)
        with storefs(base / "storefs", repository) as mounted:
            yield _write(mounted, work, scale)
            yield _together(mounted, repository, scale)
            yield _change(mounted, work, scale)


def storefs(base: Path, repository: Repository) -> Mounted:
    """storefs over the repository, polling every second."""
    words = ["mount", str(base / "mnt"), "--foreground", "--mirror", str(base / "root")]
    variables = {
        "GITSTORE_GIT_URL": repository.url,
        "GITSTORE_GIT_TOKEN": TOKEN,
        "STOREFS_POLL_INTERVAL": str(_POLL),
    }
    return Mounted("storefs", base, [str(BIN / "storefs"), *words], "auths", **variables)


def push(work: Path) -> None:
    """Commit and push everything of a clone."""
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "-m", "bench", cwd=work)
    git("push", "--quiet", "origin", "master", cwd=work)


def _pull(work: Path) -> None:
    git("pull", "--quiet", "--rebase", "origin", "master", cwd=work)


def _write(mounted: Mounted, work: Path, scale: Scale) -> Figure:
    """A changed document: the calls of a program, against commit and push by the git program."""
    calls = {"storefs": Samples(), "git": Samples()}
    name, serial = name_of(0), time.time_ns()
    for _ in range(scale.rounds):
        times = []
        for number in range(scale.changes // 5 + 2):
            data = body(serial + number)
            begun = time.perf_counter_ns()
            write(str(mounted.documents / name), data)
            times.append((time.perf_counter_ns() - begun) / 1000)
        calls["storefs"].rounds.append(times)
        _pull(work)
        times = []
        for number in range(scale.changes // 5 + 2):
            (work / "auths" / name).write_bytes(body(serial - number - 1))
            begun = time.perf_counter_ns()
            git("commit", "--quiet", "--all", "-m", "bench", cwd=work)
            git("push", "--quiet", "origin", "master", cwd=work)
            times.append((time.perf_counter_ns() - begun) / 1000)
        calls["git"].rounds.append(times)
        _seen(mounted, name, (work / "auths" / name).read_bytes())
    values = [ratio(calls["storefs"], [calls["git"]], share) for share in (0.5, 0.1)]
    goal = Goal("storefs / git commit + push", values[0], 1.2, "x", values[1])
    times_of = {each: samples.summary() for each, samples in calls.items()}
    return Figure("git_write", "git: O_TRUNC, write, close", _WRITERS, [goal], times_of)


def name_of(number: int) -> str:
    """The names that `candidates.fill` gives."""
    return f"user-{number:06d}@example.com.json"


def _seen(mounted: Mounted, name: str, data: bytes) -> None:
    """Wait until the mount shows it, so that the next write is no conflict, nor merged."""
    end = time.monotonic() + _PATIENCE
    while (mounted.documents / name).read_bytes() != data:
        if time.monotonic() > end:
            raise Broken(f"{mounted.name}: {name} never arrived")
        time.sleep(0.05)
    time.sleep(2.5)  # what is written sooner after a delivery is merged (settle, 1 s)


def _together(mounted: Mounted, repository: Repository, scale: Scale) -> Figure:
    """Fifty processes at once: how many pushes, and how much faster than one after another."""
    pushes, ratios = [], []
    for _ in range(max(2, scale.rounds // 2)):
        begun = time.perf_counter()
        for number in range(_WRITERS):
            write(str(mounted.documents / name_of(number)), body(time.time_ns()))
        alone = time.perf_counter() - begun
        before = repository.commits("master")
        words = [sys.executable, "-m", "bench.together", str(mounted.documents)]
        done = subprocess.run(
            [*words, str(_WRITERS)], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        if done.returncode:
            raise Broken(f"{mounted.name}: {done.stderr}")
        pushes.append(repository.commits("master") - before)
        ratios.append(json.loads(done.stdout) / alone)
    goals = [
        Goal("pushes", max(pushes), 10, "", min(pushes)),
        Goal("together / one by one", sorted(ratios)[len(ratios) // 2], 0.2, "x", min(ratios)),
    ]
    return Figure("git_together", "git: 50 processes write", _WRITERS, goals)


def _change(mounted: Mounted, work: Path, scale: Scale) -> Figure:
    """A push by another clone, from its end to the event, content read."""
    times = []
    name, serial = name_of(1), time.time_ns()
    with INotify() as inotify:
        inotify.add_watch(mounted.documents, flags.MODIFY)
        for number in range(scale.changes // 10 + 3):
            _pull(work)
            data = body(serial + number)
            (work / "auths" / name).write_bytes(data)
            push(work)
            begun = time.perf_counter_ns()
            arrive(inotify, mounted.documents / name, data)
            times.append((time.perf_counter_ns() - begun) / 1000)
    found = Samples([times]).summary()
    limit = _POLL * 1000 + 200
    goals = [
        Goal("p50", found["p50"] / 1e3, limit, "ms"),
        Goal("p99", found["p99"] / 1e3, limit, "ms"),
    ]
    return Figure("git_change", "git: push to event", _WRITERS, goals, {"storefs": found})
