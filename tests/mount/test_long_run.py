"""A long mixed run: memory, descriptors, threads, watches and disk stay what they were.

Programs work in rounds; after each one the daemons become quiet, and then what is counted must be
exactly what the names in the mount account for. Resident memory alone is compared in quarters.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.mount import long_worker
from tests.mount.harness import Mount, until
from tests.mount.remote import LONG, Remote
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

ROUNDS = scaled(120, 12)
STEPS = 60
"""Of each program in each round."""
QUIET = 150
"""Documents that nobody changes: so many that deletions of the others are never held back."""
HUNG = 180.0
"""Seconds after which a round counts as hung: far above every deadline here."""
MIB = 1 << 20
OPTIONS = ("--deadline", "20", "--dir-wait", "5", "--cache-size", "1M")
"""The cache is full after the warm-up."""
THREADS_FOR_GOOD = 2
"""Begun when they are first needed, and kept; far fewer than there are rounds."""


class Sample(NamedTuple):
    """What one daemon has at one moment."""

    resident: int
    """Bytes."""
    descriptors: int
    threads: int
    watches: int
    write_ahead: int
    """Bytes of the index' log."""


def _sample(mount: Mount) -> Sample:
    assert mount.process is not None
    proc = Path("/proc") / str(mount.process.pid)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    descriptors, watches = 0, 0
    for file in (proc / "fdinfo").iterdir():
        try:
            watches += file.read_text().count("inotify wd:")
        except FileNotFoundError:  # closed meanwhile
            continue
        descriptors += 1
    log = mount.root / ".storefs/index.sqlite-wal"
    resident = int(status["VmRSS"].split()[0]) * 1024
    return Sample(resident, descriptors, int(status["Threads"]), watches, log.stat().st_size)


class Program:
    """A long_worker, which makes so many steps whenever it is told."""

    def __init__(self, base: Path, tag: str, top: Path, store: Path) -> None:
        self._errors = base / f"{tag}.stderr"
        words = [str(top), str(store), tag, str(SEED + ord(tag[0]) * 100 + int(tag[1:]))]
        with open(self._errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(long_worker.__file__), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )

    @property
    def pipe(self) -> int:
        """Readable when it has answered, or ended."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def tell(self, steps: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % steps)

    def answer(self) -> dict[str, int]:
        """What it did. Fails with its error when it ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # a line comes in one piece: it is below PIPE_BUF
        assert line, f"seed {SEED}: {self.process.args!r}: {self._errors.read_text()}"
        found: dict[str, int] = json.loads(line)
        return found


@contextmanager
def _programs(base: Path, *machines: Mount) -> Iterator[list[Program]]:
    """Two on the first machine, one on the other, and one in the store itself."""
    store = machines[0].store / "auths"
    places = {"a1": machines[0].auths, "a2": machines[0].auths, "b1": machines[1].auths}
    started: list[Program] = []
    try:
        for tag, top in {**places, "s1": store}.items():
            started.append(Program(base, tag, top, store))
        yield started
    finally:
        for program in started:
            with program.process as process:
                process.kill()


def _round(programs: list[Program], machines: list[Mount], most: list[Sample]) -> Counter[str]:
    """Everybody makes STEPS steps; `most` becomes the most that was seen meanwhile."""
    done: Counter[str] = Counter()
    left = {program.pipe: program for program in programs}
    for program in programs:
        program.tell(STEPS)
    end = time.monotonic() + HUNG
    while left:
        for pipe in select.select([*left], [], [], 0.1)[0]:
            done.update(left.pop(pipe).answer())
        for number, mount in enumerate(machines):
            pairs = zip(most[number], _sample(mount), strict=True)
            most[number] = Sample(*(max(pair) for pair in pairs))
        assert time.monotonic() < end, f"a program hangs: {[p.process.args for p in left.values()]}"
    return done


def _names(top: Path) -> int:
    """How many names there are, the top included, as a program counts them.

    Kept copies are left out: nobody lists them here, so the daemon has no inodes of them.
    """
    count = 0
    for directory, below, names in os.walk(top):
        if directory.endswith("/.storefs"):
            count += len(below)
            below.clear()
        count += 1 + len(names)
    return count


def _until_quiet(mount: Mount) -> None:
    """Nothing is open or on its way, an inode for each name, a watch for each directory."""

    def quiet() -> bool:
        return not set(mount.root.glob(".storefs/tmp/*")) and _accounted(mount)

    try:
        until(quiet, "quiet", LONG)
    except AssertionError as error:
        raise AssertionError(f"{error}: {_names(mount.path)} names, {mount.status()}") from None


