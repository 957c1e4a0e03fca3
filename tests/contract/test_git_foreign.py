"""Git repositories that hold more than documents: what is not ours stays, what is odd is said."""

from __future__ import annotations

import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Delete, Put, Revision
from storefs.errors import Corrupt, Invalid
from tests.contract.steps import commit, content, done, failed, put, read
from tests.scale import scaled
from tests.servers.git import git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from storefs.backends.git import Git
    from tests.servers.git_store import Remote

pytestmark = pytest.mark.user

A, B = "auths/a.json", "auths/b.json"
ODD = {
    "auths/link.json": "symbolic link",
    "auths/module": "submodule",
    "auths/large.json": "LFS pointer",
    "auths/\udcff.json": "not UTF-8",
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100000000\n"


@pytest.fixture
def work(git_remote: Remote, tmp_path: Path) -> Path:
    """A person's clone of a repository that was there before storefs."""
    work = git_remote.repository.clone(tmp_path / "work")
    git("checkout", "--quiet", "-B", "main", cwd=work)
    for path in (A, "README.md", ".github/workflows/ci.yml", "auths/logs/x.json", "other/y.json"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(f"{path}\n")
    (work / A).chmod(0o755)
    (work / "auths/large.json").write_bytes(POINTER)
    (work / "auths/link.json").symlink_to("a.json")
    git("add", "--all", cwd=work)
    blob = git("hash-object", "-w", "--stdin", cwd=work, data=b"x")
    entries = b"160000 %s\tauths/module\n" % (b"1" * 40)
    entries += b"100644 %s\tauths/\xff.json\n" % blob.encode()
    git("update-index", "--index-info", cwd=work, data=entries)
    git("commit", "--quiet", "-m", "as it was", cwd=work)
    git("push", "--quiet", "origin", "main", cwd=work)
    return work


@pytest.fixture
def store(git_remote: Remote, work: Path) -> Iterator[Git]:
    with closing(git_remote.connect()) as backend:
        yield backend


def test_what_is_not_ours_stays_as_it_is(store: Git, git_remote: Remote) -> None:
    before = git_remote.repository.git("ls-tree", "-r", "main").splitlines()
    first = store.snapshot()[A].revision
    assert set(store.snapshot()) == {A}
    second = put(store, A, b"new", first)
    put(store, B, b"b")
    done(commit(store, Delete(B, store.snapshot()[B].revision)))
    after = git_remote.repository.git("ls-tree", "-r", "main").splitlines()
    assert [line for line in after if not line.endswith(A)] == [
        line for line in before if not line.endswith(A)
    ]
    mode, _, rest = next(line for line in after if line.endswith(A)).partition(" ")
    assert int(mode, 8) == stat.S_IFREG | 0o755
    assert second in rest
    assert store.traits()["branch"] == "main"


def test_what_can_be_no_document_is_left_out_and_said_once(
    store: Git, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert set(store.snapshot()) == {A}
        assert dict(store.read(["auths/link.json", "auths/module", "auths/large.json"])) == {}
        put(store, B, b"b")
        done(commit(store, Delete(B, store.snapshot()[B].revision)))
    told = [record.getMessage() for record in caplog.records]
    for path, reason in ODD.items():
        assert sum(repr(path) in line and reason in line for line in told) == 1, (path, told)
    assert len(told) == len(ODD)


@pytest.mark.parametrize("path", [path for path in ODD if "\udcff" not in path])
def test_what_can_be_no_document_is_never_replaced(store: Git, path: str) -> None:
    before = store.snapshot()
    for change in (Put(path, b"{}", None), Delete(path, Revision("x"))):
        assert failed(commit(store, change), Invalid).path == path
    assert store.snapshot() == before


def test_a_name_that_is_taken_by_the_other_kind(store: Git) -> None:
    put(store, "auths/team/x.json", b"{}")
    assert read(store, "auths/team") is None
    failed(commit(store, Put("auths/team", b"{}", None)), Invalid)
    failed(commit(store, Put(f"{A}/below.json", b"{}", None)), Invalid)
    revision = store.snapshot()[A].revision
    done(commit(store, Delete(A, revision), Put(f"{A}/below.json", b"1", None)))
    assert content(store, f"{A}/below.json") == b"1"
    assert content(store, A) is None


def test_a_place_for_documents_that_is_a_file(store: Git, work: Path) -> None:
    git("rm", "-r", "--quiet", "auths", cwd=work)
    (work / "auths").write_text("no directory")
    git("add", "auths", cwd=work)
    git("commit", "--quiet", "-m", "broken", cwd=work)
    git("push", "--quiet", "origin", "main", cwd=work)
    with pytest.raises(Corrupt, match="auths"):
        store.snapshot()


def test_a_large_blob_is_listed_and_the_rest_goes_on(
    store: Git, work: Path, git_remote: Remote
) -> None:
    size = scaled(100_000_000)
    with open(work / "auths/huge.json", "wb") as file:
        file.truncate(size)
    git("add", "auths/huge.json", cwd=work)
    git("commit", "--quiet", "-m", "huge", cwd=work)
    git("push", "--quiet", "origin", "main", cwd=work)
    assert store.snapshot()["auths/huge.json"].size == size
    put(store, B, b"b")
    assert git_remote.repository.content(B, "main") == b"b"
