"""The root: this machine's directory for one mount, opened before the mount is made.

Chooses the place, keeps it apart from the mount point, locks it for one daemon and marks whose
documents it mirrors. From then on it is used by its descriptor. Not here: what it holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import apart, disk, natives
from storefs import settings as defaults
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from storefs.settings import Settings

STATE = "~/.local/state/storefs"
_NATIVE = {
    "postgres": ("PGSTORE_LOCAL_PATH", "pgstore"),
    "s3": ("OBJECTSTORE_LOCAL_PATH", "objectstore"),
    "git": ("GITSTORE_LOCAL_PATH", "gitstore"),
}
"""Where the proxy's own stores keep their files: the variable, and the directory below it."""

_OWN = ".storefs"
_PARTS = ("conflicts", "found", "trash", "pending")
_LOCK = f"{_OWN}/lock"
_MARKER = f"{_OWN}/marker"
_VERSION = 1
"""Of the layout on disk; a marker with another one is not for this program."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass
class Root:
    """An open root. `fresh`: it had no marker, so files in it may be taken in."""

    path: Path
    dir_fd: int
    fresh: bool
    lock_fd: int

    def abandon(self) -> None:
        """Be fresh again next time: the first start failed before it took anything in."""
        if self.fresh:
            disk.remove(self.dir_fd, _MARKER)

    def close(self) -> None:
        """Release the lock. May be called twice."""
        for fd in (self.lock_fd, self.dir_fd):
            if fd >= 0:
                os.close(fd)
        self.lock_fd = self.dir_fd = -1


def open_root(settings: Settings, identity: str) -> Root:
    """Make, lock and mark the root for the backend called `identity`.

    Raises Quit (settings): it cannot be used, is taken, belongs to another backend, or lies
    where the daemon would wait for itself.
    """
    path = place_of(settings, identity)
    apart.check_places(settings, path)
    with ExitStack() as undo:
        try:
            dir_fd = _open_directory(path)
            undo.callback(os.close, dir_fd)
            _lay_out(dir_fd)
            lock_fd = _lock(dir_fd, path, settings.mountpoint)
            undo.callback(os.close, lock_fd)
            fresh = _mark(dir_fd, path, identity, settings.subdir)
        except OSError as error:
            cause = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            raise _refusal(path, f"cannot be used ({cause})") from None
        undo.pop_all()
    return Root(path, dir_fd, fresh, lock_fd)


def open_beside(settings: Settings, identity: str) -> Root:
    """The root, to add kept copies to it: a mount may have it at the same time.

    Made where it is missing; neither locked nor marked, so a fresh one stays fresh. Raises Quit
    (settings) where it cannot be used, or belongs to another backend.
    """
    path = place_of(settings, identity)
    with ExitStack() as undo:
        try:
            _check(settings, path, identity)
            dir_fd = _open_directory(path)
            undo.callback(os.close, dir_fd)
            _lay_out(dir_fd)
            _ignore_in_git(dir_fd)
        except OSError as error:
            raise _refusal(path, f"cannot be used ({error.strerror})") from None
        undo.pop_all()
    return Root(path, dir_fd, fresh=False, lock_fd=-1)


def check_root(settings: Settings, identity: str) -> Path:
    """The root that a mount of the backend called `identity` would use; makes nothing.

    Raises Quit as `open_root` would, except for a root that is in use; OSError.
    """
    path = place_of(settings, identity)
    _check(settings, path, identity)
    return path


def _check(settings: Settings, path: Path, identity: str) -> None:
    apart.check_places(settings, path)
    with suppress(FileNotFoundError):
        dir_fd = os.open(path, _DIRECTORY)
        try:
            _marked(dir_fd, path, _marker(identity, settings.subdir))
        finally:
            os.close(dir_fd)


def place_of(settings: Settings, identity: str) -> Path:
    """Where the root is: as named, else where the proxy's own store has its files, else apart.

    What nobody named gives way where it cannot be used: below the mount point, not writable,
    somebody else's, or the root of another backend.
    """
    if settings.mirror is not None:
        return settings.mirror
    if settings.backend in _NATIVE:
        variable, directory = _NATIVE[settings.backend]
        named = natives.value(settings.env, variable)
        above = named or natives.value(settings.env, "WRITABLE_PATH") or str(settings.directory)
        path = defaults.locate(above, settings.env, settings.directory)
        path = path if path.name == directory else path / directory
        path = path.with_name(path.name + _suffix(settings))
        if named or _usable(settings, path, identity):
            return path
    return default_place(settings, identity)


def _usable(settings: Settings, path: Path, identity: str) -> bool:
    try:
        _check(settings, path, identity)
        made = path.exists()
        return os.access(path if made else path.parent, os.W_OK | os.X_OK) and (
            not made or path.stat().st_uid == os.geteuid()
        )
    except (Quit, OSError):
        return False


def default_place(settings: Settings, identity: str) -> Path:
    """A place of its own for each backend and part of it."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    state = defaults.locate(STATE, settings.env, Path("/"))
    return state / f"{settings.backend}-{digest}{_suffix(settings)}"


