"""Many programs, two machines and the store itself change one directory at once, slowly."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount import storm_worker
from tests.mount.harness import Mount, mounts_below, until
from tests.mount.remote import LONG, Remote, credential
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

SECONDS = 600 if scaled(100) >= 100 else 20
HUNG = 120.0
"""Seconds after which a call counts as hung: far above every deadline here."""


class Storm:
    """Programs that change files until they are told to stop."""

    def __init__(self, base: Path) -> None:
        self._stop = base / "stop"
        self._running: list[subprocess.Popen[str]] = []

    def blow(self, directory: Path, *tags: str, pause: float = 0.0) -> None:
        """Start a program for each tag, which pauses between its changes."""
        for tag in tags:
            seed = SEED + len(self._running)
            command = [sys.executable, "-I", "-S", str(storm_worker.__file__)]
            words = [str(directory), str(self._stop), str(seed), tag, str(pause)]
            self._running.append(
                subprocess.Popen(
                    [*command, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def lasts(self) -> bool:
        """Whether all programs still run."""
        return all(program.poll() is None for program in self._running)

    def end(self) -> list[dict[str, Any]]:
        """Stop them; what each did. Fails when one hangs or met what it did not expect."""
        self._stop.touch()
        results = []
        for program in self._running:
            out, err = program.communicate(timeout=HUNG)
            assert program.returncode == 0, f"seed {SEED}: {program.args!r}: {err}"
            results.append(json.loads(out))
        return results

    def kill(self) -> None:
        for program in self._running:
            program.kill()


@contextmanager
def _storm(base: Path) -> Iterator[Storm]:
    storm = Storm(base)
    try:
        yield storm
    finally:
        storm.kill()


def _documents(top: Path) -> dict[str, bytes]:
    """The documents at the top of a directory, by name."""
    return {file.name: file.read_bytes() for file in top.glob("[!.]*.json")}


def _converged(*tops: Path) -> bool:
    try:
        first, *others = [_documents(top) for top in tops]
    except OSError:  # changing at this moment
        return False
    return all(other == first for other in others)


def _seeded(mounts: Mounts, *names: str) -> list[Mount]:
    machines = [mounts(name, "--deadline", "20", "--dir-wait", "5", start=False) for name in names]
    Remote(machines[0].store).seed(*(f"quiet{number}.json" for number in range(60)))
    return machines


def _size(mount: Mount) -> tuple[int, int]:
    """Resident memory of the daemon in KiB, and its open descriptors."""
    assert mount.process is not None
    proc = Path("/proc") / str(mount.process.pid)
    lines = (proc / "status").read_text().splitlines()
    resident = next(line for line in lines if line.startswith("VmRSS:"))
    return int(resident.split()[1]), len(list((proc / "fd").iterdir()))


def _slow(*machines: Mount) -> None:
    for mount, seconds in zip(machines, ("0.05", "0.3"), strict=False):
        mount.fault("commit.slow", seconds)
        mount.fault("read.slow", "0.05")


def test_a_storm_ends_with_one_tree(mounts: Mounts, tmp_path: Path) -> None:
    here, there = _seeded(mounts, "here", "there")
    with here, there, _storm(tmp_path) as storm:
        _slow(here, there)
        storm.blow(here.auths, "a1", "a2", "a3", "a4")
        storm.blow(there.auths, "b1", "b2")
        storm.blow(here.store / "auths", "s1", pause=0.03)
        _wait(storm, SECONDS / 4)
        before = [_size(mount) for mount in (here, there)]
        _wait(storm, SECONDS * 3 / 4)
        results = storm.end()
        for mount in (here, there):
            for fault in mount.control.glob("*.slow"):
                fault.unlink()
        assert all(sum(result["done"].values()) > 0 for result in results), results
        assert max(result["longest"] for result in results) < HUNG, results
        tops = here.auths, there.auths, here.store / "auths"
        until(lambda: _converged(*tops), "both mounts show what the store holds", LONG)
        assert {name: credential(number) for number, name in _quiet()}.items() <= _documents(
            here.auths
        ).items()
        for mount, (memory, descriptors) in zip((here, there), before, strict=True):
            resident, opened = _size(mount)
            assert opened <= descriptors + 10, "descriptors are closed again"
            assert resident <= memory + 40_000 + memory // 2, "memory does not grow"
            assert "Traceback" not in mount.log()


def _quiet() -> list[tuple[int, str]]:
    return [(number, f"quiet{number}.json") for number in range(60)]


def _wait(storm: Storm, seconds: float) -> None:
    """Let the storm blow; it must not end by itself."""
    try:
        until(lambda: not storm.lasts(), "the storm", seconds)
    except AssertionError:
        return
    storm.end()
    raise AssertionError("a program ended before it was told to")


@pytest.mark.parametrize("way", ["SIGTERM", "fusermount3"])
def test_unmounting_in_a_storm(mounts: Mounts, tmp_path: Path, way: str) -> None:
    here, there = _seeded(mounts, "here", "there")
    with here, there, _storm(tmp_path) as storm:
        _slow(here, there)
        storm.blow(here.auths, "a1", "a2", "a3")
        storm.blow(there.auths, "b1")
        storm.blow(here.store / "auths", "s1", pause=0.03)
        _wait(storm, 3)
        if way == "SIGTERM":
            assert here.stop(deadline=HUNG) == 0
        else:
            subprocess.run(["fusermount3", "-uz", str(here.path)], check=True)
            assert here.process is not None
            assert here.process.wait(HUNG) == 0
            here.process = None
        assert mounts_below(here.base) == []
        storm.end()
        assert "Traceback" not in here.log()
        here.start()
        tops = here.auths, there.auths, here.store / "auths"
        until(lambda: _converged(*tops), "both mounts show what the store holds", LONG)
