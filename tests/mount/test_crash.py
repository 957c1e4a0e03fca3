"""kill -9 of the daemon while programs write: whole versions, and nothing acknowledged lost."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.mount.crash_writer import Notes, state, version
from tests.mount.harness import Mount, environment, until
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

ROUNDS = 200
PARTS = 10
"""Of the rounds, each in a test of its own: a test has five minutes."""
WRITERS = {
    "inplace": ["a.json", "b.json", "c.json"],
    "rename": ["r.json", "s.json"],
    "delete": ["d.json", "e.json"],
}
ELSEWHERE = [f"x{number}.json" for number in range(40)]
NAMES = [name for names in WRITERS.values() for name in names]


@contextmanager
def _writing(mount: Mount) -> Iterator[None]:
    """The writers, who write until the mount is killed."""
    words = [sys.executable, "-m", "tests.mount.crash_writer"]
    writers = [
        subprocess.Popen(
            [*words, str(mount.auths), str(_notes(mount, how)), how, *names],
            env=environment(mount.home),
            stdout=subprocess.DEVNULL,
        )
        for how, names in WRITERS.items()
    ]
    try:
        yield
        for writer in writers:
            assert writer.wait(30) == 0
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def _notes(mount: Mount, how: str) -> Path:
    return mount.base / f"notes-{how}"


def _read_notes(mount: Mount) -> Notes:
    return Notes(*(_notes(mount, how) for how in WRITERS))


def _kill_during_writes(mount: Mount, after: int, delay: float) -> None:
    """kill -9 once `after` more writes were acknowledged, and a little later."""
    before = _read_notes(mount).count
    with _writing(mount):
        until(lambda: _read_notes(mount).count >= before + after, "the writers write", 60)
        time.sleep(delay)  # the random moment, not a synchronisation
        mount.kill()


def _rows(mount: Mount, scratch: Path) -> dict[str, tuple[bytes, bytes]]:
    """path -> (digest, previous digest), from a copy of the index as the crash left it."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for file in (mount.root / ".storefs").glob("index.sqlite*"):
        shutil.copy(file, scratch)
    with closing(sqlite3.connect(scratch / "index.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = db.execute("SELECT path, digest, previous FROM documents").fetchall()
    return {path: (digest, previous) for path, digest, previous in rows}


def _check_index(mount: Mount, scratch: Path) -> None:
    """Every mirror file is what the index says, or what it held just before."""
    rows = _rows(mount, scratch)
    for name in NAMES:
        path = f"auths/{name}"
        file = mount.root / path
        if file.exists():
            assert path in rows, f"{path} is in the mirror, the index knows nothing of it"
            found = hashlib.sha256(file.read_bytes()).digest()
            assert found in rows[path], f"{path} in the mirror is explained by no row"


def _check_documents(mount: Mount) -> None:
    """After the remount: each is in a whole state, none older than the last acknowledged one."""
    notes = _read_notes(mount)
    for how, name in ((how, name) for how, names in WRITERS.items() for name in names):
        began, done = notes.began[name], notes.done[name]
        allowed = {state(how, name, counter) for counter in range(done, began + 1)}
        file, kept = mount.auths / name, mount.store / "auths" / name
        shown = file.read_bytes() if file.exists() else None
        what = "absent" if shown is None else f"{len(shown)} bytes"
        assert shown in allowed, f"{name}: {what}, no state of {done}..{began}"
        assert (kept.read_bytes() if kept.exists() else None) == shown
        assert shown is None or file.stat().st_size == len(shown)


def _check_places(mount: Mount) -> None:
    """Nothing left over is shown, and nothing was found that nobody explains."""
    shown = {entry.name for entry in mount.auths.iterdir()}
    assert shown <= {*NAMES, *(f"{name}.tmp" for name in WRITERS["rename"])}
    stored = {entry.name for entry in (mount.store / "auths").glob("*")}
    assert {name for name in stored if not name.startswith(".")} <= set(NAMES)
    assert mount.kept("found") == {}
    assert mount.kept("conflicts") == {}
    temporary = mount.root / ".storefs/tmp"
    until(lambda: not [*temporary.iterdir()], "what the crash left half-written is gone")
    status = mount.status()
    assert (status["found"], status["conflicts"], status["online"]) == (0, 0, True)


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_random_moments(mounts: Mounts, tmp_path: Path, part: int) -> None:
    mount = mounts("a", start=False)
    chance = random.Random(SEED + part)
    for number in range(scaled(ROUNDS // PARTS, 2)):
        after, delay = chance.randint(0, 40), chance.uniform(0, 0.03)
        print(f"round {number}, seed {SEED + part}: killed {delay:.4f} s after {after} writes")
        mount.start()
        _kill_during_writes(mount, after, delay)
        _check_index(mount, tmp_path / "index")
        with mount:
            _check_documents(mount)
            _check_places(mount)


def _change_elsewhere(mount: Mount, number: int, chance: random.Random) -> None:
    """Rewrite, make and remove documents in the store, as another machine does."""
    for name in ELSEWHERE:
        file = mount.store / "auths" / name
        if chance.random() < 0.2 and file.exists():
            file.unlink()
            continue
        temporary = file.with_name(f".{name}.tmp")
        temporary.write_bytes(version(name, number))
        temporary.rename(file)


def _kill_while_sending(mount: Mount, number: int, chance: random.Random) -> None:
    """Pending changes here, changes elsewhere; then both ways at once, and kill -9 in between."""
    before = _read_notes(mount).count
    fault = mount.fault("commit.fail-before")
    with _writing(mount):
        until(lambda: _read_notes(mount).count >= before + 20, "the writers write", 60)
        _change_elsewhere(mount, number, chance)
        fault.unlink()
        mount.sync()
        _change_elsewhere(mount, number + ROUNDS, chance)
        time.sleep(chance.uniform(0, 0.05))  # the random moment, not a synchronisation
        mount.kill()


def _is_settled(mount: Mount) -> bool:
    """Whether nothing waits, and mount and store hold the same."""
    try:
        shown = {file.name: file.read_bytes() for file in mount.auths.glob("*.json")}
        stored = {file.name: file.read_bytes() for file in (mount.store / "auths").glob("*.json")}
    except FileNotFoundError:  # it changed while this looked
        return False
    return mount.status()["pending"] == 0 and shown == stored


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_while_sending_and_receiving(mounts: Mounts, tmp_path: Path, part: int) -> None:
    """kill -9 in the replay of pending changes and in a reconcile, at a random moment of both."""
    mount = mounts("a", start=False)
    chance = random.Random(SEED + part)
    (mount.store / "auths").mkdir(parents=True)
    for number in range(1, scaled(ROUNDS // PARTS, 2) + 1):
        mount.start()
        _kill_while_sending(mount, number, chance)
        _check_index(mount, tmp_path / "index")
        with mount:
            mount.sync("accept-deletions")
            until(lambda: _is_settled(mount), "all is sent, and all has come", 60)
            _check_documents(mount)
            assert mount.kept("found") == {}
            assert mount.kept("conflicts") == {}
