"""Renames that are refused, with both names as before. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Batches,
    one_mount,
    refused,
    renameat2,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.harness import Mount

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("refused"))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a": NaN}'])
@pytest.mark.parametrize("target", ["kept.json", "absent.json"])
def test_invalid(here: Mount, data: bytes, target: str) -> None:
    """`rename` of an empty or invalid file onto a document name fails with EINVAL, and both
    names are as before.
    """
    write(here.auths / "kept.json", b'{"a": 1}')
    write(here.auths / "invalid.tmp", data)
    batches = Batches(here)
    with refused(errno.EINVAL):
        os.rename(here.auths / "invalid.tmp", here.auths / target)
    assert (here.auths / "invalid.tmp").read_bytes() == data
    assert (here.auths / "kept.json").read_bytes() == b'{"a": 1}'
    assert not (here.auths / "absent.json").exists()
    assert batches.sent() == []


def test_invalid_document(here: Mount) -> None:
    """`rename` of an empty or invalid file onto a document name fails with EINVAL, and both
    names are as before.
    """
    write(here.auths / "bad.json", b"{}")
    with refused(errno.EINVAL):
        write(here.auths / "bad.json", b"{")
    with refused(errno.EINVAL):
        os.rename(here.auths / "bad.json", here.auths / "worse.json")
    assert (here.auths / "bad.json").read_bytes() == b"{"
    assert (here.store / "auths/bad.json").read_bytes() == b"{}"
    assert not (here.auths / "worse.json").exists()


def test_noreplace(here: Mount) -> None:
    """`rename` with RENAME_NOREPLACE fails with EEXIST if the new name exists."""
    names = [here.auths / name for name in ("n1.json", "n2.json", "n1.tmp", "n2.tmp")]
    for number, name in enumerate(names):
        write(name, b'{"a": %d}' % number)
    for source in names:
        for target in names:
            if source != target:
                with refused(errno.EEXIST):
                    renameat2(source, target, RENAME_NOREPLACE)
    for number, name in enumerate(names):
        assert name.read_bytes() == b'{"a": %d}' % number
    renameat2(names[2], here.auths / "n3.json", RENAME_NOREPLACE)
    assert (here.store / "auths/n3.json").read_bytes() == b'{"a": 2}'


def test_exchange(here: Mount) -> None:
    """`rename` with RENAME_EXCHANGE fails with EINVAL."""
    names = [here.auths / name for name in ("x1.json", "x2.json", "x.tmp")]
    for number, name in enumerate(names):
        write(name, b'{"a": %d}' % number)
    for target in names[1:]:
        with refused(errno.EINVAL):
            renameat2(names[0], target, RENAME_EXCHANGE)
    for number, name in enumerate(names):
        assert name.read_bytes() == b'{"a": %d}' % number


def test_directories(here: Mount) -> None:
    """`rename` of a directory that holds documents, or would make documents of its files, fails
    with EXDEV.
    """
    holds, would = here.auths / "holds" / "deep", here.path / "config" / "would"
    holds.mkdir(parents=True)
    would.mkdir()
    write(holds / "a.json", b"{}")
    write(would / "b.json", b"not JSON")
    for source, target in ((holds.parent, here.auths / "x"), (would, here.auths / "y")):
        with refused(errno.EXDEV):
            os.rename(source, target)
    assert (holds / "a.json").read_bytes() == b"{}"
    assert (would / "b.json").read_bytes() == b"not JSON"
    (holds / "a.json").unlink()
    os.rename(holds.parent, here.auths / "x")
