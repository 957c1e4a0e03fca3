"""Threads with open files of their own, and those that act for them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from storefs import detached
from storefs.detached import Attached

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_detached_thread_closes_stays_open_for_others(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    seen: list[object] = []

    def work() -> None:
        try:
            os.fstat(fd)
        except OSError as error:
            seen.append(error.strerror)
        seen.append(sorted(int(name) for name in os.listdir("/proc/thread-self/fd"))[:3])

    try:
        detached.start(work, "test").join()
        os.fstat(fd)
    finally:
        os.close(fd)
    assert seen[0] == "Bad file descriptor"
    assert seen[1] == [0, 1, 2]


def test_an_attached_thread_has_the_files_and_tells_of_failures(tmp_path: Path) -> None:
    attached = Attached()
    attached.start()
    fd = os.open(tmp_path, os.O_RDONLY)
    seen: list[object] = []

    def work() -> None:
        attached.run(lambda: seen.append(os.fstat(fd).st_ino))
        with pytest.raises(ZeroDivisionError):
            attached.run(lambda: seen.append(1 // 0))

    try:
        detached.start(work, "test").join()
    finally:
        os.close(fd)
        attached.stop()
    assert seen == [tmp_path.stat().st_ino]
    for thread in threading.enumerate():
        if thread.name == "attached":
            thread.join(10)
            assert not thread.is_alive()
