"""Moving in: a mount over a directory that holds documents, by real processes and stores."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from storefs.movein import choose
from storefs.originals import Original, document_of, survey
from tests.contract.steps import bound_by_modes
from tests.copy.conftest import KINDS, Person, Store
from tests.mount.processes import Place, mounted, put, token, tree_of
from tests.servers.postgres import own_cluster  # noqa: F401 - a fixture

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster

    Make = Callable[[str, str], Store]

pytestmark = pytest.mark.user

CONFIG = "config/config.yaml"
FLAT = {
    "config.yaml": b'# mine\r\nport: 8317\r\nauth-dir: "~/.cli-proxy-api"\r\n',
    "claude-team@example.com.json": b'{ "type":"claude",\n\t"expires_in": 1.0 }\n',
    "codex-\u00fc+%41.json": b'{"b":1,"a":2,"a":3}',
    **{f"{number}.json": token(number) for number in range(5)},
}
"""As `~/.cli-proxy-api` is today."""
OTHERS = {
    "logs/main.log": b"log",
    "static/management.html": b"<html>",
    "note.txt": b"n",
    "empty.json": b"",
    "broken.json": b'{"hush',
    "claude-a@example.com.cds": b"{}",
    ".oauth-1.oauth": b"{}",
}


def documents_of(flat: dict[str, bytes]) -> dict[str, bytes]:
    return {
        CONFIG if name == "config.yaml" else f"auths/{name}": data for name, data in flat.items()
    }


def files_in(top: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()
    }


@dataclass
class House:
    """A machine over a store of any kind."""

    place: Place
    target: Store

    @property
    def before(self) -> Path:
        return self.place.mnt.with_name("mnt.before-storefs")

    def words(self, *options: str) -> list[str]:
        words = ["mount", str(self.place.mnt), "--mirror", str(self.place.root)]
        for name in ("backend", "local_store"):
            if name in self.target.options:
                words += [f"--{name.replace('_', '-')}", str(self.target.options[name])]
        return [*words, *options]

    def mount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.place.storefs(*self.words(*options), env=self.target.env)

    def start(self, *options: str) -> str:
        """Mount, look whether the tree is complete, unmount; returns what the person saw."""
        done = self.mount(*options)
        assert done.returncode == 0, done.stderr
        assert set(tree_of(self.place.mnt)) >= {*self.target.content()}
        assert self.place.storefs("umount", self.place.mnt).returncode == 0
        return done.stdout + done.stderr

    def put(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            put(self.place.mnt, name, data)

    def conflicts(self) -> list[bytes]:
        directory = self.place.root / ".storefs/conflicts"
        return [file.read_bytes() for file in directory.iterdir()]


@pytest.fixture
def house(tmp_path: Path, store: Make, request: pytest.FixtureRequest) -> Iterator[House]:
    kind = getattr(request, "param", "local")
    with Place(tmp_path / "one") as place:
        yield House(place, store(kind, "two"))


every_store = pytest.mark.parametrize("house", KINDS, indirect=True)


@every_store
def test_a_flat_directory_moves_in(house: House) -> None:
    house.put({**FLAT, **OTHERS})
    said = house.start()
    assert house.target.content() == documents_of(FLAT)
    assert files_in(house.before) == FLAT
    assert files_in(house.place.mnt) == OTHERS
    assert f"{len(FLAT)} committed, 0 the same" in said
    assert str(house.before) in said
    for name in ("logs/", "note.txt", "empty.json", "broken.json"):
        assert name in said
    assert "hush" not in said + house.place.log()
    assert house.conflicts() == []
    assert stat.S_IMODE(house.before.stat().st_mode) == 0o700
    again = house.start()
    assert "moved in" not in again
    assert "note.txt" not in again  # told once
    assert house.target.content() == documents_of(FLAT)


@every_store
def test_half_way_the_next_start_goes_on(house: House) -> None:
    house.put(FLAT)
    for steps in (3, 9, 6):
        killed(house, steps)
    house.start()
    assert house.target.content() == documents_of(FLAT)
    assert files_in(house.before) == FLAT
    assert files_in(house.place.mnt) == {}
    assert house.conflicts() == []


def killed(house: House, steps: int) -> bool:
    """A start that ends by SIGKILL after so many steps; false: it needs no more than those."""
    person = Person(house.place.home)
    code, out, err = person.run(
        "tests.copy.killed_moving", str(steps), *house.words(), env=house.target.env
    )
    if code == 0:
        house.place.storefs("umount", house.place.mnt)
        return False
    assert (code, "ended before it was ready" in err) == (1, True), (out, err)
    assert not mounted(house.place.mnt)
    return True


def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, store: Make) -> None:
    files = {"config.yaml": b"a: 1\n", "a.json": token(1), "b.json": token(2)}
    other = {"auths/b.json": token("theirs")}
    expected = {**documents_of(files), **other}
    steps, going = 0, True
    while going:
        with Place(tmp_path / f"place-{steps}") as place:
            house = House(place, store("local", f"store-{steps}"))
            house.target.put(other)
            house.put(files)
            going = killed(house, steps)
            everywhere = [*house.target.content().values(), *files_in(place.mnt).values()]
            if house.before.exists():
                everywhere += files_in(house.before).values()
            assert {*everywhere} >= {*files.values()}
            house.start()
            assert house.target.content() == expected
            assert files_in(house.before) == files
            assert files_in(place.mnt) == {}
            assert house.conflicts() == [token(2)]
        steps += 1
    assert steps > 20


def test_what_differs_becomes_a_conflict_copy(house: House) -> None:
    there = {"auths/0.json": token("theirs"), "auths/1.json": token(1)}
    house.target.put(there)
    house.put(FLAT)
    said = house.start()
    assert f"{len(FLAT) - 2} committed, 1 the same, 1 differing" in said
    assert house.target.content() == {**documents_of(FLAT), **there}
    assert house.conflicts() == [token(0)]
    assert files_in(house.before) == FLAT


def test_every_layout_moves_in(house: House) -> None:
    files = {
        "config/config.yaml": b"a: 1\n",
        "auths/team/deep.json": token("tree"),
        "flat.json": token("flat"),
        "pgstore/auths/pg.json": token("pg"),
        "objectstore/auths/team/s3.json": token("s3"),
        "gitstore/auths/git.json": token("git"),
    }
    others = {"gitstore/.git/HEAD": b"ref", "auths/logs/x.json": b"{}", "deep/er/z.bin": b"1"}
    house.put({**files, **others})
    said = house.start()
    assert house.target.content() == {
        CONFIG: b"a: 1\n",
        "auths/team/deep.json": token("tree"),
        "auths/flat.json": token("flat"),
        "auths/pg.json": token("pg"),
        "auths/team/s3.json": token("s3"),
        "auths/git.json": token("git"),
    }
    assert files_in(house.before) == files
    assert files_in(house.place.mnt) == others
    assert "gitstore/.git/" in said


def test_of_two_originals_the_younger_is_committed(house: House) -> None:
    house.put({"a.json": token("old"), "auths/a.json": token("new")})
    os.utime(house.place.mnt / "a.json", (1, 1))
    house.start()
    assert house.target.content()["auths/a.json"] == token("new")
    assert house.conflicts() == [token("old")]
    assert len(files_in(house.before)) == 2


def test_tokens_alone(house: House) -> None:
    house.put({"a.json": token(1), "team/b.json": token(2), "config.yaml": b"a: 1\n"})
    assert house.mount("--subdir", "auths").returncode == 0
    assert (house.place.mnt / "a.json").read_bytes() == token(1)
    assert house.place.storefs("umount", house.place.mnt).returncode == 0
    assert house.target.content() == {"auths/a.json": token(1), "auths/team/b.json": token(2)}
    assert files_in(house.place.mnt) == {"config.yaml": b"a: 1\n"}


def test_originals_that_are_kept_are_taken_in_once(house: House, tmp_path: Path) -> None:
    house.put(FLAT)
    house.start("--keep-originals")
    assert files_in(house.place.mnt) == FLAT
    assert not house.before.exists()
    assert house.target.content() == documents_of(FLAT)
    (tmp_path / "two/auths/0.json").unlink()
    (tmp_path / "two/auths/1.json").write_bytes(token("newer"))
    house.start("--keep-originals")
    assert "auths/0.json" not in house.target.content()
    assert house.target.content()["auths/1.json"] == token("newer")
    assert house.conflicts() == []
    put(house.place.mnt, "0.json", token("written while nothing was mounted"))
    house.start("--keep-originals")
    assert house.target.content()["auths/0.json"] == token("written while nothing was mounted")
    house.start()
    assert files_in(house.place.mnt) == {}
    assert house.target.content()["auths/1.json"] == token("newer")


def test_no_original_goes_over_an_earlier_one(house: House) -> None:
    for value in ("one", "two", "three"):
        house.put({"a.json": token(value)})
        house.start()
    assert house.target.content()["auths/a.json"] == token("one")
    assert {*files_in(house.before).values()} == {token(v) for v in ("one", "two", "three")}
    assert {*house.conflicts()} == {token("two"), token("three")}


@pytest.mark.parametrize(
    ("option", "word"), [("--no-move-in", "0.json"), ("--read-only", "0.json")]
)
def test_refusals_change_nothing(option: str, word: str, house: House) -> None:
    house.put(FLAT)
    done = house.mount(option)
    assert done.returncode == 6
    assert word in done.stderr
    assert not mounted(house.place.mnt)
    assert files_in(house.place.mnt) == FLAT
    assert house.target.content() == {}


def test_a_store_that_is_away_moves_nothing(
    tmp_path: Path,
    person: Person,
    own_cluster: Cluster,  # noqa: F811 - a fixture
) -> None:
    database = own_cluster.database()
    options: dict[str, object] = {"backend": "postgres", "mirror": str(tmp_path / "look")}
    with Place(tmp_path / "one") as place:
        house = House(place, Store("postgres", options, person.home, database.env()))
        house.start()
        own_cluster.stop()
        house.put(FLAT)
        done = house.mount("--deadline", "2")
        assert done.returncode == 0, done.stderr
        assert "not moved in, for the store is away" in done.stderr
        assert house.place.storefs("umount", place.mnt).returncode == 0
        assert files_in(place.mnt) == FLAT
        own_cluster.start()
        house.start()
        assert files_in(place.mnt) == {}
        assert files_in(house.before) == FLAT
        there = house.target.content()
        assert {p: there[p] for p in documents_of(FLAT) if p != CONFIG} == {
            p: data for p, data in documents_of(FLAT).items() if p != CONFIG
        }


def test_run_moves_in(house: House) -> None:
    house.put(FLAT)
    words = house.words()[2:]
    done = house.place.storefs("run", "--mount", house.place.mnt, *words, "--", "ls", "{auths}")
    assert done.returncode == 0, done.stderr
    assert {*done.stdout.splitlines()} == {name for name in FLAT if name != "config.yaml"}
    assert house.target.content() == documents_of(FLAT)


def test_links_and_mounts_are_left(house: House, tmp_path: Path) -> None:
    outside = put(tmp_path, "outside.json", token("outside"))
    house.place.mnt.mkdir()
    (house.place.mnt / "link.json").symlink_to(outside)
    (house.place.mnt / "auths").symlink_to(tmp_path)
    said = house.start()
    assert "link.json" in said
    assert {path for path in house.target.content() if path != CONFIG} == set()
    assert (house.place.mnt / "link.json").is_symlink()


@pytest.mark.parametrize(
    ("name", "subdir", "path"),
    [
        ("config.yaml", "", CONFIG),
        ("config/config.yaml", "", CONFIG),
        ("a.json", "", "auths/a.json"),
        ("team/a.json", "", None),
        ("auths/team/a.json", "", "auths/team/a.json"),
        (".a.json", "", None),
        ("a.json.tmp", "", None),
        ("auths/logs/a.json", "", None),
        ("pgstore/auths/a.json", "", "auths/a.json"),
        ("pgstore/config/config.yaml", "", CONFIG),
        ("pgstore/a.json", "", None),
        ("team/a.json", "auths", "auths/team/a.json"),
        ("config.yaml", "auths", None),
        ("gitstore/auths/a.json", "auths", "auths/a.json"),
        ("config.yaml", "config", CONFIG),
        ("a.json", "config", None),
        ("gitstore/auths/a.json", "config", None),
        ("a\n.json", "", None),
    ],
)
def test_which_files_are_documents(name: str, subdir: str, path: str | None) -> None:
    assert document_of(name, subdir) == path


def test_the_first_original_of_a_path_is_chosen() -> None:
    found = [Original(name, "auths/a.json", 1, 1) for name in ("gone", "one", "two")]
    assert choose(found, {"one": b"1", "two": b"2"}) == {"auths/a.json": b"1"}


def test_what_is_closed_to_us_is_left(tmp_path: Path) -> None:
    put(tmp_path, "auths/closed/a.json", token(1))
    put(tmp_path, "logs/main.log", b"log")
    put(tmp_path, "open.json", token(2))
    with bound_by_modes():
        for name in ("auths/closed", "logs"):
            (tmp_path / name).chmod(0)
        found = survey(tmp_path, "")
        for name in ("auths/closed", "logs"):
            (tmp_path / name).chmod(0o700)
    assert [one.name for one in found.originals] == ["open.json"]
    assert found.others == ["auths/closed/", "logs/"]


@pytest.mark.parametrize("house", ["postgres"], indirect=True)
def test_what_a_native_store_left_moves_into_its_store(house: House) -> None:
    """The native store's directory is the usual place of the root, but not below the mount."""
    files = {"pgstore/config/config.yaml": b"a: 1\n", "pgstore/auths/a.json": token(1)}
    house.put(files)
    place = house.place
    env = {**house.target.env, "WRITABLE_PATH": str(place.mnt)}
    for _ in range(2):
        done = place.storefs("mount", place.mnt, env=env, cwd=place.mnt)
        assert done.returncode == 0, done.stderr
        assert (place.mnt / "auths/a.json").read_bytes() == token(1)
        assert place.storefs("umount", place.mnt).returncode == 0
        assert house.target.content() == {CONFIG: b"a: 1\n", "auths/a.json": token(1)}
        assert files_in(house.before) == files
        assert files_in(place.mnt) == {}
