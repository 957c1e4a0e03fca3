"""The mirror's writer: whatever moment a crash picks, a row explains what lies on the disk."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from storefs import disk
from storefs.backends.contract import Entry, Revision
from storefs.index import Index
from storefs.mirror import Mirror, digest_of
from tests.mount.harness import Watch

if TYPE_CHECKING:
    from pathlib import Path

PATH = "auths/a.json"


def _install(mirror: Mirror, text: str) -> None:
    data = text.encode()
    mirror.install(PATH, data, Entry(Revision(text), len(data), 0), 1)


def test_no_version_is_left_out(tmp_path: Path) -> None:
    """A row knows the digest of one version before its own: so that one must be on the disk."""
    (tmp_path / "auths").mkdir()
    (tmp_path / disk.TEMPORARY).mkdir(parents=True)
    dir_fd = os.open(tmp_path, os.O_RDONLY)
    mirror, busy = Mirror(dir_fd, Index(tmp_path / "index"), 1 << 20), threading.Event()
    try:
        _install(mirror, "one")
        mirror.submit(busy.wait)
        with Watch(tmp_path / disk.TEMPORARY) as watch:
            for text in ("two", "three", "four"):  # faster than the writer brings them to disk
                _install(mirror, text)
            busy.set()
            mirror.submit(lambda: None).result(20)
            made = {name for kind, name in watch.drain() if kind == "CREATE"}
        assert len(made) >= 3
    finally:
        busy.set()
        mirror.close()
        os.close(dir_fd)
    with closing(Index(tmp_path / "index")) as index:
        (row,) = [*index.rows()]
    assert (row.previous, row.digest) == (digest_of(b"three"), digest_of(b"four"))
