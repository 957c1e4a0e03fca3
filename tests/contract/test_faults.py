"""The fault wrapper itself: a test that relies on a fault must be able to rely on it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Backend, Delete, Entry, Outcome, Put, Revision, Watcher
from storefs.backends.memory import Memory
from storefs.errors import Unavailable
from tests.contract.steps import PATIENCE, commit, content, done, failed, put
from tests.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from storefs.backends.contract import Batch, Blob

A = "auths/a.json"
PUT = Put(A, b"{}", None)


class _Deaf:
    """A backend that is no Watcher."""

    identity = "deaf"
    concurrency = 1

    def snapshot(self) -> Mapping[str, Entry]:
        return {}

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Blob | None]]:
        return iter([(path, None) for path in paths])

    def commit(self, batches: Sequence[Batch], timeout: float) -> Sequence[Outcome]:
        return [{} for _ in batches]

    def close(self) -> None:
        pass


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def faults(memory: Memory, tmp_path: Path) -> Iterator[Faults]:
    faults = Faults(memory.session(), control=tmp_path)
    yield faults
    faults.close()


def test_it_watches_only_what_watches(faults: Faults) -> None:
    deaf: Backend = _Deaf()
    assert isinstance(faults, Watcher)
    assert not isinstance(Faults(deaf), Watcher)


def test_commit_fails_before_or_after_it_was_applied(faults: Faults, memory: Memory) -> None:
    faults.at("commit", 1, "fail-before")
    faults.at("commit", 2, "fail-after")
    failed(commit(faults, PUT), Unavailable)
    assert content(memory, A) is None
    failed(commit(faults, PUT), Unavailable)
    assert content(memory, A) == b"{}"
    put(faults, "auths/b.json", b"{}")
    assert faults.calls["commit"] == 3


def test_always_lasts_until_clear(faults: Faults) -> None:
    faults.always("snapshot", "fail-before")
    faults.always("read", "fail-after")
    for _ in range(2):
        with pytest.raises(Unavailable):
            faults.snapshot()
        with pytest.raises(Unavailable):
            content(faults, A)
    faults.clear()
    assert faults.snapshot() == {}
    assert content(faults, A) is None


def test_a_failed_wait_knows_nothing_or_loses_hints(faults: Faults, memory: Memory) -> None:
    assert isinstance(faults, Watcher)
    faults.at("wait", 1, "fail-before")
    faults.at("wait", 2, "fail-after")
    put(memory, A, b"{}")
    assert faults.wait(PATIENCE) is None
    assert faults.wait(PATIENCE) == frozenset()
    assert faults.wait(0) == set()


@pytest.mark.parametrize("end", [Faults.release, Faults.clear])
def test_a_released_hang_goes_on(
    faults: Faults, memory: Memory, end: Callable[[Faults], None]
) -> None:
    faults.always("commit", "hang")
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(commit, faults, PUT)
        assert faults.reached("commit", 1, PATIENCE)
        assert content(memory, A) is None
        end(faults)
        assert set(done(outcome.result(PATIENCE))) == {A}


def test_close_ends_a_hang_with_a_failure(faults: Faults, memory: Memory) -> None:
    faults.at("commit", 1, "hang")
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(commit, faults, PUT)
        assert faults.reached("commit", 1, PATIENCE)
        faults.close()
        failed(outcome.result(PATIENCE), Unavailable)
    assert content(memory, A) is None


def test_files_command_faults_while_they_exist(
    faults: Faults, memory: Memory, tmp_path: Path
) -> None:
    hang, slow, fail = (tmp_path / f"commit.{kind}" for kind in ("hang", "slow", "fail-after"))
    hang.touch()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(commit, faults, PUT)
        assert faults.reached("commit", 1, PATIENCE)
        assert content(memory, A) is None
        hang.unlink()
        done(outcome.result(PATIENCE))
    slow.write_text("0.001\n")
    done(commit(faults, Put("auths/b.json", b"{}", None)))
    fail.touch()
    failed(commit(faults, Delete("auths/b.json", Revision("stale"))), Unavailable)


def test_every_commit_is_logged_even_a_failed_one(faults: Faults, tmp_path: Path) -> None:
    faults.at("commit", 2, "fail-before")
    faults.commit([[PUT], [Delete("auths/b c.json", Revision("stale"))]], PATIENCE)
    commit(faults, PUT)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == [[["put", A], ["delete", "auths/b c.json"]], [["put", A]]]