def _accounted(mount: Mount) -> bool:
    names, status = _names(mount.path), mount.status()
    due = [status[key] for key in ("open_files", "raises_waiting", "held_deletions")]
    watched = sum(1 for _ in os.walk(mount.store))
    return status["inodes"] == names and not any(due) and _sample(mount).watches == watched


def _documents(top: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in top.glob("[!.]*.json")}


def _converged(machines: list[Mount]) -> bool:
    """Mounts and mirrors hold the documents of the store, and nothing else."""
    try:
        store = _documents(machines[0].store / "auths")
        tops = [top / "auths" for mount in machines for top in (mount.path, mount.root)]
        return all(_documents(top) == store for top in tops)
    except FileNotFoundError:  # changing at this moment
        return False


def _end_scratch(machines: list[Mount]) -> None:
    """Documents that were cut to nothing would differ for a minute."""
    for mount in machines:
        for file in mount.auths.glob("*-cut.json"):
            file.unlink()


def test_nothing_grows(mounts: Mounts, tmp_path: Path) -> None:
    machines = [mounts(name, *OPTIONS, start=False) for name in ("here", "there")]
    Remote(machines[0].store).seed(*(f"quiet{number}.json" for number in range(QUIET)))
    done: Counter[str] = Counter()
    with machines[0], machines[1], _programs(tmp_path, *machines) as programs:
        for mount in machines:
            _until_quiet(mount)
        before = [_sample(mount) for mount in machines]
        most, rounds = [*before], []
        for _ in range(ROUNDS):
            done.update(_round(programs, machines, most))
            for mount in machines:
                _until_quiet(mount)
            rounds.append([_sample(mount) for mount in machines])
        print(f"done {dict(done)}")
        _end_scratch(machines)
        until(lambda: _converged(machines), "everybody has the documents of the store", LONG)
        for number, mount in enumerate(machines):
            story = [samples[number] for samples in rounds]
            _check_growth(mount, before[number], most[number], story)
            _check_disk(mount)
            assert "Traceback" not in mount.log()
    _check_work(done)


def _check_growth(mount: Mount, before: Sample, most: Sample, story: list[Sample]) -> None:
    """Counts return to what they were before the load; memory stays where the warm-up left it."""
    what = f"{mount.base.name}: {before} before, at most {most}, then {story}"
    print(what)
    quarter = len(story) // 4
    warm = story[quarter - 1].resident
    late = statistics.median(sample.resident for sample in story[-quarter:])
    # The allocator's fragments grow slowly, by some 10 MB, with a constant heap (tracemalloc).
    assert late <= warm * 1.15 + 8 * MIB, what

    def idle() -> bool:  # threads of trio end after ten seconds without work
        now = _sample(mount)
        threads = now.threads - THREADS_FOR_GOOD
        return now.descriptors <= before.descriptors and threads <= before.threads

    until(idle, f"as many descriptors and threads as before: {what}", LONG)
    assert most.descriptors <= before.descriptors + 60, what
    assert most.threads <= before.threads + 60, what
    assert most.write_ahead <= 8 * MIB, what


def _check_disk(mount: Mount) -> None:
    """Below `.storefs` of the root."""
    conflicts = [*(mount.root / ".storefs/conflicts").iterdir()]
    copies = Counter(file.name.rsplit("~", 2)[0] for file in conflicts)
    assert conflicts, "there was a conflict, else this shows nothing"
    assert max(copies.values()) <= 20
    assert sum(file.stat().st_size for file in conflicts) <= 64 * MIB
    trash = sum(file.stat().st_size for file in (mount.root / ".storefs/trash").iterdir())
    assert trash <= 256 * MIB + 64 * 10_000
    assert mount.kept("found") == {}
    assert (mount.root / ".storefs/index.sqlite").stat().st_size <= MIB


def _check_work(done: dict[str, Any]) -> None:
    """Every kind of step was made, and programs met what programs meet."""
    kinds = [long_worker.Program("", "", "", 0), long_worker.Other("", "", "", 0)]
    missing = {step.__name__ for kind in kinds for step in kind.steps} - done.keys()
    assert not missing, f"seed {SEED}: {missing} never succeeded in {done}"
    assert {"ENOENT", "ESTALE"} <= done.keys()
