"""Threads without the daemon's open files: a daemon that is killed ends, whatever they wait for.

A thread that waits in a call on the own mount cannot be killed: behind a directory lock, or once
the call was handed to the daemon, the kernel waits for the answer alone. As long as such a thread
shares the table of open files, the kernel keeps `/dev/fuse` open after a SIGKILL, aborts nothing,
and daemon, mount and every program in it hang for ever (measured on 6.18: a rename that waits for
its commit, a raise behind it, kill -9). With a table of its own the thread holds nothing up.
"""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_FILES = 0x400
_FIRST = 3
"""Standard error stays: Python itself may have to say something there."""

_THREADS = 4
"""As many invalidations may wait at once, each for a program's read."""

_libc = ctypes.CDLL(None, use_errno=True)


def detach() -> bool:
    """Give the calling thread a table of open files of its own, empty but for the standard ones.

    From then on it must touch no file of others: no log, no socket, not even to close it.
    False where the system forbids it (a container's seccomp profile): the thread shares on.
    """
    if _libc.unshare(_CLONE_FILES) != 0:
        return False
    for name in os.listdir("/proc/thread-self/fd"):
        if (fd := int(name)) >= _FIRST:
            with suppress(OSError):  # the one that listed them is closed already
                os.close(fd)
    return True


def start(work: Callable[[], None], name: str) -> threading.Thread:
    """Run `work` in a detached thread."""

    def run() -> None:
        detach()
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class Attached:
    """Threads with the daemon's files, for what detached ones cannot do themselves."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = SimpleQueue()

    def start(self) -> None:
        """From an attached thread: threads share the files of whoever starts them."""
        for _ in range(_THREADS):
            threading.Thread(target=self._work, name="attached", daemon=True).start()

    def stop(self) -> None:
        """End them when what was asked for is done."""
        for _ in range(_THREADS):
            self._calls.put(None)

    def run(self, call: Callable[[], None]) -> None:
        """Have it done by one of them, and wait. Raises what it raises."""
        done: Future[None] = Future()
        self._calls.put((done, call))
        done.result()

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            done, call = asked
            try:
                call()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)
