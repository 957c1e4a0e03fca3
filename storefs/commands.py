"""What a person asks of a running mount: status, sync, umount. All through the mount itself.

Needs no settings and no backend. A mount that does not answer costs a few seconds, never more.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from storefs.errors import Exit, Quit
from storefs.mountpoint import PATIENCE, ask, find
from storefs.screen import is_degraded, render, render_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from storefs.mountinfo import Mounted

_SYNC_PATIENCE = 300.0
"""Seconds: a first look at a large, distant store takes long, and rightly so."""

_ORDER_PATIENCE = 90.0
"""Seconds: the store is listed for its figures."""

_GRACE = 5.0
"""Seconds a daemon may need, beyond its stop time-out, to end."""


def status(mountpoint: Path, *, as_json: bool, backend: bool = False) -> Exit:
    """Print one screen, or JSON; with what the `backend`'s store says of itself.

    Raises Quit where there is no mount, or its store does not say it.
    """
    state = read_state(mountpoint)
    if not as_json:
        print(render(state, time.time()), flush=True)
    if backend:
        store = json.loads(asked(mountpoint, "backend", patience=_ORDER_PATIENCE))
        state = {**state, "store": store}
        if not as_json:
            print("\n".join(render_store(store, time.time())))
    if as_json:
        print(json.dumps(state, indent=2, ensure_ascii=False))
    return Exit.DEGRADED if is_degraded(state) else Exit.DONE


def sync(mountpoint: Path, *, accept_deletions: bool) -> Exit:
    """Make the mount reconcile now; returns when it has. Raises Quit where it could not."""
    require(mountpoint)
    order = b"accept-deletions\n" if accept_deletions else b"1\n"
    try:
        ask(lambda: write_order(mountpoint / ".storefs/sync", order), _SYNC_PATIENCE)
    except TimeoutError:
        raise hanging(mountpoint) from None
    except OSError as error:
        if error.errno == errno.EIO:
            raise Quit(
                Exit.UNREACHABLE,
                "the backend could not be asked; `storefs status` says why, and the mount tries "
                "again by itself",
            ) from None
        raise unusable(mountpoint, error) from None
    return Exit.DONE


def umount(mountpoint: Path, stop_timeout: float) -> Exit:
    """Unmount, and return when the daemon has sent what was pending and ended.

    Raises Quit: in use (mount point), not mounted, or still at it after the time-out.
    """
    place = require(mountpoint).path
    pid, daemon = _daemon(mountpoint)
    try:
        _unmount(place)
        if daemon >= 0 and not _ends(daemon, stop_timeout + _GRACE):
            raise Quit(
                Exit.FAILED,
                f"{mountpoint} is unmounted, but its process {pid} still runs after "
                f"{stop_timeout + _GRACE:g} s: it may still be sending; its log says more",
            )
    finally:
        if daemon >= 0:
            os.close(daemon)
    return Exit.DONE


def require(mountpoint: Path) -> Mounted:
    """The mount there. Raises Quit where there is none."""
    mounted = find(mountpoint)
    if mounted is None:
        raise Quit(
            Exit.NOT_MOUNTED,
            f"no storefs is mounted at {mountpoint}: `storefs mount {mountpoint}` does that",
        )
    return mounted


def read_state(mountpoint: Path) -> Mapping[str, Any]:
    """What the mount says of itself. Raises Quit where there is none."""
    return _parse(_read_status(mountpoint), mountpoint)


def _read_status(mountpoint: Path) -> str:
    require(mountpoint)
    try:
        return ask((mountpoint / ".storefs/status").read_bytes, PATIENCE).decode()
    except TimeoutError:
        raise hanging(mountpoint) from None
    except OSError as error:
        raise unusable(mountpoint, error) from None


def _parse(text: str, mountpoint: Path) -> Mapping[str, Any]:
    with suppress(ValueError):
        state = json.loads(text)
        if isinstance(state, dict):
            return state
    raise Quit(Exit.FAILED, f"{mountpoint}/.storefs/status cannot be read: is it another version?")


def write_order(path: Path, order: bytes) -> bytes:
    """Write to a control file; the mount's answer arrives at write or close. Raises OSError."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, order)
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return b""


def asked(mountpoint: Path, *words: str, patience: float = PATIENCE) -> bytes:
    """The answer of the mount to one order of `.storefs/ask`: a word and its arguments.

    Raises Quit where it refuses, with its reason, or is no mount.
    """
    require(mountpoint)
    order = "\n".join(words).encode(errors="surrogateescape")
    try:
        answer = ask(lambda: _put_question(mountpoint / ".storefs/ask", order), patience)
    except TimeoutError:
        raise hanging(mountpoint) from None
    except OSError as error:
        raise unusable(mountpoint, error) from None
    code, _, text = answer.partition(b" ")
    if code == b"0":
        return text
    exit_code = Exit.UNREACHABLE if int(code) == errno.EIO else Exit.FAILED
    raise Quit(exit_code, text.decode(errors="replace"))


def _put_question(path: Path, order: bytes) -> bytes:
    """`<errno> <answer or reason>`. Raises OSError where there is neither."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.write(fd, order)
        code = 0
        try:
            os.fsync(fd)
        except OSError as refusal:
            code = refusal.errno or errno.EIO
        text = b""
        while more := os.pread(fd, 1 << 16, len(text)):
            text += more
        if code and not text:
            raise OSError(code, os.strerror(code))
        return b"%d %s" % (code, text)
    finally:
        os.close(fd)


def hanging(mountpoint: Path) -> Quit:
    """What to say of a mount that does not answer."""
    return Quit(
        Exit.FAILED,
        f"the mount at {mountpoint} does not answer: its process hangs (pgrep -af storefs)",
    )


def unusable(mountpoint: Path, error: OSError) -> Quit:
    """What to say of a mount that answers with an error."""
    if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
        return Quit(
            Exit.NOT_MOUNTED,
            f"the mount at {mountpoint} is dead: `storefs mount {mountpoint}` replaces it, "
            f"`storefs umount {mountpoint}` removes it",
        )
    if error.errno == errno.EACCES:
        return Quit(Exit.FAILED, f"the mount at {mountpoint} belongs to another user: ask as them")
    return Quit(Exit.FAILED, f"the mount at {mountpoint} answers: {error.strerror}")


def _daemon(mountpoint: Path) -> tuple[int, int]:
    """The daemon's process id and a descriptor of it; -1 where it has none or cannot say."""
    with suppress(Quit, OSError):
        pid = read_state(mountpoint).get("pid")
        if isinstance(pid, int):
            return pid, os.pidfd_open(pid)
    return -1, -1


def _ends(daemon: int, patience: float) -> bool:
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def _unmount(mountpoint: Path) -> None:
    fusermount = shutil.which("fusermount3")
    command = [fusermount, "-u"] if fusermount else ["umount"]
    done = subprocess.run(
        [*command, "--", str(mountpoint)],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode == 0:
        return
    cause = done.stderr.strip()
    if "busy" in cause:
        cause = f"it is in use; `fuser -vm {mountpoint}` shows by whom"
    raise Quit(Exit.MOUNT_POINT, f"cannot unmount {mountpoint}: {cause}")
