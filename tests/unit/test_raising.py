"""Raises: which calls are made, by whom, in what order, how fast, and how they end.

The "mount" is a plain directory, so that the calls are seen by what they leave; `invalidate` is
where a test can hold a worker.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from storefs import raising
from storefs.raising import Event, Raise, Raiser, touch_mtime
from tests.mount.harness import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A, B = "auths/a.json", "auths/b.json"
AHEAD = 8000


class Gate:
    """An `invalidate` that blocks for the inodes in `closed`, and tells who came."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.closed: dict[int, threading.Event] = {}

    def __call__(self, ino: int) -> None:
        self.came.append(ino)
        if ino in self.closed:
            self.closed[ino].wait()

    def close(self, ino: int) -> threading.Event:
        self.closed[ino] = threading.Event()
        return self.closed[ino]

    def reached(self, ino: int) -> None:
        until(lambda: ino in self.came, f"invalidate {ino}")


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    for event in gate.closed.values():
        event.set()


@pytest.fixture
def raiser(tmp_path: Path, gate: Gate) -> Iterator[Raiser]:
    (tmp_path / "auths").mkdir()
    raiser = Raiser(tmp_path, "", gate)
    raiser.start()
    yield raiser
    for event in gate.closed.values():
        event.set()
    assert raiser.stop(PATIENCE)


