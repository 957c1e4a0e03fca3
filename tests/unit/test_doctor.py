"""storefs doctor on a made-up machine: what it finds, what it advises, and its exit code."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from storefs import cli, device, mountinfo
from storefs import machine as this_machine
from storefs.errors import Exit

# See test_mountpoint.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


class Machine:
    """A home, a store and what the kernel says, all below one directory."""

    def __init__(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.base, self.store = base, base / "store"
        self._capsys = capsys
        for name in ("mountinfo", "fuse", "fuse.conf"):
            (base / name).touch()
        (base / "inotify").mkdir()
        for name in this_machine._INOTIFY_LEAST:
            (base / "inotify" / name).write_text("100000\n")
        (self.store / "auths").mkdir(parents=True)

    def doctor(self, *words: str, code: Exit = Exit.DONE) -> list[str]:
        """The lines that are printed."""
        place, store = str(self.base / "mnt"), str(self.store)
        assert cli.main(["doctor", place, "--local-store", store, *words]) == code
        return self._capsys.readouterr().out.splitlines()

    def troubles(self, *words: str, code: Exit = Exit.FAILED) -> list[str]:
        return [line for line in self.doctor(*words, code=code) if not line.startswith("ok ")]


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Machine:
    base = Path(os.path.realpath(tmp_path))
    found = Machine(base, capsys)
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", base / "mountinfo")
    monkeypatch.setattr(device, "_DEVICE", base / "fuse")
    monkeypatch.setattr(device, "_FUSE_CONF", base / "fuse.conf")
    monkeypatch.setattr(this_machine, "_INOTIFY", base / "inotify")
    for name in list(os.environ):
        if name.startswith("STOREFS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(base / "home"))
    (base / "home").mkdir()
    monkeypatch.chdir(base)
    return found


def tree(base: Path) -> list[tuple[str, float]]:
    return sorted((str(path), path.lstat().st_mtime) for path in base.rglob("*"))


def test_a_machine_that_is_well(machine: Machine) -> None:
    (machine.store / "auths/a.json").write_text("{}")
    before = tree(machine.base)
    lines = machine.doctor()
    assert [line for line in lines if not line.startswith("ok    ")] == []
    assert any("1 documents, 1 looked at" in line for line in lines)
    assert tree(machine.base) == before, "it changed something"


def test_json_says_the_same(machine: Machine) -> None:
    (machine.base / "fuse").unlink()
    found = json.loads("\n".join(machine.doctor("--json", code=Exit.FAILED)))
    failed = [one for one in found if one["level"] == "fail"]
    assert [one["what"] for one in failed] == [f"{machine.base}/fuse is missing"]
    assert failed[0]["step"].startswith("load the kernel module")


def test_a_device_that_cannot_be_opened(machine: Machine) -> None:
    (machine.base / "fuse").unlink()
    (machine.base / "fuse").mkdir()
    [line] = machine.troubles()
    assert line.startswith(f"fail  {machine.base}/fuse cannot be opened")
    assert "— it needs mode 0666" in line


def test_without_fusermount3_only_root_can_mount(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.base))
    root = os.geteuid() == 0
    [line] = machine.troubles(code=Exit.DONE if root else Exit.FAILED)
    assert line.startswith("warn" if root else "fail")
    assert "fusermount3 is missing  — install the package fuse3" in line


def test_an_unknown_variable(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREFS_CACHE_SIZ", "1G")
    [line] = machine.troubles()
    assert "unknown variable STOREFS_CACHE_SIZ" in line
    assert line.endswith("— did you mean STOREFS_CACHE_SIZE?")


def test_an_ignored_backend(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSTORE_DSN", "postgres://user:SECRET@host/db")
    lines = machine.doctor("--backend", "local")
    assert not any("SECRET" in line for line in lines)
    [line] = [line for line in lines if not line.startswith("ok ")]
    assert line.startswith("warn  PGSTORE_DSN: set too, and ignored  — unset PGSTORE_DSN")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--dir-wait", "9"], "--dir-wait 9 is longer than --deadline 5"),
        (["--max-file-size", "1G"], "--max-file-size is larger than --cache-size"),
        (["--backend", "memory"], "the documents end with the mount"),
    ],
)
def test_settings_that_contradict(machine: Machine, words: list[str], found: str) -> None:
    [line] = machine.troubles(*words, code=Exit.DONE)
    assert line.startswith("warn")
    assert found in line


def test_a_root_inside_the_mount(machine: Machine) -> None:
    troubles = machine.troubles("--mirror", str(machine.base / "mnt/root"))
    assert all(line.startswith("fail  the root") for line in troubles)
    assert troubles[0].endswith("— choose another place with --mirror DIR")


def test_a_root_of_another_store(machine: Machine) -> None:
    marker = machine.base / "root/.storefs/marker"
    marker.parent.mkdir(parents=True)
    marker.write_text('{"version": 1, "identity": "local:/elsewhere", "subdir": ""}')
    [line] = machine.troubles("--mirror", str(machine.base / "root"))
    assert "mirrors something else, local:/elsewhere" in line


def test_a_store_that_is_a_file(machine: Machine) -> None:
    file = machine.base / "file"
    file.touch()
    troubles = machine.troubles("--local-store", str(file))
    assert any(f"{file} is not a directory" in line for line in troubles)


def test_documents_that_are_not_as_they_should_be(machine: Machine) -> None:
    auths = machine.store / "auths"
    (auths / "torn.json").write_text('{"token": "SECRET')
    (auths / "new\nline.json").write_text("{}")
    (auths / "long.json").write_text('{"a": "%s"}' % ("x" * 2000))
    (auths / "later.json").write_text("{}")
    os.utime(auths / "later.json", (time.time() + 9000,) * 2)
    lines = machine.doctor("--max-file-size", "1K")
    troubles = "\n".join(line for line in lines if line.startswith("warn"))
    assert "auths/torn.json is not JSON" in troubles
    assert "auths/new\\nline.json" in troubles
    assert "auths/long.json: 2009 bytes" in troubles
    assert "documents from the future" in troubles
    assert "SECRET" not in troubles


def test_a_directory_that_a_mount_would_hide(machine: Machine) -> None:
    (machine.base / "mnt").mkdir()
    (machine.base / "mnt/old.json").touch()
    assert any("documents in it move in" in line for line in machine.doctor())
    [line] = machine.troubles("--no-move-in")
    assert "old.json" in line
    assert line.endswith("— move them away, or mount without --no-move-in")


def test_few_watches(machine: Machine) -> None:
    (machine.base / "inotify/max_queued_events").write_text("100\n")
    [line] = machine.troubles(code=Exit.DONE)
    assert line.startswith("warn  fs.inotify.max_queued_events is 100")
    assert line.endswith("— sysctl -w fs.inotify.max_queued_events=16384")


def test_a_clock_that_never_was_set(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine, "_BORN", time.time() + 1000)
    [line] = machine.troubles()
    assert line.startswith("fail  the clock shows")
