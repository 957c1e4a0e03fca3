"""Machines over one store, whatever the backend: what must hold on every one of them.

A backend joins by one entry of STORES: how a store of its own is made for a test.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.mount.calls import refused
from tests.mount.harness import Mount, until
from tests.mount.remote import LONG, tree
from tests.servers.git import TOKEN, apart, available
from tests.servers.s3 import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS = ("commit", "read", "snapshot")


class Fleet(Protocol):
    """Mounts another machine over the test's one store."""

    def __call__(self, name: str, *options: str, start: bool = True) -> Mount: ...


def _local(request: pytest.FixtureRequest, place: Path, stack: ExitStack) -> dict[str, str]:
    return {}


def _postgres(request: pytest.FixtureRequest, place: Path, stack: ExitStack) -> dict[str, str]:
    env: dict[str, str] = request.getfixturevalue("database").env()
    return env


def _s3(request: pytest.FixtureRequest, place: Path, stack: ExitStack) -> dict[str, str]:
    env = Bucket(request.getfixturevalue("moto_url")).make().env()
    return {**env, "STOREFS_POLL_INTERVAL": "0.3"}


def _blind(request: pytest.FixtureRequest, place: Path, stack: ExitStack) -> dict[str, str]:
    """An object store that ignores conditions; see `needs_conditions`."""
    env = Bucket(request.getfixturevalue("rclone_url")).make().env()
    return {**env, "STOREFS_POLL_INTERVAL": "0.3"}


def _git(request: pytest.FixtureRequest, place: Path, stack: ExitStack) -> dict[str, str]:
    if reason := available():
        pytest.skip(reason)
    repository = stack.enter_context(apart(place / "server")).repository()
    env = {"GITSTORE_GIT_URL": repository.url, "GITSTORE_GIT_TOKEN": TOKEN}
    return {**env, "STOREFS_POLL_INTERVAL": "0.2"}


STORES: dict[str, Callable[[pytest.FixtureRequest, Path, ExitStack], dict[str, str]]] = {
    "local": _local,
    "postgres": _postgres,
    "s3": _s3,
    "s3-blind": _blind,
    "git": _git,
}


@pytest.fixture(params=list(STORES))
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """A factory of machines over one store; all end with exit code 0."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with ExitStack() as stack:
        env = STORES[request.param](request, tmp_path, stack)

        def make(name: str, *options: str, start: bool = True) -> Mount:
            mount = Mount(tmp_path / name, tmp_path / "store", options, env)
            if start:
                stack.enter_context(mount)
            else:
                stack.callback(mount.clear)
            return mount

        yield make


def needs_conditions(mount: Mount) -> None:
    """Skip the test on a store where of two writers at the same moment one may be lost unseen."""
    if mount.status()["traits"].get("writes") == "last-writer-wins":
        pytest.skip("two machines write one document at once: the window of docs/backends/s3.md")


def cut(mount: Mount) -> None:
    """Nobody answers this machine any more, and it knows."""
    for call in CALLS:
        mount.fault(f"{call}.fail-before")
    with refused(errno.EIO):
        mount.sync()
    until(lambda: not mount.status()["online"], "the outage is noticed")


def mend(mount: Mount) -> None:
    """The backend answers again."""
    for call in CALLS:
        (mount.control / f"{call}.fail-before").unlink(missing_ok=True)


def heal(mount: Mount) -> None:
    """The backend answers again, and everything pending is sent."""
    mend(mount)
    until(lambda: mount.status()["online"], "the backend answers again", LONG)
    until(lambda: not mount.status()["pending"], "everything is sent", LONG)


def tokens(mount: Mount) -> dict[str, bytes] | None:
    """Every token that a machine shows; None while one goes away under the look."""
    try:
        return tree(mount.auths)
    except FileNotFoundError:
        return None


def agree(one: Mount, other: Mount) -> None:
    """Wait until both machines show the same tokens, and neither has anything to send."""

    def met() -> bool:
        idle = not one.status()["pending"] and not other.status()["pending"]
        return idle and (shown := tokens(one)) is not None and shown == tokens(other)

    until(met, "both machines show the same", LONG)
