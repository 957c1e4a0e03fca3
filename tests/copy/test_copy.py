"""`storefs copy` between real stores, by real processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from storefs.copy import Action, Wishes, chunks, decide
from tests.copy.conftest import KINDS
from tests.mount.processes import put, token, tree_of
from tests.mount.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.copy.conftest import Person, Store

    Make = Callable[[str, str], Store]

pytestmark = pytest.mark.user

CONFIG = "config/config.yaml"
DOCUMENTS = {
    CONFIG: b'# kept\r\nport: 8317\r\nauth-dir: "/elsewhere/auths"\r\n',
    "auths/claude-team@example.com.json": b'{ "type":"claude",\n\t"expires_in": 1.0 }\n',
    "auths/team/deep \u00fc+%41.json": b'{"b":1,"a":2,"a":3}',
    **{f"auths/{number}.json": token(number) for number in range(18)},
}
OTHER = {"local": "s3", "postgres": "local", "s3": "git", "git": "postgres"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_store_as_source_and_as_target(kind: str, store: Make, person: Person) -> None:
    """The bytes come out as they went in, `auth-dir` included."""
    source, target = store(kind, "one"), store(OTHER[kind], "two")
    source.put(DOCUMENTS)
    code, out, err = person.storefs("copy", source.words, target.words)
    assert (code, err) == (0, ""), out
    assert "21 put, 0 replaced, 0 same; verified" in out
    assert out.count("\n") == 1
    assert target.content() == DOCUMENTS
    code, out, _ = person.storefs("copy", source.words, target.words)
    assert (code, "0 put, 0 replaced, 21 same" in out) == (0, True), out


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_copy_is_completed_by_the_next(
    kind: str, when: str, store: Make, person: Person, tmp_path: Path
) -> None:
    target = store(kind, "two")
    for path, data in DOCUMENTS.items():
        put(tmp_path / "from", path, data)
    target.put({"auths/3.json": token("old")})
    words = "copy", f"local:{tmp_path / 'from'}", target.words, "--mirror", str(tmp_path / "root")
    person.killed(3, when, *words)
    half = target.content()
    assert 1 < len(half) < len(DOCUMENTS)
    code, out, err = person.storefs(*words)
    assert (code, err) == (0, ""), out
    assert target.content() == DOCUMENTS
    kept = (tmp_path / "root/.storefs/conflicts").iterdir()
    assert [file.read_bytes() for file in kept] == [token("old")]


def test_what_differs_is_replaced_and_kept(store: Make, person: Person, tmp_path: Path) -> None:
    source, target = store("local", "one"), store("local", "two")
    source.put({"auths/a.json": token(1), "auths/b.json": token(2)})
    target.put({"auths/a.json": token("old"), "auths/extra.json": token(3)})
    words = "copy", source.words, target.words
    mirror = "--mirror", str(tmp_path / "root")

    code, out, _ = person.storefs(*words, *mirror, "--dry-run", "--delete")
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == ["replace auths/a.json", "put     auths/b.json", "delete  auths/extra.json"]
    assert lines[3].startswith("would copy ")
    assert target.content() == {"auths/a.json": token("old"), "auths/extra.json": token(3)}
    assert not (tmp_path / "root").exists()

    code, out, err = person.storefs(*words, *mirror, "--no-overwrite")
    assert code == 5
    assert "auths/a.json: differs" in err
    assert target.content()["auths/a.json"] == token("old")
    assert target.content()["auths/b.json"] == token(2)

    code, out, _ = person.storefs(*words, *mirror)
    assert (code, "0 put, 1 replaced, 1 same, 1 only in the target" in out) == (0, True), out
    assert str(tmp_path / "root/.storefs/conflicts") in out
    assert target.content() == {**source.content(), "auths/extra.json": token(3)}

    code, out, _ = person.storefs(*words, *mirror, "--delete")
    assert (code, "1 deleted" in out) == (0, True), out
    assert target.content() == source.content()
    kept = {file.read_bytes() for file in (tmp_path / "root/.storefs/conflicts").iterdir()}
    assert kept == {token("old"), token(3)}


def test_an_empty_source_deletes_nothing(store: Make, person: Person, tmp_path: Path) -> None:
    target = store("local", "two")
    target.put({"auths/a.json": token(1)})
    (tmp_path / "empty").mkdir()
    code, _, err = person.storefs("copy", f"local:{tmp_path / 'empty'}", target.words, "--delete")
    assert code == 5
    assert "would empty" in err
    assert target.content() == {"auths/a.json": token(1)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_directory_to_each_store_and_back(
    kind: str, store: Make, person: Person, tmp_path: Path
) -> None:
    target, flat, back = store(kind, "two"), tmp_path / "flat", tmp_path / "back"
    for path, data in DOCUMENTS.items():
        name = "config.yaml" if path == CONFIG else path.removeprefix("auths/")
        put(flat, name, data)
    for name in ("logs/main.json", "pgstore/auths/x.json", ".oauth-1.json", "note.txt"):
        put(flat, name, b"{}")
    code, out, err = person.storefs("copy", f"local:{flat}", target.words)
    assert (code, err) == (0, ""), out
    assert target.content() == DOCUMENTS
    back.mkdir()
    code, out, err = person.storefs("copy", target.words, f"flat:{back}")
    assert (code, err) == (0, ""), out
    for path, data in DOCUMENTS.items():
        name = "config.yaml" if path == CONFIG else path.removeprefix("auths/")
        assert (back / name).read_bytes() == data
        assert (back / name).stat().st_mode & 0o777 == 0o600
    assert sum(file.is_file() for file in back.rglob("*")) == len(DOCUMENTS)
    code, out, _ = person.storefs("copy", target.words, f"local:{back}")
    assert "0 put, 0 replaced, 21 same" in out


def test_a_new_directory_becomes_a_tree(store: Make, person: Person, tmp_path: Path) -> None:
    source = store("local", "one")
    source.put(DOCUMENTS)
    code, out, _ = person.storefs("copy", source.words, f"local:{tmp_path / 'new'}", "--dry-run")
    assert (code, f"local:{tmp_path / 'new'}: 21 put" in out) == (0, True), out
    assert not (tmp_path / "new").exists()
    assert person.storefs("copy", source.words, f"local:{tmp_path / 'new'}")[0] == 0
    assert tree_of(tmp_path / "new") == DOCUMENTS


def test_the_variables_name_a_store(store: Make, person: Person, tmp_path: Path) -> None:
    source, target = store("local", "one"), store("s3", "two")
    source.put(DOCUMENTS)
    assert person.storefs("copy", source.words, "s3", env=target.env)[0] == 0
    assert target.content() == DOCUMENTS


def test_what_a_store_refuses_is_told_and_the_rest_is_copied(
    store: Make, person: Person, tmp_path: Path
) -> None:
    target = store("postgres", "two")
    put(tmp_path / "one", "auths/a.json", token(1))
    put(tmp_path / "one", "auths/broken.json", b'{"hush')
    code, out, err = person.storefs("copy", f"local:{tmp_path / 'one'}", target.words)
    assert code == 5
    assert "auths/broken.json" in err
    assert "hush" not in out + err
    assert "1 put" in out
    assert "1 not copied" in out
    assert target.content() == {"auths/a.json": token(1)}


def test_a_terminal_shows_how_far_it_is(store: Make, person: Person, tmp_path: Path) -> None:
    for number in range(1100):
        put(tmp_path / "one", f"auths/{number}.json", token(number))
    words = [sys.executable, "-m", "storefs", "copy", f"local:{tmp_path / 'one'}"]
    with Terminal([*words, f"local:{tmp_path / 'two'}"], person.home, person.home) as terminal:
        terminal.expect(b"\rcopying 0 of 1,100")
        assert terminal.end() == 0
    assert tree_of(tmp_path / "two") == tree_of(tmp_path / "one")


@pytest.mark.parametrize(
    ("source", "target", "code", "word"),
    [
        ("nothing", "local:x", 2, "names no store"),
        ("local:", "local:x", 2, "names no store"),
        ("local:missing", "local:x", 3, "no such directory"),
        ("local:.", "local:x", 2, "lie in one another"),
        ("postgres", "local:x", 3, "PGSTORE_DSN"),
        ("s3:missing.env", "local:x", 3, "missing.env"),
        ("git:gone.env", "local:x", 4, "no connection"),
    ],
)
def test_refusals(source: str, target: str, code: int, word: str, person: Person) -> None:
    url = "GITSTORE_GIT_URL=http://127.0.0.1:9/none.git\nGITSTORE_GIT_TOKEN=hush\n"
    (person.home / "gone.env").write_text(url)
    found, out, err = person.storefs("copy", source, target)
    assert (found, out) == (code, "")
    assert word in err
    assert "hush" not in err
    assert err.count("\n") == 1


def test_decisions() -> None:
    def of(now: bytes | None, *, exact: bool = True, overwrite: bool = True) -> Action:
        wishes = Wishes(overwrite=overwrite)
        return decide("auths/a.json", b'{"a":1}', now, wishes, exact=exact)

    assert of(None) is Action.PUT
    assert of(b'{"a":1}') is Action.SAME
    assert of(b'{"a": 1}') is Action.REPLACE
    assert of(b'{"a": 1}', exact=False) is Action.SAME
    assert of(b'{"a": 2}', exact=False) is Action.REPLACE
    assert of(b'{"a": 2}', overwrite=False) is Action.KEEP


def test_chunks_hold_every_path_once() -> None:
    listed = dict.fromkeys(f"auths/{number}.json" for number in range(300))
    parts = [*chunks(listed)]
    assert sorted(listed) == [path for part in parts for path in part]
    assert max(map(len, parts)) < 300