class Clock:
    """The module `time` with a monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(raising, "time", clock)
    return clock


def modified(path: str, ino: int, generation: int = 1) -> Raise:
    return Raise(Event.MODIFIED, path, generation, ino)


def test_only_the_mtime_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"data")
    os.utime(file, ns=(10**18, 10**18))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        touch_mtime(fd, "a")
        with pytest.raises(FileNotFoundError):
            touch_mtime(fd, "none")
    finally:
        os.close(fd)
    info = file.stat()
    assert info.st_atime_ns == 10**18
    assert info.st_mtime_ns > 10**18
    assert file.read_bytes() == b"data"


def test_each_event_is_one_call(raiser: Raiser, gate: Gate, tmp_path: Path) -> None:
    file = tmp_path / A
    file.write_bytes(b"{}")
    os.utime(file, ns=(10**18, 10**18))
    raiser.request(modified(A, 7))
    until(lambda: raiser.raised == 1, "the first raise")
    assert file.stat().st_mtime_ns > 10**18
    assert gate.came == [7]  # the pages went before the event
    raiser.request(Raise(Event.REMOVED, A, 1))
    until(lambda: not file.exists(), "unlink")
    raiser.request(Raise(Event.CREATED, "auths/d/e/c.json", 1))
    until(lambda: raiser.raised == 3, "mknod")
    assert (tmp_path / "auths/d/e/c.json").stat().st_size == 0
    assert gate.came == [7]


def test_a_name_that_is_there_already_is_modified(
    raiser: Raiser, gate: Gate, tmp_path: Path
) -> None:
    file = tmp_path / A
    file.write_bytes(b"{}")
    os.utime(file, ns=(10**18, 10**18))
    raiser.request(Raise(Event.CREATED, A, 1))
    until(lambda: raiser.raised == 1, "the raise")
    assert file.stat().st_mtime_ns > 10**18
    assert gate.came == [file.stat().st_ino]


def test_of_a_subdirectory_mount_the_paths_are_shorter(tmp_path: Path) -> None:
    raiser = Raiser(tmp_path, "auths", lambda ino: None)
    raiser.start()
    raiser.request(Raise(Event.CREATED, "auths/d/a.json", 1))
    until(lambda: raiser.raised == 1, "the raise")
    assert raiser.stop(PATIENCE)
    assert (tmp_path / "d/a.json").exists()


def test_what_lies_below_a_mount_that_went_away_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{}")
    raiser = Raiser(tmp_path, "auths", lambda ino: None)  # never started: another device
    raiser.request(Raise(Event.REMOVED, "auths/a.json", 1))
    until(lambda: not raiser._running, "the worker's end")
    assert raiser.stop(PATIENCE)
    assert (tmp_path / "a.json").exists()


def test_a_worker_is_recognised_by_its_thread_and_call(raiser: Raiser, tmp_path: Path) -> None:
    claims: list[object] = []
    wanted = Raise(Event.REMOVED, A, 5)
    unlink = os.unlink

    def watch(name: str, *, dir_fd: int) -> None:  # stands where the handler would be
        tid = threading.get_native_id()
        claims.append(raiser.claim(tid, Event.REMOVED, A))
        claims.append(raiser.claim(tid, Event.REMOVED, B))
        claims.append(raiser.claim(tid, Event.CREATED, A))
        claims.append(raiser.claim(os.getpid(), Event.REMOVED, A))
        claims.append((raiser.is_worker(tid), raiser.is_worker(os.getpid())))
        claims.append(raiser.wants(Event.REMOVED, A))
        unlink(name, dir_fd=dir_fd)

    (tmp_path / A).write_bytes(b"{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", watch)
        raiser.request(wanted)
        until(lambda: raiser.raised == 1, "the raise")
    assert claims == [wanted, None, None, None, (True, False), True]
    until(lambda: not raiser.wants(Event.REMOVED, A), "the raise is over")
    assert not raiser._expected


def test_one_at_a_time_in_a_directory_and_none_waits_for_another(
    raiser: Raiser, gate: Gate, tmp_path: Path
) -> None:
    for path in (A, B, "config/config.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"{}")
    first = gate.close(1)
    raiser.request(modified(A, 1))
    gate.reached(1)
    raiser.request(modified(B, 2))
    raiser.request(modified("config/config.yaml", 3))
    gate.reached(3)
    until(lambda: raiser.raised == 1, "the other directory's raise")
    assert gate.came == [1, 3]
    assert raiser.wants(Event.MODIFIED, A)
    assert raiser.wants(Event.MODIFIED, B)
    first.set()
    until(lambda: raiser.raised == 3, "both")
    assert gate.came == [1, 3, 2]


def test_a_newer_request_replaces_one_that_has_not_begun(
    raiser: Raiser, gate: Gate, tmp_path: Path
) -> None:
    for path in (A, B):
        (tmp_path / path).write_bytes(b"{}")
    first = gate.close(1)
    raiser.request(modified(A, 1))
    gate.reached(1)
    raiser.request(modified(B, 2, generation=2))
    raiser.request(modified(B, 3, generation=3))
    raiser.request(modified(A, 4, generation=4))  # one under way is not replaced
    first.set()
    until(lambda: raiser.raised == 3, "all")
    assert gate.came == [1, 3, 4]


def test_a_failing_call_is_no_end(raiser: Raiser, gate: Gate, tmp_path: Path) -> None:
    raiser.request(Raise(Event.REMOVED, A, 1))  # there is no such file
    raiser.request(modified(A, 1))
    raiser.request(Raise(Event.CREATED, B, 1))
    until((tmp_path / B).exists, "the raise behind the failed ones")
    until(lambda: not raiser._running, "the worker's end")
    assert raiser.raised == 1


def test_at_most_8000_events_ahead_of_the_drain(
    raiser: Raiser, tmp_path: Path, clock: Clock
) -> None:
    for number in range(AHEAD + 100):
        raiser.request(Raise(Event.CREATED, f"auths/{number}.json", 1))
    until(lambda: raiser.raised == AHEAD, "the first 8,000", 60)
    assert raiser.waiting == 100
    clock.now += 0.0505
    until(lambda: raiser.raised >= AHEAD + 50, "50 more")
    assert raiser.raised == AHEAD + 50
    clock.now += 1
    until(lambda: raiser.raised == AHEAD + 100, "the rest")
    assert len(os.listdir(tmp_path / "auths")) == AHEAD + 100


@pytest.mark.parametrize(("event", "rate"), [(Event.REMOVED, 20), (Event.MODIFIED, 1000)])
def test_the_drain_that_is_assumed(event: Event, rate: int, clock: Clock) -> None:
    worker = raising._Worker(threading.Condition())
    for _ in range(AHEAD):
        assert worker.pause(event) == 0
    assert worker.pause(event) == pytest.approx(1 / rate)
    clock.now += 1 + 0.5 / rate
    for _ in range(rate):
        assert worker.pause(event) == 0
    assert worker.pause(event) == pytest.approx(0.5 / rate)
    clock.now += AHEAD / rate + 1  # it was idle: the queue is empty, and no more than that
    for _ in range(AHEAD):
        assert worker.pause(event) == 0
    assert worker.pause(event) > 0


def test_what_a_watcher_has_ahead_of_it(raiser: Raiser, tmp_path: Path, clock: Clock) -> None:
    """Of all directories: one that is busy with removals takes no other event meanwhile."""
    assert raiser.undrained() == 0
    for number in range(20):
        (tmp_path / f"auths/{number}.json").write_bytes(b"{}")
        raiser.request(Raise(Event.REMOVED, f"auths/{number}.json", 1))
    until(lambda: raiser.raised == 20, "all removals")
    assert raiser.undrained() == pytest.approx(1.0)
    clock.now += 0.4
    assert raiser.undrained() == pytest.approx(0.6)
    raiser.request(Raise(Event.CREATED, "config/a.json", 1))
    until(lambda: raiser.raised == 21, "one more")
    assert raiser.undrained() == pytest.approx(0.6)
    clock.now += 1
    assert raiser.undrained() == 0


def test_stop_waits_for_those_under_way_and_says_so(
    raiser: Raiser, gate: Gate, tmp_path: Path
) -> None:
    for path in (A, B):
        (tmp_path / path).write_bytes(b"{}")
    first = gate.close(1)
    raiser.request(modified(A, 1))
    gate.reached(1)
    raiser.request(modified(B, 2))
    assert not raiser.stop(0.05)
    raiser.request(modified(B, 3))
    first.set()
    assert raiser.stop(PATIENCE)
    assert gate.came == [1]  # what had not begun was dropped
    assert raiser.raised == 1
