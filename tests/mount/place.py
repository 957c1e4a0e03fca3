"""A document and a local file side by side: what is asked of both is asked through a `Place`."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mount.harness import Mount

KINDS = ("document", "local")
_serial = count()


@dataclass(frozen=True)
class Place:
    """A directory of its own in the mount, and names in it that are documents or local files."""

    kind: str
    mount: Mount
    directory: Path

    @property
    def is_document(self) -> bool:
        """Whether `name` gives documents."""
        return self.kind == "document"

    def name(self, stem: str) -> Path:
        """A file of this kind, which need not exist."""
        return self.directory / (f"{stem}.json" if self.is_document else f"{stem}.txt")

    def file(self, stem: str, data: bytes) -> Path:
        """A file of this kind that holds `data`."""
        path = self.name(stem)
        path.write_bytes(data)
        return path

    def store(self, path: Path) -> Path:
        """Where the backend has the document."""
        return self.mount.store / path.relative_to(self.mount.path)


def new_place(mount: Mount, kind: str) -> Place:
    """A place nobody used before."""
    directory = mount.auths / f"place-{next(_serial)}"
    directory.mkdir()
    return Place(kind, mount, directory)


def padded(size: int, **keys: object) -> bytes:
    """A JSON object of exactly `size` bytes."""
    head = json.dumps({**keys, "pad": ""}).encode()
    assert size >= len(head), (size, head)
    return head[:-2] + b"x" * (size - len(head)) + head[-2:]


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """A descriptor, closed in the end whatever the close says."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)
