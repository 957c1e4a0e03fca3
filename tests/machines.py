"""Machines without a kernel: all parts of a mount, over a backend that the test owns.

`Machine` stands for the kernel and its programs at once: it resolves paths, opens, closes and
forgets. Raises are recorded by `Workers` and made when the test says so. Time is the test's.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import trio

from storefs import (
    arrivals,
    commit,
    documents,
    firstsync,
    handles,
    marks,
    raising,
    reconcile,
    removals,
    rename,
    scratch,
    settling,
    vfs,
)
from storefs.backends.contract import Delete, Put
from storefs.errors import EntryExists, NoEntry
from storefs.index import Index
from storefs.inodes import ROOT, Inode, Kind
from storefs.mirror import Mirror
from storefs.mount import Mount
from storefs.paths import CONFIG
from storefs.root import open_root
from storefs.settings import Settings
from storefs.vfs import Change
from tests.workers import Workers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from trio.testing import MockClock

    from storefs.backends.contract import Backend, Revision

PROGRAM = 1
"""The thread id of every program."""

_TIMED = (
    arrivals, commit, documents, firstsync, handles, marks, raising, reconcile, removals,
    rename, scratch, settling, vfs,
)  # fmt: skip


class _Time:
    """The module `time`, with the monotonic clock of trio."""

    def __init__(self, clock: MockClock) -> None:
        self.monotonic = clock.current_time

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


def follow(clock: MockClock, patch: pytest.MonkeyPatch) -> None:
    """Let every part of storefs that measures time read it from `clock`."""
    for module in _TIMED:
        patch.setattr(module, "time", _Time(clock))


def remote(backend: Backend, path: str, data: bytes | None) -> None:
    """A change made by another machine, over whatever the backend holds."""
    [(_, blob)] = backend.read([path])
    expect: Revision | None = blob.entry.revision if blob else None
    if data is not None:
        backend.commit([[Put(path, data, expect)]], 5.0)
    elif expect is not None:
        backend.commit([[Delete(path, expect)]], 5.0)


def stored(backend: Backend) -> dict[str, bytes]:
    """What the backend holds."""
    return {path: blob.data for path, blob in backend.read([*backend.snapshot()]) if blob}


class Machine:
    """One machine, from `start` to `stop` or `kill`; it can start again on its root."""

    def __init__(self, place: Path, backend: Backend, **settings: object) -> None:
        place.mkdir(parents=True, exist_ok=True)
        values: dict[str, object] = {
            "mountpoint": place / "mnt",
            "directory": place,
            "mirror": place / "root",
            "local_store": place / "store",
            "backend": "memory",
            "auth_dir": "keep",
            **settings,
        }
        self.settings = Settings(**values)  # type: ignore[arg-type]  # by name, each of its type
        self.backend = backend
        self.root = open_root(self.settings, backend.identity)
        index = Index(self.root.path / ".storefs" / "index.sqlite")
        self.mirror = Mirror(self.root.dir_fd, index, self.settings.cache_size)
        self.workers = Workers()
        self.mount = Mount(
            self.settings, backend, self.root, index, self.mirror, raiser=self.workers
        )
        self.vfs = self.mount.stack.vfs
        self.reconcile = self.mount.stack.reconcile
        self.documents = self.mount.stack.documents
        self.later: list[Inode] = []
        """Whose commit in the background is due."""
        self.mount.stack.scratch.background = lambda inode, seconds: self.later.append(inode)
        self._alive = trio.CancelScope()

    async def start(self, nursery: trio.Nursery) -> Machine:
        """Up to the moment at which the kernel mount would be made."""
        await nursery.start(self._run)
        await self.mount.synchronise()
        return self

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._alive:
            await self.mount.stack.store.run(task_status=task_status)

    async def stop(self) -> None:
        """As SIGTERM does it."""
        self.workers.stop(0)
        await self.mount.send_changes()
        self.kill()

    def kill(self) -> None:
        """Drop everything; what the mirror's writer was told is on disk."""
        self._alive.cancel()
        self.backend.close()
        self.mount.stack.committer.kept.close()
        self.documents.pending.close()
        self.mirror.close()
        self.root.close()

    # What the kernel does with a path.

    def resolve(self, path: str) -> tuple[int, bytes]:
        """The directory's inode number and the last name. Raises NoEntry."""
        *above, name = path.split("/")
        ino = ROOT
        for part in above:
            ino = self.vfs.names.existing(ino, part.encode()).ino
        return ino, name.encode()

    def forget(self, path: str) -> None:
        """The kernel forgets one reference of what it looked up or made."""
        self.vfs.inodes.forget(self.vfs.names.existing(*self.resolve(path)).ino, 1)

    def stat(self, path: str) -> vfs.Attributes:
        attributes = self.vfs.lookup(*self.resolve(path))
        self.vfs.inodes.forget(attributes.ino, 1)
        return attributes

    async def touch(self, path: str, tid: int = PROGRAM) -> None:
        await self.vfs.setattr(self.stat(path).ino, Change(mtime_ns=1), None, tid)

    async def truncate(self, path: str, size: int) -> None:
        await self.vfs.setattr(self.stat(path).ino, Change(size=size), None, PROGRAM)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Like open(2); O_CREAT makes what is missing."""
        parent, name = self.resolve(path)
        try:
            ino = self.vfs.names.existing(parent, name).ino
        except NoEntry:
            if not flags & os.O_CREAT:
                raise
            fh, _ = self.vfs.create(parent, name, 0o100644, flags, PROGRAM)
            return fh
        if flags & os.O_EXCL:
            raise EntryExists(path)
        return self.vfs.open(ino, flags & ~os.O_CREAT)

    async def close(self, fh: int) -> None:
        """Flush and release, as the last close of a descriptor does."""
        try:
            await self.vfs.flush(fh)
        finally:
            self.vfs.release(fh)

    async def put(self, path: str, data: bytes) -> None:
        """What a shell's `>` and the proxy do."""
        fh = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if data:
            self.vfs.write(fh, 0, data)
        await self.close(fh)

    def content(self, path: str) -> bytes | None:
        """What a read shows, None where there is no such file."""
        try:
            fh = self.open(path)
        except NoEntry:
            return None
        data = self.vfs.read(fh, 0, 1 << 30)
        self.vfs.release(fh)
        return data

    async def unlink(self, path: str, tid: int = PROGRAM) -> None:
        await self.vfs.names.unlink(*self.resolve(path), tid)

    async def mkdir(self, path: str, tid: int = PROGRAM) -> None:
        await self.vfs.names.mkdir(*self.resolve(path), tid)

    async def rmdir(self, path: str) -> None:
        await self.vfs.names.rmdir(*self.resolve(path), PROGRAM)

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        old_parent, old_name = self.resolve(old)
        new_parent, new_name = self.resolve(new)
        await self.vfs.names.rename(old_parent, old_name, new_parent, new_name, flags, PROGRAM)

    def listing(self, path: str) -> list[str]:
        """The names a readdir reports."""
        fh = self.vfs.opendir(self.stat(path).ino)
        found = [name.decode() for _, name, *_ in self.vfs.listing(fh, 0)]
        self.vfs.handles.close_listing(fh)
        return found

    def tree(self, kind: Kind = Kind.DOCUMENT) -> dict[str, bytes]:
        """Every file of one kind below config/ and auths/, found by listing."""
        found: dict[str, bytes] = {}
        pending = ["config", "auths"]
        while pending:
            directory = pending.pop()
            for name in self.listing(directory):
                path = f"{directory}/{name}"
                inode = self.vfs.names.existing(*self.resolve(path))
                if inode.kind is Kind.DIRECTORY:
                    pending.append(path)
                elif inode.kind is kind:
                    found[path] = self.content(path) or b""
        return found

    def kept(self, place: str) -> list[bytes]:
        """The copies in `conflicts`, `found` or `trash`, once both writers are idle."""
        self.mirror.submit(lambda: None).result()
        self.mount.stack.committer.kept._thread.submit(lambda: None).result()
        directory = self.root.path / ".storefs" / place
        return [file.read_bytes() for file in sorted(directory.iterdir())]

    # What goes on beside the programs.

    def hear(self) -> None:
        """Take the backend's hints, as `Reconcile.watch` does."""
        hints = None  # those of a real store come some time later
        if self.backend.identity.startswith("memory:"):
            hints = self.backend.wait(0)  # type: ignore[attr-defined]  # or Faults over it
        if hints is None:
            self.documents.marks.mark_everything()
        else:
            concerned = self.reconcile.admission.concerns
            self.documents.marks.mark(path for path in hints if concerned(path))

    async def settle(self) -> None:
        """Take the hints and make one pass; then make every raise that is wanted."""
        self.hear()
        self.reconcile.show_once()
        await self.reconcile.once()
        self.reconcile.show_once()
        await self.raise_all()

    async def raise_all(self) -> None:
        """Make the raises that are wanted now, in order."""
        wanted = [*self.workers.wanted.values()]
        self.workers.wanted.clear()
        for one in wanted:
            await self.workers.perform(self, one)

    async def tick(self) -> None:
        """What the mount's own clockwork does: background commits, scratch, deletes held back."""
        later, self.later = self.later, []
        for inode in later:
            await self.mount.stack.scratch.commit_later(inode, 0.0)
        await self.mount.stack.scratch.expire()
        for path in self.mount.stack.renames.due():
            await self.mount.stack.renames.let_go(path, self.settings.deadline)
        if self.mount.stack.store.online:
            await self.mount.stack.sending.once()


__all__ = ["CONFIG", "Machine", "Workers", "follow", "remote", "stored"]
