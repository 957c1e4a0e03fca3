"""The clone below the root: bare, shallow, packed, and worth nothing: it can always be made anew.

One process owns it, by a lock. Where the root does not exist yet (doctor), or belongs to a
running mount (copy), a clone in a temporary directory does instead and goes away with it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2

from storefs.backends.git_remote import TRACKING
from storefs.backends.git_trees import is_complete

if TYPE_CHECKING:
    from pygit2 import Oid, Repository

log = logging.getLogger(__name__)

_LOCK = "git-lock"
_GARBAGE = 3 << 20
"""Bytes on disk that what is no longer needed may take before it is packed away."""

_LOOK = 64
_LOOK_BYTES = 1 << 20
"""So many commits, or so many bytes of documents, between two looks at the disk."""


class Clone:
    """A bare repository that holds one commit, and what came and went since it was packed.

    Not thread-safe: the caller holds its own lock. Raises OSError for the disk.
    """

    def __init__(self, above: Path) -> None:
        """`above`: the directory in which it may lie, if that exists and nobody else uses it."""
        self._lock = -1
        self._temporary = ""
        place = self._own(above) or self._elsewhere()
        self._path = place / "git"
        self._clear()
        self.repository = self._opened()
        self._packed = usage(self._path)
        self._commits = self._bytes = 0

    def _own(self, above: Path) -> Path | None:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(above / _LOCK, flags, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            self._release()
            return None
        return above

    def _elsewhere(self) -> Path:
        self._temporary = tempfile.mkdtemp(prefix="storefs-git-")
        return Path(self._temporary)

    def _clear(self) -> None:
        for name in ("git.new", "git.old"):
            _remove(self._path.with_name(name))

    def _opened(self) -> Repository:
        with suppress(pygit2.GitError, KeyError, ValueError):
            # By its own path only: a repository further up is none of ours.
            flags = pygit2.enums.RepositoryOpenFlag.NO_SEARCH
            repository = pygit2.Repository(str(self._path), flags)
            if _loose_objects_are_whole(self._path):
                return repository
        _remove(self._path)
        return _made(self._path)

    @property
    def tip(self) -> Oid | None:
        """The commit at TRACKING, None where there is none."""
        found = self.repository.references.get(TRACKING)
        return found.target if found is not None and isinstance(found.target, pygit2.Oid) else None

    def set_tip(self, oid: Oid) -> None:
        """Note where the branch is; later fetches bring only what is new."""
        self.repository.references.create(TRACKING, oid, force=True)

    def is_there(self) -> bool:
        """Whether its files still are; somebody may have removed them."""
        return (self._path / "objects").is_dir()

    def holds(self, oid: Oid) -> bool:
        """Whether the commit is here, whole."""
        return is_complete(self.repository, oid)

    def wrote(self, size: int) -> None:
        """Count a commit of so many bytes, for `tidy`."""
        self._commits += 1
        self._bytes += size

    def tidy(self, tip: Oid) -> None:
        """Where much has gathered that is not needed for `tip`, keep that commit alone."""
        if self._commits < _LOOK and self._bytes < _LOOK_BYTES:
            return
        self._commits = self._bytes = 0
        # In proportion, so that packing costs the same for each byte, however many there are.
        if usage(self._path) > self._packed + max(_GARBAGE, self._packed // 2):
            self._pack(tip)

    def _pack(self, tip: Oid) -> None:
        fresh = self._path.with_name("git.new")
        _remove(fresh)
        _made(fresh).free()
        builder = pygit2.PackBuilder(self.repository)
        builder.add_recur(tip)
        packs = fresh / "objects/pack"
        packs.mkdir(exist_ok=True)
        builder.write(str(packs))
        if b"\nparent " in self.repository[tip].read_raw().partition(b"\n\n")[0]:
            (fresh / "shallow").write_text(f"{tip}\n")
        self.repository.free()
        os.rename(self._path, self._path.with_name("git.old"))
        os.rename(fresh, self._path)
        self.repository = self._opened()
        self.set_tip(tip)
        self._clear()
        self._packed = usage(self._path)

    def renew(self, cause: BaseException) -> None:
        """Throw the clone away and begin a new one."""
        log.warning("the clone %s is broken (%s); it is made again", self._path, _short(cause))
        self.repository.free()
        _remove(self._path)
        self.repository = self._opened()
        self._packed = usage(self._path)

    def close(self) -> None:
        """Let another process have it. Called once."""
        self.repository.free()
        if self._temporary:
            _remove(Path(self._temporary))
        self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _made(path: Path) -> Repository:
    path.mkdir(mode=0o700)
    repository = pygit2.init_repository(str(path), bare=True)
    _remove(path / "hooks")
    return repository


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _loose_objects_are_whole(path: Path) -> bool:
    """Whether none was cut off by a crash: libgit2 1.9 reads such a one for ever."""
    for file in path.glob("objects/??/*"):
        try:
            zlib.decompress(file.read_bytes())
        except (zlib.error, OSError):
            return False
    return True


def usage(path: Path) -> int:
    """Bytes on disk."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in [".", *names]:
            with suppress(FileNotFoundError):
                status = os.stat(os.path.join(directory, name), follow_symlinks=False)
                total += status.st_blocks * 512
    return total


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
