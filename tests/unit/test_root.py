"""The root: its place, its lock, its marker, and that it lies apart from the mount point."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from storefs import root
from storefs.apart import check_places
from storefs.errors import Exit, Quit
from storefs.root import Root, default_place, open_root, place_of
from storefs.settings import Settings


def settings_of(tmp_path: Path, **changes: object) -> Settings:
    values: dict[str, object] = {
        "mountpoint": tmp_path / "mnt",
        "mirror": tmp_path / "root",
        "local_store": tmp_path / "store",
        "env": {"HOME": str(tmp_path)},
        **changes,
    }
    return Settings(**values)  # type: ignore[arg-type]  # by name, each of its own type


def refused(settings: Settings, identity: str = "local:x") -> str:
    with pytest.raises(Quit) as caught:
        open_root(settings, identity)
    assert caught.value.code is Exit.SETTINGS
    return str(caught.value)


def reopened(settings: Settings, identity: str = "local:x") -> Root:
    opened = open_root(settings, identity)
    opened.close()
    return opened


def test_a_new_root_is_private_and_laid_out(tmp_path: Path) -> None:
    opened = reopened(settings_of(tmp_path, mirror=tmp_path / "a/b/root"))
    assert opened.fresh
    own = opened.path / ".storefs"
    directories = [opened.path, own, *(own / name for name in ("conflicts", "found", "trash"))]
    for directory in [*directories, own / "pending"]:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in (opened.path / ".gitignore", own / "lock", own / "marker"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (opened.path / ".gitignore").read_text() == "*\n"


def test_a_root_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(0o755)
    (tmp_path / "root").chmod(0o755)
    reopened(settings_of(tmp_path))
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700


def test_the_descriptor_is_the_root(tmp_path: Path) -> None:
    opened = open_root(settings_of(tmp_path), "local:x")
    assert os.path.samestat(os.fstat(opened.dir_fd), os.stat(tmp_path / "root"))
    opened.close()
    opened.close()


def test_only_the_first_start_is_fresh(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert reopened(settings).fresh
    assert not reopened(settings).fresh
    marker = json.loads((tmp_path / "root/.storefs/marker").read_text())
    assert marker == {"version": 1, "identity": "local:x", "subdir": ""}


def test_an_abandoned_first_start_leaves_the_root_fresh(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    opened = open_root(settings, "local:x")
    opened.abandon()
    opened.close()
    assert reopened(settings).fresh


def test_a_later_start_cannot_be_abandoned(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    reopened(settings)
    opened = open_root(settings, "local:x")
    opened.abandon()
    opened.close()
    assert not reopened(settings).fresh


def test_files_in_a_new_root_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root/auths").mkdir(parents=True)
    (tmp_path / "root/auths/a.json").write_text("{}")
    (tmp_path / "root/.gitignore").write_text("mine\n")
    assert reopened(settings_of(tmp_path)).fresh
    assert (tmp_path / "root/auths/a.json").read_text() == "{}"
    assert (tmp_path / "root/.gitignore").read_text() == "mine\n"


def test_a_taken_root_names_who_has_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    opened = open_root(settings, "local:x")
    message = refused(settings_of(tmp_path, mountpoint=tmp_path / "second"))
    assert str(settings.mountpoint) in message
    assert str(os.getpid()) in message
    assert "--mirror" in message
    opened.close()
    reopened(settings)


def test_a_refused_start_holds_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    reopened(settings)
    before = set(os.listdir("/proc/self/fd"))
    refused(settings, "local:y")
    assert set(os.listdir("/proc/self/fd")) == before
    reopened(settings)


def test_a_root_of_another_backend_is_refused(tmp_path: Path) -> None:
    reopened(settings_of(tmp_path))
    assert "local:x" in refused(settings_of(tmp_path), "local:y")


def test_a_root_of_another_part_is_refused(tmp_path: Path) -> None:
    reopened(settings_of(tmp_path, subdir="auths"))
    assert "--subdir auths" in refused(settings_of(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", '{"version": 99}', "{"])
def test_a_marker_nobody_understands_is_refused(tmp_path: Path, text: str) -> None:
    reopened(settings_of(tmp_path))
    (tmp_path / "root/.storefs/marker").write_text(text)
    assert "marker" in refused(settings_of(tmp_path))


def test_a_file_in_the_place_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    message = refused(settings_of(tmp_path))
    assert str(tmp_path / "root") in message
    assert "--mirror" in message


def test_the_default_root_is_one_per_backend_and_part(tmp_path: Path) -> None:
    def place(identity: str, **changes: object) -> Path:
        return default_place(settings_of(tmp_path, mirror=None, **changes), identity)

    whole = place("local:x")
    assert whole.parent == tmp_path / ".local/state/storefs"
    assert whole.name.startswith("local-")
    assert len(whole.name) == len("local-") + 12
    assert place("local:x", subdir="auths").name == f"{whole.name}-auths"
    assert place("local:y") != whole
    assert reopened(settings_of(tmp_path, mirror=None)).path == whole


def native(tmp_path: Path, **changes: object) -> Path:
    """Where the root of a PostgreSQL mount is, run in the directory `here`."""
    (tmp_path / "here").mkdir(exist_ok=True)
    env = {"HOME": str(tmp_path), **cast("dict[str, str]", changes.pop("env", {}))}
    settings = settings_of(
        tmp_path, mirror=None, backend="postgres", directory=tmp_path / "here", env=env, **changes
    )
    return place_of(settings, "postgres:x")


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("PGSTORE_LOCAL_PATH", "named", "named/pgstore"),
        ("pgstore_local_path", "named", "named/pgstore"),
        ("PGSTORE_LOCAL_PATH", "named/pgstore", "named/pgstore"),
        ("WRITABLE_PATH", "w", "w/pgstore"),
        ("OBJECTSTORE_LOCAL_PATH", "named", "here/pgstore"),
    ],
)
def test_the_root_lies_where_the_native_store_has_its_files(
    tmp_path: Path, variable: str, value: str, place: str
) -> None:
    (tmp_path / "w").mkdir()
    assert native(tmp_path, env={variable: str(tmp_path / value)}) == tmp_path / place


def test_a_native_place_has_a_neighbour_for_each_part(tmp_path: Path) -> None:
    assert native(tmp_path) == tmp_path / "here/pgstore"
    assert native(tmp_path, subdir="auths") == tmp_path / "here/pgstore-auths"


def test_a_native_place_that_nobody_named_gives_way(tmp_path: Path) -> None:
    aside = tmp_path / ".local/state/storefs"
    assert native(tmp_path, mountpoint=tmp_path / "here").parent == aside
    other = settings_of(tmp_path, mirror=tmp_path / "here/pgstore", backend="postgres")
    reopened(other, "postgres:other")
    assert native(tmp_path).parent == aside


def test_a_native_place_that_was_named_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    env = {"HOME": str(tmp_path), "PGSTORE_LOCAL_PATH": str(tmp_path / "here")}
    settings = settings_of(
        tmp_path, mirror=None, backend="postgres", mountpoint=tmp_path / "here", env=env
    )
    assert "mount point" in refused(settings)


@pytest.mark.parametrize("made", [True, False], ids=["mountpoint exists", "missing"])
@pytest.mark.parametrize("below", ["", "/deep/root"])
@pytest.mark.parametrize("what", ["mirror", "local_store"])
def test_nothing_of_ours_lies_in_the_mount_point(
    tmp_path: Path, what: str, below: str, made: bool
) -> None:
    if made:
        (tmp_path / "mnt").mkdir()
    inside = Path(f"{tmp_path}/mnt{below}")
    message = refused(settings_of(tmp_path, **{what: inside}))
    assert str(inside) in message
    assert not (tmp_path / "mnt/deep").exists()


@pytest.mark.parametrize("what", ["root", "store"])
def test_the_mount_point_lies_in_nothing_of_ours(tmp_path: Path, what: str) -> None:
    assert what in refused(settings_of(tmp_path, mountpoint=tmp_path / what / "auths/mnt"))


def test_links_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to("mnt")
    refused(settings_of(tmp_path, mirror=tmp_path / "link/root"))
    refused(settings_of(tmp_path, mountpoint=tmp_path / "link", mirror=tmp_path / "mnt/root"))


def test_neighbours_with_like_names_are_no_trouble(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, mirror=tmp_path / "mnt-root", local_store=tmp_path / "mn")
    reopened(settings)


def test_a_default_root_below_the_mount_point_is_refused_too(tmp_path: Path) -> None:
    refused(settings_of(tmp_path, mirror=None, mountpoint=tmp_path / ".local"))


@pytest.mark.parametrize("mirror", ["store", "store/auths/r", "."])
def test_root_and_local_store_lie_apart(tmp_path: Path, mirror: str) -> None:
    settings = settings_of(
        tmp_path / "x", mirror=tmp_path / "s" / mirror, local_store=tmp_path / "s/store"
    )
    assert "local store" in refused(settings)


def test_only_the_local_backend_has_a_local_store(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, backend="memory", local_store=tmp_path / "root")
    check_places(settings, tmp_path / "root")


def _may_bind() -> bool:
    return (
        subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not _may_bind(), reason="needs the right to make a mount namespace")
def test_bind_mounts_hide_nothing(tmp_path: Path) -> None:
    for name in ("mnt", "bind"):
        (tmp_path / name).mkdir()
    program = (
        "from pathlib import Path; from storefs.apart import _lies_in as inside; "
        "print(inside(Path('bind/deep/root'), Path('mnt')), inside(Path('bind'), Path('store')))"
    )
    script = 'mount --bind mnt bind; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-ec", script, sys.executable, program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(root.__file__).parent.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "False"]
