"""Bad input from programs: each case with its errno and its line in the log.

What lies in the store and should not is in test_bad_store.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import one_mount, refused, write
from tests.mount.harness import Mount, until
from tests.mount.place import new_place, padded
from tests.mount.tools import LONGEST, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.user


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for this module."""
    yield from one_mount(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def directory(machine: Mount) -> Path:
    """A directory of its own."""
    return new_place(machine, "document").directory


def _create(path: bytes, directory: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _make_directory(path: bytes, directory: Path) -> None:
    os.mkdir(path)


def _rename_file(path: bytes, directory: Path) -> None:
    write(directory / "source.tmp", b"{}")
    os.rename(directory / "source.tmp", path)


def _rename_document(path: bytes, directory: Path) -> None:
    write(directory / "source.json", b"{}")
    os.rename(directory / "source.json", path)


def _rename_directory(path: bytes, directory: Path) -> None:
    (directory / "source").mkdir()
    os.rename(directory / "source", path)


MAKERS: list[Callable[[bytes, Path], None]] = [
    _create, _make_directory, _rename_file, _rename_document, _rename_directory,
]  # fmt: skip

BAD_NAMES: dict[str, tuple[bytes, int, str]] = {
    "newline": (b"new\nline", errno.EINVAL, "holds a slash or a control character"),
    "tab": (b"ta\tb", errno.EINVAL, "holds a slash or a control character"),
    "delete character": (b"\x7f", errno.EINVAL, "holds a slash or a control character"),
    "Latin-1": (b"caf\xe9", errno.EINVAL, "is not UTF-8"),
    "surrogate": (b"\xed\xa0\x80", errno.EINVAL, "is not UTF-8"),
    "256 bytes": (b"n" * 256, errno.ENAMETOOLONG, "a name of 256 bytes"),
    "128 letters": ("é".encode() * 128, errno.ENAMETOOLONG, "a name of 256 bytes"),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("suffix", [b".json", b".txt", b""])
@pytest.mark.parametrize("case", BAD_NAMES)
def test_a_name_that_cannot_be(
    machine: Mount,
    directory: Path,
    case: str,
    suffix: bytes,
    maker: Callable[[bytes, Path], None],
) -> None:
    name, code, reason = BAD_NAMES[case]
    name = name[: 256 - len(suffix)] + suffix if len(name) > 255 else name + suffix
    log = Log(machine)
    with refused(code):
        maker(os.fsencode(directory) + b"/" + name, directory)
    log.expect("WARNING", str(directory.name), reason, errno.errorcode[code])
    assert all("source" in entry.name for entry in directory.iterdir())
    assert machine.status()["error"] == ""


@pytest.mark.parametrize("name", ["n" * 255, "n" * 250 + ".json", "é" * 125 + ".json"])
def test_the_longest_name(machine: Mount, directory: Path, name: str) -> None:
    path = directory / name
    write(path, b'{"a": 1}')
    write(directory / "source.tmp", b'{"a": 2}')
    (directory / "source.tmp").rename(path)
    assert path.read_bytes() == b'{"a": 2}'
    if name.endswith(".json"):
        stored = machine.store / path.relative_to(machine.path)
        assert stored.read_bytes() == b'{"a": 2}'
        stored.write_bytes(b'{"a": 3}')  # and it gets into trash/ with a name cut to fit
        until(lambda: path.read_bytes() == b'{"a": 3}', "the change arrives")
        until(lambda: b'{"a": 2}' in machine.kept("trash").values(), "what was replaced is kept")
    path.unlink()
    assert list(directory.iterdir()) == []


SECRET = "sk-very-secret"
INVALID = {
    "cut JSON": ("auths", f'{{"access_token": "{SECRET}", "type', "is not JSON (line 1"),
    "an array": ("auths", f'["{SECRET}"]', "is not a JSON object"),
    "a number that is none": ("auths", f'{{"{SECRET}": NaN}}', "holds NaN, which is not JSON"),
    "two values": ("auths", f'{{}}{{"a": "{SECRET}"}}', "is not JSON"),
    "Latin-1": ("auths", f'{{"{SECRET}": "\xe9"}}', "is not UTF-8"),
    "cut YAML": ("config", f'api-keys: ["{SECRET}"', "is not YAML (line"),
    "a list": ("config", f"- {SECRET}\n", "holds YAML that is not a mapping"),
    "a word": ("config", SECRET, "holds YAML that is not a mapping"),
    "tabs": ("config", f"a:\n\t{SECRET}: 1\n", "is not YAML (line"),
    "two YAML documents": ("config", f"a: {SECRET}\n---\nb: 1\n", "holds several YAML documents"),
}


@pytest.mark.parametrize("case", INVALID)
def test_content_that_cannot_be(machine: Mount, directory: Path, case: str) -> None:
    """EINVAL at close and fsync, the reason in the log, and nothing of the content in it."""
    top, text, reason = INVALID[case]
    path = machine.config if top == "config" else directory / "a.json"
    if top == "auths":
        write(path, b"{}")
    stored = machine.store / path.relative_to(machine.path)
    before, shown, log = stored.read_bytes(), path.read_bytes(), Log(machine)
    with refused(errno.EINVAL):
        write(path, text.encode("latin-1"))
    log.expect("WARNING", "flush", str(path.relative_to(machine.path)), reason, "EINVAL")
    fd = os.open(path, os.O_WRONLY)
    with refused(errno.EINVAL):
        os.fsync(fd)
    os.close(fd)
    log.expect("WARNING", "fsync", reason)
    assert SECRET not in machine.log()
    assert stored.read_bytes() == before
    write(path, shown)  # made valid again
    assert stored.read_bytes() == before


@pytest.mark.parametrize("suffix", [".tmp", ".json"])
def test_renaming_invalid_content(machine: Mount, directory: Path, suffix: str) -> None:
    """Onto a document's name: EINVAL, and both names are as before."""
    source, target, log = directory / f"b{suffix}", directory / "a.json", Log(machine)
    write(target, b'{"a": 1}')
    fd = os.open(source, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, SECRET.encode())
    with refused(errno.EINVAL):
        source.rename(target)
    log.expect("WARNING", "rename", "a.json", "not renamed", "is not JSON", "EINVAL")
    assert target.read_bytes() == b'{"a": 1}'
    assert source.read_bytes() == SECRET.encode()
    os.ftruncate(fd, 0)
    os.close(fd)
    assert SECRET not in machine.log()


def test_a_document_of_exactly_the_limit(machine: Mount, directory: Path) -> None:
    path, data = directory / "a.json", padded(LONGEST)
    path.write_bytes(data)
    assert path.stat().st_size == LONGEST
    assert path.read_bytes() == data
    assert (machine.store / path.relative_to(machine.path)).stat().st_size == LONGEST
    path.unlink()


def test_a_document_of_one_byte_more(machine: Mount, directory: Path) -> None:
    """write, truncate and rename: EFBIG; what was there stays."""
    path, local, log = directory / "a.json", directory / "a.tmp", Log(machine)
    write(path, b'{"a": 1}')
    fd = os.open(path, os.O_RDWR)
    with refused(errno.EFBIG):
        os.pwrite(fd, b"x", LONGEST)
    with refused(errno.EFBIG):
        os.ftruncate(fd, LONGEST + 1)
    assert os.fstat(fd).st_size == 8
    assert os.pread(fd, 100, 0) == b'{"a": 1}'
    os.close(fd)
    with refused(errno.EFBIG):
        os.truncate(path, LONGEST + 1)
    local.write_bytes(padded(LONGEST + 1))
    with refused(errno.EFBIG):
        local.rename(path)
    log.expect("WARNING", "write", "a.json", "--max-file-size", "EFBIG")
    log.expect("WARNING", "rename", "16777216", "EFBIG")
    assert path.read_bytes() == b'{"a": 1}'
    assert local.stat().st_size == LONGEST + 1
    local.unlink()


def test_a_long_write_that_ends_too_far(machine: Mount, directory: Path) -> None:
    """What fits may have been written; close answers for what is there then."""
    path = directory / "a.json"
    write(path, b'{"a": 1}')
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    with refused(errno.EFBIG):
        data = padded(LONGEST + 4096)
        while data:
            data = data[os.write(fd, data) :]
    assert os.fstat(fd).st_size <= LONGEST
    with refused(errno.EINVAL):
        os.close(fd)
    stored = machine.store / path.relative_to(machine.path)
    assert stored.read_bytes() == b'{"a": 1}'
    write(path, b"{}")
