"""Lets libgit2's sockets send at once: they are left to Nagle's algorithm, and there is no option.

libgit2 sends a request's head and body apart. The kernel holds the body back until the other end
has acknowledged the head, which that one puts off by 40 ms. Measured on loopback, medians: a push
of 64 ms becomes one of 21, a fetch of 111 ms one of 24. libgit2 1.9 neither sets TCP_NODELAY nor
shows its sockets, so they are found among the open files. It is safe: only TCP sockets are
touched, the option changes no byte that is sent, and a look costs 16 us.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_OPEN = "/proc/self/fd"


def hasten() -> None:
    """Let every TCP socket of this process send at once. Never fails: it is but slower without."""
    with suppress(OSError):
        for name in os.listdir(_OPEN):
            with suppress(OSError):
                # By the link alone: to stat a file of our own mount would ask ourselves.
                if os.readlink(f"{_OPEN}/{name}").startswith("socket:"):
                    _hasten(int(name))


def _hasten(fd: int) -> None:
    # A copy: to close the object must not close the socket of somebody else.
    copy = os.dup(fd)
    try:
        found = socket.socket(fileno=copy)
    except OSError:  # no socket any more: another thread was faster
        os.close(copy)
        raise
    with found:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