def _suffix(settings: Settings) -> str:
    return f"-{settings.subdir}" if settings.subdir else ""


def _open_directory(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(0o700, exist_ok=True)
    fd = os.open(path, _DIRECTORY)
    try:
        os.fchmod(fd, 0o700)
    except OSError:
        os.close(fd)
        raise
    return fd


def _lay_out(dir_fd: int) -> None:
    for directory in (_OWN, disk.TEMPORARY, *(f"{_OWN}/{part}" for part in _PARTS)):
        disk.make_directory(dir_fd, directory)
        fd = os.open(directory, _DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
        try:
            os.fchmod(fd, 0o700)
        finally:
            os.close(fd)


def _lock(dir_fd: int, path: Path, mountpoint: Path) -> int:
    """One daemon per root. Raises Quit naming the other one's mount point."""
    fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()} {mountpoint}\n".encode(errors="surrogateescape"))
    except BlockingIOError:
        pid, _, place = os.pread(fd, 4096, 0).decode(errors="replace").strip().partition(" ")
        os.close(fd)
        raise _refusal(
            path, f"is in use by the mount at {place or 'another place'} (process {pid or '?'})"
        ) from None
    except OSError:
        os.close(fd)
        raise
    return fd


def _mark(dir_fd: int, path: Path, identity: str, subdir: str) -> bool:
    """Mark a root that has no marker, and say so. Raises Quit for a root of something else."""
    mine = _marker(identity, subdir)
    if _marked(dir_fd, path, mine):
        return False
    _ignore_in_git(dir_fd)
    disk.replace(dir_fd, _MARKER, json.dumps(mine).encode(), durable=True)
    return True


def _marker(identity: str, subdir: str) -> dict[str, object]:
    return {"version": _VERSION, "identity": identity, "subdir": subdir}


def _marked(dir_fd: int, path: Path, mine: dict[str, object]) -> bool:
    """Whether the root has a marker. Raises Quit for one of something else."""
    try:
        found = json.loads(disk.read(dir_fd, _MARKER))
    except FileNotFoundError:
        return False
    except ValueError:
        found = None
    if found == mine:
        return True
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        raise _refusal(path, f"has a marker ({_MARKER}) this version of storefs cannot read")
    part = f" (--subdir {found['subdir']})" if found.get("subdir") else ""
    raise _refusal(path, f"mirrors something else, {found.get('identity')}{part}")


def _ignore_in_git(dir_fd: int) -> None:
    """A new root may lie in somebody's working tree, and tokens never belong in a commit."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(".gitignore", flags, 0o600, dir_fd=dir_fd)
    except FileExistsError:
        return
    with open(fd, "wb") as file:
        file.write(b"*\n")


def _refusal(path: Path, cause: str) -> Quit:
    return Quit(Exit.SETTINGS, f"the root {path} {cause}: choose another place with --mirror DIR")
