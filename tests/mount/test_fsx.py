"""Random operations in the manner of fsx, against a bytearray as the model.

Content and fstat size are compared after every operation. What is at stake: page cache, sizes
and mappings, while the daemon commits, refuses and replaces bytes underneath.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import one_mount
from tests.mount.place import KINDS, Place, new_place, padded
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.user

OPERATIONS = 100_000
STRETCHES = 10
"""Of the operations, one after the other on one file: a test has five minutes."""
LONGEST = 40_000
"""Bytes; ten pages, so that operations meet at page borders."""


class Fsx:
    """One file under test, its model, and a descriptor that operations go through."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self.place, self.chance = place, chance
        self.model = bytearray()
        self.path = place.file("fsx", b"{}")
        self.model[:] = b"{}"
        self.fd = os.open(self.path, os.O_RDWR)
        self.reader = os.open(self.path, os.O_RDONLY)
        """Open all the time: a second program's view."""

    def valid(self) -> bool:
        """Whether the model may be committed; a local file takes everything."""
        if not self.place.is_document:
            return True
        try:
            return isinstance(json.loads(self.model.decode()), dict)
        except ValueError:
            return False

    def _settling(self, call: Callable[[], None]) -> None:
        """A close or fsync: invalid content may be refused, with EINVAL only; valid never."""
        if self.valid():
            call()
            return
        try:
            call()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def _span(self, longest: int) -> tuple[int, int]:
        offset = self.chance.randrange(longest)
        return offset, self.chance.randint(1, min(longest - offset, 9000))

    def _noise(self, size: int) -> bytes:
        return self.chance.randbytes(size) if self.chance.random() < 0.5 else b"z" * size

    def write(self) -> None:
        """pwrite anywhere, also beyond the end."""
        offset, size = self._span(LONGEST)
        data = self._noise(size)
        assert os.pwrite(self.fd, data, offset) == size
        self.model.extend(bytes(max(0, offset - len(self.model))))
        self.model[offset : offset + size] = data

    def read(self) -> None:
        """pread anywhere, also across the end."""
        offset, size = self._span(LONGEST + 5000)
        assert os.pread(self.fd, size, offset) == self.model[offset : offset + size]

    def append(self) -> None:
        """A second descriptor with O_APPEND."""
        data = self._noise(self.chance.randint(1, 100))
        if len(self.model) + len(data) <= LONGEST:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            os.write(fd, data)
            self.model += data
            self._settling(lambda: os.close(fd))

    def _cut(self, size: int) -> None:
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def truncate(self) -> None:
        """By name."""
        size = self.chance.randrange(LONGEST)
        os.truncate(self.path, size)
        self._cut(size)

    def ftruncate(self) -> None:
        """By descriptor."""
        size = self.chance.randrange(LONGEST)
        os.ftruncate(self.fd, size)
        self._cut(size)

    def map_write(self) -> None:
        """Through a shared mapping, with or without msync; the mapping ends at once."""
        if self.model:
            offset, size = self._span(len(self.model))
            data = self._noise(size)
            with mmap.mmap(self.fd, len(self.model)) as mapping:
                mapping[offset : offset + size] = data
                self.model[offset : offset + size] = data
                if self.chance.random() < 0.3:
                    self._settling(mapping.flush)

    def map_read(self) -> None:
        """Through a mapping, with the zeros up to the end of the last page."""
        if self.model:
            with mmap.mmap(self.fd, len(self.model), access=mmap.ACCESS_READ) as mapping:
                assert mapping[:] == self.model

    def reopen(self) -> None:
        """Close and open again, sometimes with O_TRUNC."""
        self._settling(lambda: os.close(self.fd))
        cut = self.chance.random() < 0.2
        self.fd = os.open(self.path, os.O_RDWR | (os.O_TRUNC if cut else 0))
        if cut:
            self.model.clear()

    def fsync(self) -> None:
        """fsync or fdatasync."""
        call = self.chance.choice([os.fsync, os.fdatasync])
        self._settling(lambda: call(self.fd))

    def make_valid(self) -> None:
        """Rewrite with valid content and close: for a document this is a commit."""
        data = padded(self.chance.randint(40, LONGEST), n=self.chance.random())
        if self.chance.random() < 0.5:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, data, 0)
        else:
            os.pwrite(self.fd, data, 0)
            os.ftruncate(self.fd, len(data))
        self.model[:] = data
        os.close(self.fd)
        if self.place.is_document:
            assert self.place.store(self.path).read_bytes() == data
        self.fd = os.open(self.path, os.O_RDWR)

    def check(self) -> None:
        """Both descriptors show the model, and its size."""
        for fd in (self.fd, self.reader):
            assert os.fstat(fd).st_size == len(self.model)
            assert os.pread(fd, LONGEST + 10_000, 0) == self.model

    def close(self) -> None:
        """Close whatever is open."""
        for fd in (self.fd, self.reader):
            with suppress(OSError):
                os.close(fd)


WEIGHTS: dict[Callable[[Fsx], None], int] = {
    Fsx.write: 5,
    Fsx.read: 5,
    Fsx.append: 2,
    Fsx.truncate: 1,
    Fsx.ftruncate: 2,
    Fsx.map_write: 4,
    Fsx.map_read: 3,
    Fsx.reopen: 3,
    Fsx.fsync: 1,
    Fsx.make_valid: 2,
}


def _play(fsx: Fsx, count: int, stretch: int) -> None:
    past: list[str] = []
    for number in range(count):
        operation = fsx.chance.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        past.append(f"{operation.__name__} at {len(fsx.model)} bytes")
        try:
            operation(fsx)
            fsx.check()
        except (AssertionError, OSError) as error:
            last = "\n".join(past[-15:])
            where = f"seed {SEED}, stretch {stretch}, operation {number}"
            raise AssertionError(f"{where}, the last:\n{last}") from error


@pytest.fixture(scope="module", params=KINDS)
def fsx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fsx]:
    """One file for all stretches, open throughout."""
    with contextmanager(one_mount)(tmp_path_factory.mktemp("fsx")) as mount:
        fsx = Fsx(new_place(mount, request.param), random.Random(SEED))
        try:
            yield fsx
        finally:
            fsx.close()


@pytest.mark.parametrize("stretch", range(STRETCHES))
def test_random_operations(fsx: Fsx, stretch: int) -> None:
    _play(fsx, scaled(OPERATIONS // STRETCHES), stretch)
    fsx.make_valid()
    fsx.check()
    _check_end(fsx.place, fsx.path, bytes(fsx.model))


def _check_end(place: Place, path: Path, last: bytes) -> None:
    """What another program reads in between, and what the backend has."""
    assert path.read_bytes() == last
    assert path.stat().st_size == len(last)
    mirror = place.mount.root / path.relative_to(place.mount.path)
    if place.is_document:
        assert place.store(path).read_bytes() == last
        assert not place.mount.status()["conflicts"]
    else:
        assert mirror.read_bytes() == last
        assert not place.store(path).exists()
