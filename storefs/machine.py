"""What `storefs doctor` looks at on this machine, whatever the settings are."""

from __future__ import annotations

import os
import platform
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import __version__, checkup, device
from storefs.errors import Quit
from storefs.findings import Finding, guarded, refused
from storefs.mountpoint import PATIENCE, State

if TYPE_CHECKING:
    from collections.abc import Iterator

_INOTIFY = Path("/proc/sys/fs/inotify")
_INOTIFY_LEAST = {
    "max_user_instances": (16, "each mount, and each program that watches one, needs one"),
    "max_user_watches": (4096, "each watched directory needs one"),
    "max_queued_events": (16384, "a program that watches would lose events in bulk changes"),
}
_BORN = 1_760_000_000
"""No clock that is right shows an earlier time (2025-10, unix seconds)."""


def findings() -> Iterator[Finding]:
    """The software, the device, inotify and the clock; the mounts are asked for one by one."""
    yield from guarded("the versions", "install storefs again: scripts/mount does", _versions)
    yield from _device()
    yield from _inotify()
    yield from _clock()


def _versions() -> str:
    from storefs import fuse  # the child's import: it fails where libfuse is missing

    return (
        f"storefs {__version__}, Python {platform.python_version()}, {fuse.versions()}, "
        f"kernel {platform.release()}"
    )


def _device() -> Iterator[Finding]:
    try:
        device.check_present()
        yield Finding("ok", "/dev/fuse is there and can be opened")
    except Quit as refusal:
        yield refused(refusal, "ask whoever runs this machine")
    try:
        yield from _helper(device.check_helper())
    except Quit as refusal:
        found = refused(refusal, "install the package fuse3")
        yield found if os.geteuid() else Finding("warn", found.what, found.step)
    try:
        device.check_others_allowed()
        yield Finding("ok", "user_allow_other is set in /etc/fuse.conf")
    except Quit as refusal:
        # An error for whom it concerns is made by `_settings`, which knows who asked for it.
        yield Finding("ok", f"{str(refusal).rpartition(': ')[0]}; nothing else does")


def _helper(program: Path) -> Iterator[Finding]:
    info = program.stat()
    raised = info.st_uid == 0 and info.st_mode & stat.S_ISUID
    if raised or os.geteuid() == 0 or "security.capability" in os.listxattr(program):
        yield Finding("ok", f"{program} is there" + (", setuid root" if raised else ""))
    else:
        yield Finding(
            "fail", f"{program} is not setuid root", f"as root: chown root {program} && "
            f"chmod u+s {program}; or mount as root",
        )  # fmt: skip


def _inotify() -> Iterator[Finding]:
    said = []
    for name, (least, why) in _INOTIFY_LEAST.items():
        try:
            found = int((_INOTIFY / name).read_text())
        except (OSError, ValueError):
            yield Finding("warn", f"{_INOTIFY / name} cannot be read", "look at it as root")
            continue
        said.append(f"{name} {found}")
        if found < least:
            yield Finding(
                "warn", f"fs.inotify.{name} is {found}: {why}",
                f"sysctl -w fs.inotify.{name}={least}",
            )  # fmt: skip
    yield from guarded(
        "inotify",
        "end programs that watch, or raise fs.inotify.max_user_instances and max_user_watches",
        checkup.watch,
    )
    yield Finding("ok", f"inotify: {', '.join(said)}")


def _clock() -> Iterator[Finding]:
    if time.time() < _BORN:
        now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        yield Finding("fail", f"the clock shows {now} (UTC)", "set it: timedatectl set-ntp true")


def mount(place: Path, state: State) -> Finding:
    """One of the storefs mounts of this machine, not only the one that was asked about."""
    if state is State.DEAD:
        return Finding(
            "fail",
            f"the mount at {place} is dead: its process ended without unmounting",
            f"`storefs mount {place}` replaces it, `storefs umount {place}` removes it",
        )
    if state is State.HANGING:
        return Finding(
            "fail",
            f"the mount at {place} does not answer within {PATIENCE:g} s",
            f"look at its log, end its process (pgrep -af storefs), fusermount3 -uz {place}",
        )
    return Finding("ok", f"the mount at {place} answers; `storefs status {place}` says more")
