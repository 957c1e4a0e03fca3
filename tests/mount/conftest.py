"""Fixtures of the tests that mount."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.mount.harness import Mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Mounts(Protocol):
    """Mounts another machine over the test's one store."""

    def __call__(self, name: str = "a", *options: str, start: bool = True) -> Mount: ...


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    """A factory of machines; all are stopped, with exit code 0, when the test ends."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with ExitStack() as stack:

        def make(name: str = "a", *options: str, start: bool = True) -> Mount:
            mount = Mount(tmp_path / name, tmp_path / "store", options)
            if start:
                stack.enter_context(mount)
            else:
                stack.callback(mount.clear)
            return mount

        yield make


@pytest.fixture
def mount(mounts: Mounts) -> Mount:
    """One machine with the default options."""
    return mounts("a")
