"""What mounting needs of this machine: /dev/fuse, fusermount3, fuse.conf. Changes nothing."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from storefs.errors import Exit, Quit

_DEVICE = Path("/dev/fuse")
_FUSE_CONF = Path("/etc/fuse.conf")
_ALLOW = "user_allow_other"


def check_present() -> None:
    """Raises Quit (mount point) where FUSE is missing, or not for us."""
    if not _DEVICE.exists():
        raise Quit(
            Exit.MOUNT_POINT,
            f"{_DEVICE} is missing: load the kernel module (modprobe fuse), or start the container "
            f"with --device {_DEVICE} --cap-add SYS_ADMIN",
        )
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise Quit(
            Exit.MOUNT_POINT,
            f"{_DEVICE} cannot be opened ({error.strerror}): it needs mode 0666 (chmod, as root), "
            "and a container that may use the device",
        ) from None


def check_helper() -> Path:
    """The program that mounts for a user without rights. Raises Quit (mount point)."""
    if (found := shutil.which("fusermount3")) is None:
        raise Quit(
            Exit.MOUNT_POINT, "fusermount3 is missing: install the package fuse3, or mount as root"
        )
    return Path(found)


def check_others_allowed() -> None:
    """Raises Quit (mount point) unless a user without rights may use --allow-other."""
    if not _others_allowed():
        raise Quit(
            Exit.MOUNT_POINT,
            f"--allow-other needs a line in {_FUSE_CONF} that only root can add: {_ALLOW}",
        )


def _others_allowed() -> bool:
    with suppress(OSError):
        lines = _FUSE_CONF.read_text(errors="replace").splitlines()
        return any(line.strip() == _ALLOW for line in lines)
    return False
