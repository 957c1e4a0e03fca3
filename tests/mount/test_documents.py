"""When a document is committed, and what of it. Quotes docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import Batches, attribute, one_mount, refused, shows, write
from tests.mount.harness import PATIENCE, Mount, Watch, until
from tests.mount.standin_files import read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.conftest import Mounts

EXACT = {
    "crlf": b'{\r\n  "a": 1\r\n}\r\n',
    "no last line end": b'{"a": 1}',
    "many line ends": b'\n\n{"a": 1}\n\n\n',
    "numbers as written": b'{"a": 1.0, "b": 12345678901234567890, "c": 1e2}',
    "equal keys": b'{"a": 1, "a": 2}',
    "not ascii": '{"ä": "😀\u2028"}'.encode(),
    "escapes": b'{"a": "\\u00e4\\/"}',
    "tabs": b'{"a"\t:\t1}\t',
    "one MiB": b'{"a": "' + b"x" * ((1 << 20) - 9) + b'"}',
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("documents"))


@pytest.mark.parametrize("data", EXACT.values(), ids=EXACT.keys())
def test_exact(here: Mount, data: bytes) -> None:
    """Bytes are kept exactly as they were written."""
    file = here.auths / "exact.json"
    write(file, data)
    assert (here.store / "auths/exact.json").read_bytes() == data
    assert read_file(str(file)) == data
    assert file.stat().st_size == len(data)


def test_exact_elsewhere(mounts: Mounts) -> None:
    """Bytes are kept exactly as they were written."""
    one, other = mounts("one"), mounts("other")
    for number, data in enumerate(EXACT.values()):
        write(one.auths / f"{number}.json", data)
    for number, data in enumerate(EXACT.values()):
        shows(other.auths / f"{number}.json", data)


def test_close(here: Mount) -> None:
    """`close` of a changed document commits it: the backend has it, whole, when the call
    returns.
    """
    write(here.auths / "close.json", b'{"a": 1}')
    assert (here.store / "auths/close.json").read_bytes() == b'{"a": 1}'
    with open(here.auths / "close.json", "r+b") as file:
        file.seek(6)
        file.write(b"2")
    assert (here.store / "auths/close.json").read_bytes() == b'{"a": 2}'
    with open(here.auths / "close.json", "ab") as file:
        file.write(b"\n")
    assert (here.store / "auths/close.json").read_bytes() == b'{"a": 2}\n'


def test_close_of_any_kind(here: Mount) -> None:
    """`close` of a changed document commits it: the backend has it, whole, when the call
    returns.
    """
    (here.auths / "team" / "deep").mkdir(parents=True)
    for name in ("team/deep/x.json", "ä 😀.json", "-.json", "a.json.json"):
        write(here.auths / name, b'{"type": "claude"}')
        assert (here.store / "auths" / name).read_bytes() == b'{"type": "claude"}'


def test_fsync(here: Mount) -> None:
    """`fsync` of a changed document commits it: the backend has it, whole, when the call
    returns.
    """
    batches = Batches(here)
    with open(here.auths / "fsync.json", "wb", buffering=0) as file:
        file.write(b'{"a": 1}')
        assert not (here.store / "auths/fsync.json").exists()
        os.fsync(file.fileno())
        assert (here.store / "auths/fsync.json").read_bytes() == b'{"a": 1}'
    assert batches.sent() == [[["put", "auths/fsync.json"]]]


def test_seen_at_once(here: Mount) -> None:
    """`write` changes what every process of this machine reads at once, as on any disk."""
    path = here.auths / "atonce.json"
    write(path, b'{"a": 1}')
    # A process begun while the file is open would close a copy of the descriptor: a commit.
    words = ["sh", "-c", 'read -r _; cat "$1"', "sh", str(path)]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader,
        open(path, "r+b", buffering=0) as file,
    ):
        file.write(b'{"longer": 2}')
        assert reader.communicate(b"\n")[0] == b'{"longer": 2}'
        assert path.stat().st_size == 13
        assert (here.store / "auths/atonce.json").read_bytes() == b'{"a": 1}'


def test_one_commit(here: Mount) -> None:
    """`open` with O_TRUNC, `write` and `close` is one commit."""
    path = here.auths / "one.json"
    batches = Batches(here)
    for value in range(3):
        write_file(str(path), b'{"a": %d}' % value, 0o600)
    assert batches.sent() == [[["put", "auths/one.json"]]] * 3


def test_equal_bytes(here: Mount) -> None:
    """There is no commit if the bytes equal those that the backend has."""
    path = here.auths / "equal.json"
    write(path, b'{"a": 1}')
    batches = Batches(here)
    write(path, b'{"a": 1}')
    with open(path, "r+b", buffering=0) as file:
        file.write(b'{"b')
        file.seek(0)
        file.write(b'{"a')
        os.fsync(file.fileno())
    assert batches.sent() == []
    assert attribute(path, "state") == "synced"


def test_nothing_written(here: Mount) -> None:
    """`close` of a handle that wrote nothing commits nothing."""
    path = here.auths / "nothing.json"
    write(path, b'{"a": 1}')
    batches = Batches(here)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_APPEND):
        os.close(os.open(path, flags))
    os.utime(path)
    assert batches.sent() == []
    assert path.read_bytes() == b'{"a": 1}'


def test_copied_descriptors(here: Mount) -> None:
    """Each `close` of a copied descriptor is a commit of what was written so far."""
    for name, data in (("first", '{"a": 1}'), ("second", "\n\n")):
        (here.base / name).write_text(data)
    batches = Batches(here)
    script = '{ cat "$1/first"; cat "$1/second"; } > "$2"'
    subprocess.run(["sh", "-c", script, "sh", here.base, here.auths / "copied.json"], check=True)
    assert batches.sent() == [[["put", "auths/copied.json"]]] * 2
    assert (here.store / "auths/copied.json").read_bytes() == b'{"a": 1}\n\n'


def test_memory_map(here: Mount) -> None:
    """What was stored through a memory map and seen by no `close` is committed in the
    background.
    """
    path = here.auths / "mapped.json"
    write(path, b'{"a": 1}')
    fd = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(fd, 0)
    os.close(fd)
    mapped[6:7] = b"7"
    mapped.close()
    until(lambda: (here.store / "auths/mapped.json").read_bytes() == b'{"a": 7}', "it is committed")
    assert path.read_bytes() == b'{"a": 7}'
    until(lambda: attribute(path, "state") == "synced", "nothing is under way")


def test_truncate(here: Mount) -> None:
    """`truncate` without a handle is committed one second later, if what is left is valid."""
    path = here.auths / "cut.json"
    write(path, b'{"a": 1}tail'[:8] + b"    ")
    os.truncate(path, 8)
    assert path.read_bytes() == b'{"a": 1}'
    until(lambda: (here.store / "auths/cut.json").read_bytes() == b'{"a": 1}', "it is committed")
    os.truncate(path, 4)
    assert path.read_bytes() == b'{"a"'
    until(lambda: attribute(path, "state") == "invalid", "it was found invalid")
    assert (here.store / "auths/cut.json").read_bytes() == b'{"a": 1}'


def test_unlinked_while_open(here: Mount) -> None:
    """What is written through a handle whose name was unlinked is never committed."""
    path = here.auths / "unlinked.json"
    write(path, b'{"a": 1}')
    with open(path, "r+b", buffering=0) as file:
        file.write(b'{"a": 2}')
        path.unlink()
        file.write(b"  ")
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b'{"a": 2}  '
    assert not path.exists()
    assert not (here.store / "auths/unlinked.json").exists()


def test_replaced_while_open(here: Mount) -> None:
    """What is written through a handle whose name was replaced is never committed to the name."""
    path = here.auths / "replaced.json"
    write(path, b'{"a": 1}')
    write(here.auths / "replaced.tmp", b'{"new": 1}')
    with open(path, "r+b", buffering=0) as file:
        file.write(b'{"a": 2}')
        os.rename(here.auths / "replaced.tmp", path)
        file.write(b"  ")
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b'{"a": 2}  '
    assert path.read_bytes() == b'{"new": 1}'
    assert (here.store / "auths/replaced.json").read_bytes() == b'{"new": 1}'


def test_unlinked_and_made_anew(here: Mount) -> None:
    """What is written through a handle whose name was unlinked is never committed."""
    path = here.auths / "anew.json"
    write(path, b'{"a": 1}')
    with open(path, "r+b", buffering=0) as old:
        path.unlink()
        write(path, b'{"new": 1}')
        old.write(b'{"a": 2}')
    assert (here.store / "auths/anew.json").read_bytes() == b'{"new": 1}'
    assert path.read_bytes() == b'{"new": 1}'


def test_exclusive(here: Mount) -> None:
    """O_EXCL on a document that exists fails with EEXIST."""
    write(here.auths / "exclusive.json", b"{}", os.O_CREAT | os.O_EXCL)
    with refused(errno.EEXIST):
        write(here.auths / "exclusive.json", b"{}", os.O_CREAT | os.O_EXCL)


def test_old_handle(mounts: Mounts) -> None:
    """The first write through a handle that was opened before a change from elsewhere was shown
    fails with ESTALE; opening with O_TRUNC never does.
    """
    one, other = mounts("one"), mounts("other")
    path = one.auths / "a.json"
    write(path, b'{"a": 1}')
    shows(other.auths / "a.json", b'{"a": 1}')
    with open(path, "r+b", buffering=0) as file:
        assert file.read() == b'{"a": 1}'
        write(other.auths / "a.json", b'{"a": 2}')
        shows(path, b'{"a": 2}')
        with refused(errno.ESTALE):
            file.write(b"  ")
        with refused(errno.ESTALE):
            file.truncate(4)
    assert path.read_bytes() == b'{"a": 2}'
    assert (one.store / "auths/a.json").read_bytes() == b'{"a": 2}'
    write(path, b'{"a": 3}')
    assert (one.store / "auths/a.json").read_bytes() == b'{"a": 3}'


def test_handle_about_to_write(mounts: Mounts) -> None:
    """A handle that is open for writing and has not written holds changes from elsewhere back
    for 10 seconds.
    """
    one, other = mounts("one"), mounts("other")
    path = one.auths / "a.json"
    write(path, b'{"a": 1}')
    shows(other.auths / "a.json", b'{"a": 1}')
    with open(path, "r+b", buffering=0) as file, Watch(one.auths) as watch:
        write(other.auths / "a.json", b'{"a": 2}')
        write(other.auths / "later.json", b"{}")
        watch.expect("CREATE", "later.json")
        assert file.read() == b'{"a": 1}'
        watch.expect("MODIFY", "a.json", 2 * PATIENCE)
        assert path.read_bytes() == b'{"a": 2}'


def test_other_documents(here: Mount) -> None:
    """Whatever else the backend holds below `config/` and `auths/` is a document too, names that
    begin with a dot excepted.
    """
    for name in ("auths/.gitkeep", "auths/notes.txt", "config/extra.bin"):
        (here.store / name).write_bytes(b"\xff\x00")
    shows(here.auths / "notes.txt", b"\xff\x00")
    shows(here.path / "config/extra.bin", b"\xff\x00")
    assert not (here.auths / ".gitkeep").exists()
    assert ".gitkeep" not in os.listdir(here.auths)


def test_other_documents_are_bytes(here: Mount) -> None:
    """A document with any other name is bytes, all of which are valid, except none at all."""
    (here.store / "auths/bytes.txt").write_bytes(b"\xff\x00")
    shows(here.auths / "bytes.txt", b"\xff\x00")
    write(here.auths / "bytes.txt", b"\x00not JSON\xfe")
    assert (here.store / "auths/bytes.txt").read_bytes() == b"\x00not JSON\xfe"
    write(here.auths / "bytes.txt", b"")
    assert (here.store / "auths/bytes.txt").read_bytes() == b"\x00not JSON\xfe"
