"""The tree: what has a place in it, names, modes, a part of it, reading only.

Quotes docs/SEMANTICS.md.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import RENAME_NOREPLACE, one_mount, refused, renameat2, shows, write
from tests.mount.harness import Mount, Watch, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    yield from one_mount(tmp_path_factory.mktemp("tree"))


def test_the_root(here: Mount) -> None:
    """The root holds `config/`, `auths/` and `.storefs/`, and nothing else."""
    assert sorted(os.listdir(here.path)) == [".storefs", "auths", "config"]
    assert all((here.path / name).is_dir() for name in os.listdir(here.path))


def _rename_here(path: Path) -> None:
    write(path.parent / "auths" / "x.tmp", b"x")
    os.rename(path.parent / "auths" / "x.tmp", path)


STRANGERS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: write(path, b"x"),
    "node": os.mknod,
    "directory": os.mkdir,
    "renamed": _rename_here,
}


@pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers(here: Mount, make: Callable[[Path], object]) -> None:
    """Creating anything at the root fails with EPERM, and a log line says where it belongs."""
    before = here.log()
    with refused(errno.EPERM):
        make(here.path / "stranger")
    assert "configuration belongs in config/, tokens in auths/" in here.log()[len(before) :]
    assert not (here.path / "stranger").exists()


OTHER = {"auths": "config", "config": "auths", ".storefs": "auths"}


def test_the_tops_stay(here: Mount) -> None:
    """The root holds `config/`, `auths/` and `.storefs/`, and nothing else."""
    for name in OTHER:
        with refused(errno.EPERM):
            (here.path / name).rmdir()
        with refused(errno.EPERM):
            (here.path / name).rename(here.path / "moved")
        with refused(errno.EPERM):
            (here.path / name).rename(here.path / OTHER[name] / "moved")
    assert sorted(os.listdir(here.path)) == [".storefs", "auths", "config"]


def test_no_links_nor_devices(here: Mount) -> None:
    """Symbolic links, hard links, devices, FIFOs and sockets are refused with EPERM."""
    write(here.auths / "a.json", b"{}")
    write(here.auths / "a.tmp", b"x")
    new = here.auths / "new"
    for place in (new, here.path / "link"):
        with refused(errno.EPERM):
            place.symlink_to("a.json")
    for name in ("a.json", "a.tmp"):
        with refused(errno.EPERM):
            new.hardlink_to(here.auths / name)
    with refused(errno.EPERM):
        os.mkfifo(new)
    with socket.socket(socket.AF_UNIX) as server, refused(errno.EPERM):
        server.bind(os.path.relpath(new))
    if os.geteuid() == 0:
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            with refused(errno.EPERM):
                os.mknod(new, kind | 0o600, os.makedev(1, 3))
    assert not os.path.lexists(new)


@pytest.mark.parametrize("name", [b"new\nline", b"tab\t", b"del\x7f", b"\x01", b"latin-\xe4.json"])
def test_forbidden_names(here: Mount, name: bytes) -> None:
    """A name that holds a control character or is not UTF-8 is refused with EINVAL."""
    write(here.auths / "source.tmp", b"x")
    for directory in (here.auths, here.path / "config"):
        path = os.path.join(os.fsencode(directory), name)
        with refused(errno.EINVAL):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        with refused(errno.EINVAL):
            os.mkdir(path)
        with refused(errno.EINVAL):
            os.rename(os.fsencode(here.auths / "source.tmp"), path)
        with refused(errno.ENOENT):
            os.stat(path)


def test_long_names(mounts: Mounts) -> None:
    """A name has up to 255 bytes; a longer one is refused with ENAMETOOLONG."""
    one, other = mounts("one"), mounts("other")
    names = ["x" * 250 + ".json", "ä" * 125 + ".json", "x" * 251 + ".tmp", "d" * 255]
    (one.auths / names[3]).mkdir()
    for name in names[:3]:
        write(one.auths / name, b'{"a": 1}')
    with refused(errno.EINVAL):
        write(one.auths / names[0], b"{")
    write(one.auths / names[0], b'{"a": 2}')
    shows(other.auths / names[0], b'{"a": 2}')
    shows(other.auths / names[1], b'{"a": 1}')
    (other.auths / names[1]).unlink()
    until(lambda: not (one.auths / names[1]).exists(), "it is gone")
    for name in names:
        longer = one.auths / f"x{name}"
        with refused(errno.ENAMETOOLONG):
            write(longer, b"{}")
        with refused(errno.ENAMETOOLONG):
            longer.mkdir()
        with refused(errno.ENAMETOOLONG):
            os.rename(one.auths / names[0], longer)
        with refused(errno.ENAMETOOLONG):
            longer.stat()


def test_listing(here: Mount) -> None:
    """Listing a directory shows each name once, and no name that is gone."""
    base = here.auths / "listing"
    base.mkdir()
    names = [f"{number:03}.json" for number in range(300)] + [f"{n}.tmp" for n in range(100)]
    for name in names:
        write(base / name, b"{}")
    assert sorted(os.listdir(base)) == sorted(names)
    with os.scandir(base) as entries:
        listed = [next(entries).name]
        for name in names[1::2]:
            (base / name).unlink()
        os.rename(base / "0.tmp", base / "renamed.tmp")
        listed += [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    assert len(listed) == len(set(listed))
    gone = set(names[1::2])
    assert gone.isdisjoint(os.listdir(base))
    for name in gone:
        with refused(errno.ENOENT):
            os.stat(base / name)


def test_modes(here: Mount) -> None:
    """Documents show mode 0600 and directories 0700."""
    previous = os.umask(0)
    try:
        (here.auths / "modes").mkdir(0o755)
        write(here.auths / "modes" / "a.json", b"{}")
        os.close(os.open(here.auths / "modes" / "b.json", os.O_CREAT | os.O_WRONLY, 0o666))
    finally:
        os.umask(previous)
    for path in (here.path, here.auths, here.auths / "modes", here.path / ".storefs"):
        assert stat.filemode(path.stat().st_mode) == "drwx------", path
    for path in (here.config, here.auths / "modes" / "a.json", here.auths / "modes" / "b.json"):
        assert stat.filemode(path.stat().st_mode) == "-rw-------", path


def test_attributes_of_documents(here: Mount) -> None:
    """`chmod`, `chown` and setting times of a document succeed and change nothing."""
    path = here.auths / "kept.json"
    write(path, b"{}")
    before = path.stat()
    path.chmod(0o644)
    os.chown(path, os.getuid(), os.getgid())
    os.utime(path, (0, 0))
    with open(path, "rb") as file:
        os.fchmod(file.fileno(), 0o777)
    after = path.stat()
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (
        after.st_mode, after.st_uid, after.st_mtime_ns,
    )  # fmt: skip
    assert path.read_bytes() == b"{}"


def test_owner(here: Mount) -> None:
    """The owner of everything is the user who mounted, or `--owner`."""
    write(here.auths / "owner.tmp", b"")
    for path in (here.path, here.auths, here.config, here.auths / "owner.tmp"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_size_and_times(mounts: Mounts) -> None:
    """The size is exact at any moment, right after a write and right after a change from
    elsewhere.
    """
    one, other = mounts("one"), mounts("other")
    with Watch(other.auths) as watch:
        write(one.auths / "a.json", b"{}")
        watch.expect("CREATE", "a.json")
        assert (other.auths / "a.json").stat().st_size == 2
        for size in (3000, 10, 70_000):
            data = b'{"a": "' + b"x" * (size - 9) + b'"}'
            with open(one.auths / "a.json", "wb", buffering=0) as file:
                assert os.fstat(file.fileno()).st_size == 0
                file.write(data)
                assert os.fstat(file.fileno()).st_size == size
            assert (one.auths / "a.json").stat().st_size == size
            watch.expect("MODIFY", "a.json")
            assert (other.auths / "a.json").stat().st_size == size
            assert (other.auths / "a.json").read_bytes() == data


def test_a_part(mounts: Mounts) -> None:
    """`--subdir auths` mounts that part of the tree alone, with its files at the top."""
    one, part = mounts("one"), mounts("part", "--subdir", "auths")
    write(one.auths / "a.json", b'{"a": 1}')
    shows(part.path / "a.json", b'{"a": 1}')
    (part.path / "team").mkdir()
    write(part.path / "team" / "b.json", b'{"b": 1}')
    shows(one.auths / "team" / "b.json", b'{"b": 1}')
    write(part.path / "local.tmp", b"x")
    os.rename(part.path / "team" / "b.json", part.path / "c.json")
    shows(one.auths / "c.json", b'{"b": 1}')
    with Watch(part.path) as watch:
        (one.auths / "a.json").unlink()
        watch.expect("DELETE", "a.json")
    (part.path / "c.json").unlink()
    assert not (part.store / "auths" / "c.json").exists()
    assert sorted(os.listdir(part.path)) == ["local.tmp", "team"]


def test_the_part_of_the_config(mounts: Mounts) -> None:
    """With `--subdir`, `.storefs/` answers by name but is not listed."""
    for name in ("auths", "config"):
        part = mounts(name, "--subdir", name)
        assert ".storefs" not in os.listdir(part.path)
        assert (part.path / ".storefs").is_dir()
        assert part.status()["subdir"] == name
        part.sync()
        with refused(errno.EEXIST):
            (part.path / ".storefs").mkdir()
        with refused(errno.EPERM):
            (part.path / ".storefs").rename(part.path / "other")
        with refused(errno.EPERM):
            write(part.path / ".storefs" / "new", b"")


def test_read_only(mounts: Mounts) -> None:
    """`--read-only` answers every change by a program with EROFS."""
    one = mounts("one")
    write(one.auths / "a.json", b"{}")
    reader = mounts("reader", "--read-only")
    path = reader.auths / "a.json"
    changes: list[Callable[[], object]] = [
        lambda: write(path, b'{"a": 1}'),
        lambda: write(path, b"", os.O_APPEND),
        lambda: write(reader.auths / "new.json", b"{}"),
        lambda: write(reader.auths / "new.tmp", b"x"),
        lambda: os.truncate(path, 0),
        lambda: os.chmod(path, 0o600),
        lambda: os.utime(path),
        lambda: os.rename(path, reader.auths / "b.json"),
        lambda: renameat2(path, reader.auths / "b.json", RENAME_NOREPLACE),
        lambda: os.mkdir(reader.auths / "new"),
        lambda: os.mknod(reader.auths / "new.json"),
        path.unlink,
    ]
    for change in changes:
        with refused(errno.EROFS):
            change()
    assert os.listdir(reader.auths) == ["a.json"]
    assert path.read_bytes() == b"{}"
    assert reader.commits() == []


def test_read_only_sees_changes(mounts: Mounts) -> None:
    """On a read-only mount, changes made elsewhere still arrive, with their events."""
    one, reader = mounts("one"), mounts("reader", "--read-only")
    with Watch(reader.auths) as watch:
        write(one.auths / "a.json", b'{"a": 1}')
        watch.expect("CREATE", "a.json")
        write(one.auths / "a.json", b'{"a": 2}')
        watch.expect("MODIFY", "a.json")
        assert (reader.auths / "a.json").read_bytes() == b'{"a": 2}'
        (one.auths / "team").mkdir()
        write(one.auths / "team" / "b.json", b"{}")
        watch.expect("CREATE", "team")
        (one.auths / "a.json").unlink()
        watch.expect("DELETE", "a.json")
    shows(reader.auths / "team" / "b.json", b"{}")
    reader.sync()
