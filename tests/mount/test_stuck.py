"""A backend that is stuck, fails or is slow: who waits, for how long, and what is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mount.apart import ANSWERS, Apart, answer
from tests.mount.harness import Mount, until
from tests.mount.remote import Remote, credential, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

OLD, NEW, OTHER = credential(0), credential(1), credential(2)
HINTS_ONLY = ("--snapshot-interval", "3600")
"""What was lost must be found out at once, not by the next snapshot."""
LATE = ANSWERS + 60.0
"""Seconds for a call that must end by its deadline, on a busy machine."""


@pytest.fixture
def patient(mounts: Mounts) -> Iterator[Mount]:
    """A machine that would wait for its backend much longer than any answer may take."""
    mount = mounts("a", start=False)
    Remote(mount.store).seed("a.json", "b.json")
    (mount.store / "auths/a.json").write_bytes(OLD)
    mount.options = ("--deadline", "90", "--dir-wait", "90", "--stop-timeout", "5", *HINTS_ONLY)
    with mount:
        yield mount
        for fault in mount.control.glob("*.*"):
            fault.unlink()


@pytest.fixture
def hasty(mounts: Mounts) -> Iterator[Mount]:
    """A machine that gives its backend a few seconds: enough for what works, on a busy machine."""
    mount = mounts("a", start=False)
    Remote(mount.store).seed("a.json", "b.json")
    (mount.store / "auths/a.json").write_bytes(OLD)
    limits = ("--deadline", "4", "--dir-wait", "4", "--stop-timeout", "2")
    mount.options = (*limits, "--offline", "refuse", *HINTS_ONLY)
    with mount:
        yield mount


def test_nothing_waits_for_a_commit(patient: Mount) -> None:
    fault = patient.fault("commit.hang")
    with (
        Apart("write", patient.auths / "a.json", NEW.decode()) as close,
        Apart("fsync", patient.auths / "new.json", OTHER.decode()) as fsync,
    ):
        until(lambda: sum(map(len, patient.commits())) == 2, "both calls are in the backend")
        assert answer("look", patient.path).startswith("done ")
        assert answer("write", patient.auths / "local.tmp", "x") == "done"
        assert answer("unlink", patient.auths / "local.tmp") == "done"
        assert (patient.auths / "a.json").read_bytes() == NEW
        assert close.waits
        assert fsync.waits
        fault.unlink()
        assert close.answer() == "done"
        assert fsync.answer() == "done"
    assert (patient.store / "auths/a.json").read_bytes() == NEW
    assert (patient.store / "auths/new.json").read_bytes() == OTHER


@pytest.mark.parametrize("call", ["unlink", "rename"])
def test_an_unlink_holds_up_its_own_directory_alone(patient: Mount, call: str) -> None:
    fault = patient.fault("commit.hang")
    (patient.auths / "sub").mkdir()
    (patient.auths / "sub" / "x.tmp").write_text("x")
    (patient.auths / "b.json").stat()  # a name that the kernel knows; others wait for the lock
    words = [patient.auths / "a.json"] + [patient.auths / "c.json"] * (call == "rename")
    with Apart(call, *words) as stuck:
        until(patient.commits, "the call is in the backend")
        assert answer("look", patient.path / "config").startswith("done ")
        assert answer("look", patient.auths / "sub").startswith("done ")
        assert answer("look", patient.path / ".storefs").startswith("done ")
        assert (patient.auths / "b.json").stat().st_size == len(credential(1))
        assert stuck.waits
        fault.unlink()
        assert stuck.answer() == "done"
    assert not (patient.store / "auths/a.json").exists()


def test_nothing_waits_for_a_read(patient: Mount) -> None:
    patient.fault("read.hang")
    Remote(patient.store).write("auths/a.json", OTHER)
    Remote(patient.store).write("auths/new.json", OTHER)
    with Apart("write", patient.path / ".storefs/sync", "1") as sync:
        assert answer("look", patient.path).startswith("done ")
        assert (patient.auths / "a.json").read_bytes() == OLD
        assert answer("write", patient.auths / "b.json", NEW.decode()) == "done"
        assert answer("write", patient.auths / "mine.json", NEW.decode()) == "done"
        assert answer("unlink", patient.auths / "mine.json") == "done"
        assert sync.waits
    (patient.control / "read.hang").unlink()
    settled(patient)


def test_nothing_waits_for_a_snapshot(patient: Mount) -> None:
    patient.fault("snapshot.hang")
    with Apart("write", patient.path / ".storefs/sync", "1") as sync:
        assert answer("look", patient.path).startswith("done ")
        assert answer("write", patient.auths / "a.json", NEW.decode()) == "done"
        assert answer("rename", patient.auths / "a.json", patient.auths / "c.json") == "done"
        assert answer("unlink", patient.auths / "b.json") == "done"
        assert sync.waits
        (patient.control / "snapshot.hang").unlink()
        assert sync.answer() == "done"


def test_a_sync_that_gets_no_answer_ends_by_the_deadline(hasty: Mount) -> None:
    hasty.fault("snapshot.hang")
    assert answer("write", hasty.path / ".storefs/sync", "1", limit=LATE) == "EIO"


@pytest.mark.parametrize("fault", ["hang", "fail-before"])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_change_that_the_backend_does_not_take_is_undone_and_kept(
    hasty: Mount, call: str, fault: str
) -> None:
    hasty.fault(f"commit.{fault}")
    file = hasty.auths / "a.json"
    assert answer(call, file, NEW.decode(), limit=LATE) == "EIO"
    until(lambda: file.read_bytes() == OLD, "the old version shows again")
    assert file.stat().st_size == len(OLD)
    assert (hasty.store / "auths/a.json").read_bytes() == OLD
    assert list(hasty.kept("conflicts").values()) == [NEW]


@pytest.mark.parametrize("fault", ["hang", "fail-before"])
def test_a_new_document_that_the_backend_does_not_take_goes_away(hasty: Mount, fault: str) -> None:
    hasty.fault(f"commit.{fault}")
    file = hasty.auths / "new.json"
    assert answer("write", file, NEW.decode(), limit=LATE) == "EIO"
    until(lambda: not file.exists(), "the name is gone again")
    assert not (hasty.store / "auths/new.json").exists()
    assert list(hasty.kept("conflicts").values()) == [NEW]


@pytest.mark.parametrize("fault", ["hang", "fail-before"])
def test_names_stay_when_the_backend_does_not_answer(hasty: Mount, fault: str) -> None:
    temporary = hasty.auths / "a.json.tmp"
    temporary.write_bytes(NEW)
    hasty.fault(f"commit.{fault}")
    a, b, c = (hasty.auths / f"{name}.json" for name in "abc")
    assert answer("unlink", a, limit=LATE) == "EIO"
    assert answer("rename", temporary, a, limit=LATE) == "EIO"
    assert answer("rename", a, c, limit=LATE) == "EIO"
    assert answer("rename", a, b, limit=LATE) == "EIO"
    assert a.read_bytes() == OLD
    assert b.read_bytes() == credential(1)
    assert temporary.read_bytes() == NEW
    assert sorted(file.name for file in hasty.auths.iterdir()) == ["a.json", "a.json.tmp", "b.json"]
    assert (hasty.store / "auths/a.json").read_bytes() == OLD
    assert not (hasty.store / "auths/c.json").exists()


def test_the_mount_works_again_as_soon_as_the_backend_does(hasty: Mount) -> None:
    fault = hasty.fault("commit.fail-before")
    assert answer("write", hasty.auths / "a.json", NEW.decode(), limit=LATE) == "EIO"
    fault.unlink()
    assert answer("write", hasty.auths / "b.json", OTHER.decode()) == "done"
    assert (hasty.store / "auths/b.json").read_bytes() == OTHER
    until(lambda: hasty.status()["online"], "the status says so")
    assert answer("unlink", hasty.auths / "a.json") == "done"
    settled(hasty)


def test_a_commit_that_lands_after_its_deadline_is_shown(hasty: Mount) -> None:
    fault = hasty.fault("commit.hang")
    file = hasty.auths / "a.json"
    assert answer("write", file, NEW.decode(), limit=LATE) == "EIO"
    until(lambda: file.read_bytes() == OLD, "the old version shows again")
    fault.unlink()
    until(lambda: (hasty.store / "auths/a.json").read_bytes() == NEW, "it landed late")
    settled(hasty)
    assert file.read_bytes() == NEW


@pytest.mark.parametrize(
    ("call", "words", "left"),
    [
        ("write", ["a.json", NEW.decode()], {"a.json": NEW, "b.json": credential(1)}),
        ("fsync", ["a.json", NEW.decode()], {"a.json": NEW, "b.json": credential(1)}),
        ("unlink", ["a.json"], {"b.json": credential(1)}),
        ("rename", ["a.json", "c.json"], {"b.json": credential(1), "c.json": OLD}),
        ("rename", ["a.json", "b.json"], {"b.json": OLD}),
    ],
)
def test_an_outcome_that_was_lost_is_found_out(
    hasty: Mount, call: str, words: list[str], left: dict[str, bytes]
) -> None:
    """fail-after: the change did land, the answer did not arrive."""
    fault = hasty.fault("commit.fail-after")
    paths = [hasty.auths / word if word.endswith(".json") else word for word in words]
    assert answer(call, *paths, limit=LATE) == "EIO"
    fault.unlink()
    stored = {file.name: file.read_bytes() for file in (hasty.store / "auths").iterdir()}
    assert stored == left
    settled(hasty)
    assert {file.name: file.read_bytes() for file in hasty.auths.iterdir()} == left


def test_a_slow_backend_is_waited_for(patient: Mount) -> None:
    patient.fault("commit.slow", "1")
    patient.fault("read.slow", "1")
    with Apart("write", patient.auths / "a.json", NEW.decode()) as close:
        until(patient.commits, "the close is in the backend")
        assert answer("look", patient.path).startswith("done ")
        assert close.answer() == "done"
    assert (patient.store / "auths/a.json").read_bytes() == NEW
    assert answer("rename", patient.auths / "a.json", patient.auths / "b.json") == "done"
    assert answer("unlink", patient.auths / "b.json") == "done"
    Remote(patient.store).write("auths/c.json", OTHER)
    settled(patient)
