"""kill -9 in the middle of a first fill: the next start has everything, and finds nothing odd."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import until
from tests.mount.processes import put, token, tree_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

DOCUMENTS = 1500


def names(directory: Path) -> int:
    return len(os.listdir(directory)) if directory.is_dir() else 0


@pytest.mark.parametrize("share", [0.001, 0.3, 0.8])
def test_a_first_fill_that_is_killed_is_gone_on_with(
    mounts: Mounts, tmp_path: Path, share: float
) -> None:
    documents = {f"auths/{number}.json": token(number) for number in range(DOCUMENTS)}
    documents |= {f"auths/deep/{n}.json": b'{"long": "%s"}' % (b"x" * 30_000) for n in range(50)}
    for path, data in documents.items():
        put(tmp_path / "store", path, data)
    goes_on_after_a_kill(mounts("a", start=False), documents, share)


def goes_on_after_a_kill(mount: Mount, documents: dict[str, bytes], share: float) -> None:
    """Killed with that share of the documents in the mirror, the mount has them all next time."""
    enough = share * len(documents)
    mount.launch()
    until(lambda: names(mount.root / "auths") > enough, "files are in the mirror", 60)
    mount.kill()
    with mount:
        shown = tree_of(mount.path)
        assert {path: shown[path] for path in documents} == documents
        assert {path: (mount.root / path).read_bytes() for path in documents} == documents
        assert mount.kept("found") == {}
