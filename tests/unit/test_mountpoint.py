"""The mount point: what may be there, what is cleaned away, and that nothing hangs.

No mount is made: a file stands for /proc/self/mountinfo, a script for fusermount3.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from storefs import device, mountinfo, mountpoint
from storefs.errors import Exit, Quit
from storefs.mountpoint import clear, find, prepare
from storefs.settings import Settings

# `ask` forks for a call that may never return; other tests leave idle threads of trio behind,
# about which newer Pythons warn. The child only makes system calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


class Machine:
    """What the module sees of the machine."""

    def __init__(self, tmp_path: Path) -> None:
        self.base = Path(os.path.realpath(tmp_path))
        self.mountinfo = self.base / "mountinfo"
        self.fuse_conf = self.base / "fuse.conf"
        self.device = self.base / "fuse"
        self.bin = self.base / "bin"
        self.bin.mkdir()
        self.device.touch()
        self.mounted()

    def mounted(self, *mounts: tuple[Path, str]) -> None:
        lines = ["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw"]
        for path, fstype in mounts:
            escaped = str(path).replace("\\", r"\134").replace(" ", r"\040")
            lines.append(f"42 22 0:39 / {escaped} rw shared:2 master:1 - {fstype} some\\040disk rw")
        self.mountinfo.write_text("\n".join(lines) + "\n")

    def program(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def settings(self, **changes: object) -> Settings:
        values: dict[str, object] = {
            "mountpoint": self.base / "mnt",
            "local_store": self.base / "store",
            **changes,
        }
        return Settings(**values)  # type: ignore[arg-type]  # by name, each of its own type


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", machine.mountinfo)
    monkeypatch.setattr(device, "_FUSE_CONF", machine.fuse_conf)
    monkeypatch.setattr(device, "_DEVICE", machine.device)
    monkeypatch.setenv("PATH", f"{machine.bin}:/usr/bin:/bin")
    return machine


def refused(settings: Settings, code: Exit = Exit.MOUNT_POINT) -> str:
    with pytest.raises(Quit) as caught:
        prepare(settings)
    assert caught.value.code is code
    return str(caught.value)


def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(_: object) -> os.statvfs_result:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_a_missing_mount_point_is_made_with_its_parents(machine: Machine) -> None:
    place = machine.base / "a/b/mnt"
    prepare(machine.settings(mountpoint=place))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_an_empty_directory_is_fine_and_stays_as_it_is(machine: Machine) -> None:
    place = machine.base / "mnt"
    place.mkdir()
    place.chmod(0o750)
    prepare(machine.settings())
    assert stat.S_IMODE(place.stat().st_mode) == 0o750


def test_a_link_to_a_directory_is_followed(machine: Machine) -> None:
    (machine.base / "mnt").symlink_to("real")
    prepare(machine.settings())
    assert (machine.base / "real").is_dir()


def test_a_file_is_no_mount_point(machine: Machine) -> None:
    (machine.base / "mnt").touch()
    assert "not a directory" in refused(machine.settings())
    refused(machine.settings(mountpoint=machine.base / "mnt/below"))


def test_files_are_not_hidden_where_nothing_moves_in(machine: Machine) -> None:
    place = machine.base / "mnt"
    place.mkdir()
    for number in range(7):
        (place / f"{number}.json").touch()
    prepare(machine.settings())
    message = refused(machine.settings(move_in=False))
    assert "0.json, 1.json, 2.json, 3.json, 4.json and 2 more" in message
    assert "5.json" not in message
    assert len(os.listdir(place)) == 7


def test_a_directory_of_somebody_else(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.base / "mnt").mkdir()
    machine.program("fusermount3", "exit 1")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert "not yours" in refused(machine.settings())


def test_a_directory_one_may_not_write(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    place = machine.base / "mnt"
    place.mkdir()
    uid = os.geteuid() or 1000
    os.chown(place, uid, -1)
    machine.program("fusermount3", "exit 1")
    access = os.access
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    prepare(machine.settings())
    # Root, who may run these tests, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path != place and access(path, mode))
    assert "not yours" in refused(machine.settings())


def test_a_live_storefs_mount_points_at_its_commands(machine: Machine) -> None:
    (machine.base / "mnt").mkdir()
    machine.mounted((machine.base / "mnt", "fuse.storefs"))
    message = refused(machine.settings())
    assert "storefs status" in message
    assert "storefs umount" in message


@pytest.mark.parametrize("fstype", ["ext4", "fuse.sshfs"])
def test_any_other_mount_is_left_alone(machine: Machine, fstype: str) -> None:
    (machine.base / "mnt").mkdir()
    machine.mounted((machine.base / "mnt", fstype))
    message = refused(machine.settings())
    assert fstype in message
    assert "storefs umount" not in message


def test_a_mount_on_top_hides_the_one_below(machine: Machine) -> None:
    (machine.base / "mnt").mkdir()
    machine.mounted((machine.base / "mnt", "fuse.storefs"), (machine.base / "mnt", "tmpfs"))
    assert "tmpfs" in refused(machine.settings())
    assert find(machine.base / "mnt") is None


def test_a_dead_mount_is_cleaned_and_replaced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine.base / "mnt"
    place.mkdir()
    machine.mounted((place, "fuse.storefs"))
    machine.program("fusermount3", f'echo "$@" > {machine.base}/args; : > {machine.mountinfo}')
    dead(monkeypatch)
    prepare(machine.settings())
    assert (machine.base / "args").read_text().split() == ["-u", "-z", "--", str(place)]


def test_a_dead_mount_that_stays_is_reported(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.mounted((machine.base / "mnt", "fuse.storefs"))
    dead(monkeypatch)
    machine.program("fusermount3", "echo not yours >&2; exit 1")
    assert "not yours" in refused(machine.settings())
    machine.program("fusermount3", "exit 0")
    assert "umount -l" in refused(machine.settings())


def test_a_mount_that_hangs_is_reported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.mounted((machine.base / "mnt", "fuse.storefs"))
    monkeypatch.setattr(mountpoint, "PATIENCE", 0.05)
    monkeypatch.setattr(os, "statvfs", lambda _: signal.pause())
    assert "does not answer" in refused(machine.settings())


def test_no_mount_inside_a_storefs_mount(machine: Machine) -> None:
    machine.mounted((machine.base / "mnt", "fuse.storefs"))
    inside = machine.settings(mountpoint=machine.base / "mnt/auths/deep")
    assert str(machine.base / "mnt") in refused(inside)


def test_a_mount_point_in_the_root_is_refused_and_not_made(machine: Machine) -> None:
    settings = machine.settings(mirror=machine.base / "r", mountpoint=machine.base / "r/mnt")
    refused(settings, Exit.SETTINGS)
    assert not (machine.base / "r").exists()


def test_without_the_device_there_is_advice(machine: Machine) -> None:
    machine.device.unlink()
    assert "modprobe fuse" in refused(machine.settings())


def test_without_fusermount_only_root_mounts(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "fuse3" in refused(machine.settings())


@pytest.mark.parametrize("text", [None, "", "#user_allow_other\n", "x_user_allow_other\n"])
def test_allow_other_needs_a_line_by_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        machine.fuse_conf.write_text(text)
    machine.program("fusermount3", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    message = refused(machine.settings(allow_other=True))
    assert "user_allow_other" in message
    assert str(machine.fuse_conf) in message


@pytest.mark.parametrize(("uid", "text"), [(1000, "# x\nuser_allow_other \n"), (0, "")])
def test_allow_other_with_that_line_or_as_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, uid: int, text: str
) -> None:
    machine.fuse_conf.write_text(text)
    machine.program("fusermount3", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    mountpoint._check_fuse(machine.settings(allow_other=True))


@pytest.mark.parametrize("name", ["plain", "two words", "back\\slash", "ümläut", "040"])
def test_find_reads_every_name(machine: Machine, name: str) -> None:
    machine.mounted((machine.base / name, "fuse.storefs"))
    found = find(machine.base / name)
    assert found is not None
    assert (found.path, found.source) == (machine.base / name, "some disk")
    assert find(machine.base / "other") is None


def test_find_reads_the_mountinfo_of_this_machine() -> None:
    assert find(Path("/proc")) is None


def test_links_above_a_mount_are_followed_and_none_in_it_is_asked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine.base / "mnt"
    place.mkdir()
    (place / "inside").symlink_to("/")
    (machine.base / "up").symlink_to(machine.base)
    (machine.base / "link").symlink_to("up/mnt")
    machine.mounted((place, "fuse.storefs"))
    found = find(machine.base / "up/link")
    assert found is not None
    assert found.path == place
    asked: list[str] = []
    readlink = os.readlink

    def record(path: Path) -> str:
        asked.append(str(path))
        return readlink(path)

    monkeypatch.setattr(os, "readlink", record)
    with pytest.raises(Quit, match="inside"):
        clear(machine.base / "link/inside")
    assert str(machine.base / "link") in asked
    assert not [path for path in asked if path.startswith(str(place))]


def test_links_in_a_circle_end(machine: Machine) -> None:
    (machine.base / "mnt").symlink_to("mnt")
    refused(machine.settings())
