"""Takes 40 ms off each push and fetch: libgit2 leaves its sockets to Nagle's algorithm.

It sends a request's head and body apart, and the kernel holds the body back until the other end
has acknowledged the head, which that one puts off. Measured on loopback: a push of 64 ms becomes
one of 24. libgit2 1.9 has no option for it, so the sockets are found among the open files.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress


def hasten() -> None:
    """Let every TCP socket of this process send at once. Never fails: it is but slower without."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                _hasten(int(name))


def _hasten(fd: int) -> None:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return
    # A copy: to close the object must not close the socket of somebody else.
    with socket.socket(fileno=os.dup(fd)) as copy:
        if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM:
            copy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
