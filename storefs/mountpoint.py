"""The directory a mount is made on: what is there now, and whether it can take a mount.

Nothing here may hang: a system call on a mount whose daemon hangs never returns and cannot be
killed. So `mountinfo` is looked at first, and what must be asked of a mount is asked by a child
process that can be left behind (`ask`).
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from storefs import apart, device, mountinfo
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from storefs.mountinfo import Mounted
    from storefs.settings import Settings

PATIENCE = 5.0
"""Seconds until a daemon that does not answer counts as hanging."""

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_NAMES_SHOWN = 5
_DEAD_LAYERS = 16


class State(Enum):
    """How a FUSE mount is doing."""

    ALIVE = "alive"
    DEAD = "dead"
    HANGING = "hanging"


def ours() -> list[Path]:
    """The places where storefs mounts are, dead or alive, each once."""
    found = (mount.path for mount in mountinfo.mounts() if mount.fstype == mountinfo.TYPE)
    return list(dict.fromkeys(found))


def places() -> set[Path]:
    """Every place where something is mounted, whatever it is."""
    return {mount.path for mount in mountinfo.mounts()}


def on_top(mountpoint: Path) -> tuple[Path, Mounted | None]:
    """The place without links, and the mount that is seen there, whatever it is."""
    mounts = mountinfo.mounts()
    place = mountinfo.resolve(mountpoint, mounts)
    return place, mountinfo.top(mounts, place)


def state(path: Path) -> State:
    """Ask the daemon of the FUSE mount at this place."""
    try:
        # Not stat: the kernel answers that from its cache for a daemon long dead.
        ask(lambda: str(os.statvfs(path).f_bsize).encode(), PATIENCE)
    except TimeoutError:
        return State.HANGING
    except OSError as error:
        if error.errno in _DEAD:
            return State.DEAD
    return State.ALIVE


def find(mountpoint: Path) -> Mounted | None:
    """The storefs mount at this place, dead or alive; None: there is none, or another on top."""
    _, top = on_top(mountpoint)
    return top if top is not None and top.fstype == mountinfo.TYPE else None


def prepare(settings: Settings) -> None:
    """Make sure that the mount point can take a mount: make it if missing, clean a dead mount.

    Raises Quit (mount point) saying what is in the way; settings, if it lies in the root.
    """
    _check_fuse(settings)
    place = clear(settings.mountpoint)
    apart.check_places(settings, settings.mirror)
    _check_directory(place, empty=not settings.move_in)


def clear(mountpoint: Path) -> Path:
    """The place without links, with nothing mounted there: dead mounts are cleaned away.

    Raises Quit for a live mount, whoever made it.
    """
    for _ in range(_DEAD_LAYERS):
        mounts = mountinfo.mounts()
        place = mountinfo.resolve(mountpoint, mounts)
        _refuse_inside(place, mounts)
        top = mountinfo.top(mounts, place)
        if top is None:
            return place
        _refuse_live(top)
        _remove(place)
    raise Quit(Exit.MOUNT_POINT, f"the dead mount at {mountpoint} cannot be removed: umount -l it")


def ask(call: Callable[[], bytes], patience: float) -> bytes:
    """What `call` returns, run in a child process because it may never return.

    Raises OSError as the call does, TimeoutError after `patience` seconds.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(call, writer)
    os.close(writer)
    try:
        answer = _collect(reader, time.monotonic() + patience)
    except BaseException:
        # It may be unkillable for as long as the mount hangs, so it is not waited for.
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
    os.waitpid(child, 0)
    code, _, data = answer.partition(b" ")
    if code != b"0":
        raise OSError(int(code or errno.EIO), os.strerror(int(code or errno.EIO)))
    return data


def _answer(call: Callable[[], bytes], writer: int) -> NoReturn:
    """The child's part: `<errno> <result>` into the pipe."""
    try:
        # A child left behind must not keep the terminal or a pipe of the parent open.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            answer = b"0 " + call()
        except OSError as error:
            answer = b"%d " % (error.errno or errno.EIO)
        with open(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _collect(reader: int, end: float) -> bytes:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    parts: list[bytes] = []
    while poll.poll(max(0.0, end - time.monotonic()) * 1000):
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    raise TimeoutError(errno.ETIMEDOUT, "the mount does not answer")


def _refuse_inside(place: Path, mounts: Sequence[Mounted]) -> None:
    for mount in mounts:
        if mount.fstype == mountinfo.TYPE and mount.path in place.parents:
            raise Quit(
                Exit.MOUNT_POINT,
                f"{place} lies inside the storefs mount at {mount.path}: choose another place",
            )


def _refuse_live(top: Mounted) -> None:
    """Returns for a dead FUSE mount only."""
    path = top.path
    if not top.fstype.startswith("fuse"):
        raise Quit(
            Exit.MOUNT_POINT,
            f"{path} is a mount already ({top.fstype} of {top.source}): choose another place",
        )
    found = state(path)
    if found is State.DEAD:
        return
    if found is State.HANGING:
        raise Quit(
            Exit.MOUNT_POINT,
            f"the mount at {path} does not answer ({top.fstype}): end its process "
            "(pgrep -af storefs), then mount again",
        )
    if top.fstype != mountinfo.TYPE:
        raise Quit(
            Exit.MOUNT_POINT, f"{path} is a mount already ({top.fstype}): choose another place"
        )
    raise Quit(
        Exit.MOUNT_POINT,
        f"{path} is a storefs mount already: see `storefs status {path}`, end it with "
        f"`storefs umount {path}`",
    )


def _remove(place: Path) -> None:
    """Unmount what is dead, even if processes still stand in it."""
    fusermount = shutil.which("fusermount3")
    command = [fusermount, "-u", "-z"] if fusermount else ["umount", "-l"]
    done = subprocess.run(
        [*command, "--", str(place)], check=False, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise Quit(
            Exit.MOUNT_POINT,
            f"a dead mount is in the way at {place} and cannot be removed: {done.stderr.strip()}",
        )


def _check_fuse(settings: Settings) -> None:
    device.check_present()
    if os.geteuid() == 0:
        return
    device.check_helper()
    if settings.allow_other:
        device.check_others_allowed()


def _check_directory(place: Path, *, empty: bool) -> None:
    """A directory of our own; made if missing."""
    try:
        with suppress(FileExistsError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(0o700)
    except OSError as error:
        raise Quit(Exit.MOUNT_POINT, f"cannot use {place}: {error.strerror}") from None
    check_directory(place, empty=empty)


def check_directory(place: Path, *, empty: bool) -> list[str]:
    """The names in it. Raises Quit (mount point) unless this is a directory of our own, `empty`
    if that is asked for."""
    try:
        info = os.stat(place)
        names = sorted(os.listdir(place)) if stat.S_ISDIR(info.st_mode) else []
    except OSError as error:
        raise Quit(Exit.MOUNT_POINT, f"cannot use {place}: {error.strerror}") from None
    if not stat.S_ISDIR(info.st_mode):
        raise Quit(Exit.MOUNT_POINT, f"{place} is not a directory: choose another place")
    uid = os.geteuid()
    if uid != 0 and (info.st_uid != uid or not os.access(place, os.W_OK)):
        raise Quit(
            Exit.MOUNT_POINT,
            f"{place} is not yours to mount on: it needs you as its owner, and write permission",
        )
    if names and empty:
        shown = ", ".join(names[:_NAMES_SHOWN])
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        raise Quit(
            Exit.MOUNT_POINT,
            f"{place} holds files which a mount would hide ({shown}{more}): move them away, "
            f"or mount without --no-move-in",
        )
    return names
