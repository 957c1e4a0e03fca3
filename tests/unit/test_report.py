"""What `.storefs/status` and the metrics say, and that they never say a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from storefs.errors import BackendFailed
from tests.machines import CONFIG, remote
from tests.unit.world import world

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.machines import Machine

A = "auths/a.json"
SECRET = "sk-very-secret"


def status(machine: Machine) -> dict[str, object]:
    found: dict[str, object] = json.loads(machine.content(".storefs/status") or b"")
    return found


async def test_it_names_the_place_and_the_backend(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        said = status(await it.machine())
        assert said["backend"] == "memory"
        assert said["identity"] == "memory:memory"
        assert said["mountpoint"] == str(tmp_path / "a/mnt")
        assert said["root"] == str(tmp_path / "a/root")
        assert said["log"] == str(tmp_path / "a/root/.storefs/log")
        assert said["online"] is True
        assert said["warnings"] == []


async def test_it_counts_what_happened(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        before = status(machine)
        assert (before["last_in"], before["last_out"]) == (None, None)
        await machine.put(A, b"{}")
        assert status(machine)["last_out"] is not None
        remote(it.memory, "auths/b.json", b"{}")
        await machine.settle()
        said = status(machine)
        assert said["documents"] == 3
        assert said["last_in"] is not None
        fh = machine.open(A)
        assert status(machine)["open_files"] == 1
        machine.vfs.release(fh)


async def test_an_unreachable_backend_shows_until_it_answers(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        it.faults(machine).always("snapshot", "fail-before")
        machine.documents.marks.mark_everything()
        await machine.settle()
        said = status(machine)
        assert said["online"] is False
        assert "fail-before" in str(said["error"])
        it.faults(machine).clear()
        it.clock.jump(1.1)
        await machine.settle()
        assert status(machine)["online"] is True


async def test_troubles_are_told(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine(max_file_size=1000)
        remote(it.memory, A, b"x" * 1001)
        remote(it.memory, "auths/b.json", b"{}")
        remote(it.memory, "auths/b.json/c.json", b"{}")
        await machine.put("config/new.yaml", b"port: 1\n")
        await machine.rename("config/new.yaml", CONFIG)
        await machine.settle()
        said = status(machine)
        assert said["too_large"] == [A]
        assert said["skipped"] == ["auths/b.json/c.json"]
        assert "config replaced" in str(said["warnings"])
        remote(it.memory, CONFIG, None)
        await machine.settle()
        it.clock.jump(1.2)
        await machine.settle()
        assert "the next save restores it" in str(status(machine)["warnings"])


async def test_kept_copies_are_counted(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine(offline="refuse")
        it.faults(machine).always("commit", "fail-before")
        fh = machine.open(A, 0o101)  # O_WRONLY, O_CREAT
        machine.vfs.write(fh, 0, b"{}")
        with pytest.raises(BackendFailed, match=r"a copy is in \.storefs/conflicts/"):
            await machine.close(fh)
        assert status(machine)["conflicts"] == 1


async def test_no_secret_is_ever_said(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine(env={"PGSTORE_DSN": SECRET})
        await machine.put(A, b'{"key": "%s"}' % SECRET.encode())
        for name in ("status", "metrics"):
            assert SECRET.encode() not in (machine.content(f".storefs/{name}") or b"")


async def test_metrics_are_the_numbers_of_the_status(tmp_path: Path, mock_clock: MockClock) -> None:
    async with world(tmp_path, mock_clock) as it:
        machine = await it.machine()
        text = (machine.content(".storefs/metrics") or b"").decode()
        lines = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
        assert lines["storefs_documents"] == "1"
        assert lines["storefs_online"] == "1"
        assert text.count("# TYPE ") == len(lines)
