"""The bare pyfuse3 loop: what any file system in Python costs, before it does anything.

`python -m bench.loop MOUNTPOINT COUNT SPIN`: COUNT documents of 2 KB in one directory, in memory,
read-only, every answer made in advance; waits for messages as storefs does (SPIN microseconds).
Ends, and unmounts, at SIGTERM.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys

import pyfuse3
import trio

from bench.calls import body
from storefs import spin

_TIMEOUT = 60.0
"""Seconds for which the kernel may keep names and attributes."""


class Loop(pyfuse3.Operations):
    """One directory and its files; inode numbers follow the names' order."""

    def __init__(self, count: int) -> None:
        super().__init__()
        names = [f"user-{number:06d}@example.com.json".encode() for number in range(count)]
        self._inodes = {name: number for number, name in enumerate(names, pyfuse3.ROOT_INODE + 1)}
        self._data = {self._inodes[name]: body(number) for number, name in enumerate(names)}
        self._attributes = {ino: _attributes(ino, len(data)) for ino, data in self._data.items()}
        self._attributes[pyfuse3.ROOT_INODE] = _attributes(pyfuse3.ROOT_INODE, 0)
        self._listing = [(name, self._attributes[ino]) for name, ino in self._inodes.items()]

    async def lookup(self, parent_inode, name, ctx=None):  # type: ignore[no-untyped-def]
        if name not in self._inodes:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes[self._inodes[name]]

    async def getattr(self, inode, ctx=None):  # type: ignore[no-untyped-def]
        return self._attributes[inode]

    async def open(self, inode, flags, ctx):  # type: ignore[no-untyped-def]
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh, off, size):  # type: ignore[no-untyped-def]
        return self._data[fh][off : off + size]

    async def flush(self, fh):  # type: ignore[no-untyped-def]
        pass

    async def release(self, fh):  # type: ignore[no-untyped-def]
        pass

    async def opendir(self, inode, ctx):  # type: ignore[no-untyped-def]
        return inode

    async def readdir(self, fh, start_id, token):  # type: ignore[no-untyped-def]
        reply = pyfuse3.readdir_reply
        for number in range(start_id, len(self._listing)):
            name, attributes = self._listing[number]
            if not reply(token, name, attributes, number + 1):
                return


def _attributes(ino: int, size: int) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    directory = ino == pyfuse3.ROOT_INODE
    entry.st_ino, entry.st_size = pyfuse3.InodeT(ino), size
    entry.st_mode = pyfuse3.ModeT((stat.S_IFDIR | 0o500) if directory else (stat.S_IFREG | 0o400))
    entry.st_nlink = 1
    entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
    entry.entry_timeout = entry.attr_timeout = _TIMEOUT
    return entry


async def _serve(microseconds: int) -> None:
    if microseconds:
        pyfuse3.trio = spin.Waiting(microseconds / 1e6)  # type: ignore[attr-defined]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_at_a_signal)
        await pyfuse3.main(max_tasks=1000)
        nursery.cancel_scope.cancel()


async def _end_at_a_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            pyfuse3.terminate()


def main() -> None:
    """See the module."""
    mountpoint, count, microseconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pyfuse3.init(Loop(count), mountpoint, {*pyfuse3.default_options, "fsname=loop"})
    try:
        trio.run(_serve, microseconds)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
