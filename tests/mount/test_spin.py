"""Looking for messages before sleeping: nobody else in the daemon goes short of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, Watch, environment, until
from tests.mount.remote import Remote, credential

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.user

READER = """\
import os, sys
print("begun", flush=True)
while True:
    try:
        for name in os.listdir(sys.argv[1]):
            with open(os.path.join(sys.argv[1], name), "rb") as file:
                os.fstat(file.fileno())
                file.read()
    except FileNotFoundError:
        if not os.path.isdir(sys.argv[1]):
            sys.exit(0)
    except OSError:
        sys.exit(0)
"""
"""Ends when the mount does."""


@contextmanager
def hammered(mount: Mount, programs: int) -> Iterator[None]:
    """So many programs open, read and close documents as fast as they can."""
    command = [sys.executable, "-c", READER, str(mount.auths)]
    running = [
        subprocess.Popen(command, env=environment(mount.home), stdout=subprocess.PIPE)
        for _ in range(programs)
    ]
    try:
        for program in running:
            assert program.stdout is not None
            assert program.stdout.readline() == b"begun\n"
        yield
    finally:
        for program in running:
            program.kill()
            program.communicate()


def seeded(tmp_path: Path, *options: str) -> Mount:
    mount = Mount(tmp_path / "a", tmp_path / "store", options)
    Remote(mount.store).seed(*(f"{number}.json" for number in range(20)))
    return mount


@pytest.mark.parametrize("programs", [1, 8])
def test_everything_else_goes_on_while_programs_hammer(tmp_path: Path, programs: int) -> None:
    with seeded(tmp_path) as mount, hammered(mount, programs), Watch(mount.auths) as watch:
        for number in range(5):
            Remote(mount.store).write("auths/1.json", credential(100 + number))  # hint, thread
            watch.expect("MODIFY", "1.json")
            own = credential(1000 + number)
            (mount.auths / "2.json").write_bytes(own)  # a commit
            assert (mount.store / "auths/2.json").read_bytes() == own
            mount.sync()  # a task that waits for others
        (mount.auths / "3.json").rename(mount.auths / "3.json~")  # a timer: held back for 2 s
        until(lambda: not (mount.store / "auths/3.json").exists(), "the timer is served")


@pytest.mark.parametrize("programs", [1, 8])
def test_it_stops_while_programs_hammer(tmp_path: Path, programs: int) -> None:
    with seeded(tmp_path, "--deadline", "60") as mount, hammered(mount, programs):
        assert mount.stop(deadline=55.0) == 0  # nobody waits for the next message


def test_it_is_unmounted_while_programs_hammer(tmp_path: Path) -> None:
    with seeded(tmp_path) as mount, hammered(mount, 8):
        assert mount.process is not None
        subprocess.run(["fusermount3", "-uz", str(mount.path)], check=True, capture_output=True)
        assert mount.process.wait(60) == 0
        mount.process = None


class WithoutAttribute(Mount):
    program = "tests.mount.no_trio_attribute"


def test_a_pyfuse3_that_cannot_be_hastened_works(tmp_path: Path) -> None:
    with WithoutAttribute(tmp_path / "a", tmp_path / "store") as mount:
        (mount.auths / "a.json").write_bytes(credential(1))
        assert (mount.store / "auths/a.json").read_bytes() == credential(1)
        assert "--spin has no effect" in mount.log()


def test_idle_it_sleeps(tmp_path: Path) -> None:
    with seeded(tmp_path, "--spin", "999999") as mount:
        assert mount.process is not None
        os.listdir(mount.auths)
        time.sleep(2.0)  # longer than it looks, after which there is nothing to wait for
        before, begun = cpu_seconds(mount.process.pid), time.monotonic()
        time.sleep(2.0)  # what is measured is this time
        share = (cpu_seconds(mount.process.pid) - before) / (time.monotonic() - begun)
        assert share < 0.2  # who looks all the time uses all of one CPU


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
