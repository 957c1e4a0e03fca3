"""Git when the server refuses or the clone is broken: what is said, and that nothing is lost."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Delete, Put
from storefs.backends.git import connect
from storefs.errors import AccessDenied, Exit, Invalid, Quit, StoreError, Unavailable
from tests.contract.steps import PATIENCE, commit, content, done, failed, put
from tests.servers.git import git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from storefs.backends.git import Git
    from tests.servers.git_store import Remote

pytestmark = pytest.mark.user

A, B, C = "auths/a.json", "auths/b.json", "auths/c.json"


@pytest.fixture
def store(git_remote: Remote) -> Iterator[Git]:
    with closing(git_remote.connect()) as backend:
        yield backend


@pytest.fixture
def unharmed(git_remote: Remote) -> Iterator[Remote]:
    """A remote whose server may be told to misbehave."""
    token = git_remote.server.token
    yield git_remote
    git_remote.server.status, git_remote.server.token = 0, token


def refusal(backend: Git) -> StoreError:
    """What a listing and a change are refused with: the same, and without the token."""
    with pytest.raises(StoreError) as listed:
        backend.snapshot()
    outcome = failed(commit(backend, Put(B, b"{}", None)), StoreError)
    assert type(outcome) is type(listed.value)
    assert outcome.path == B
    return listed.value


def test_an_expired_token(store: Git, unharmed: Remote) -> None:
    put(store, A, b"{}")
    old, unharmed.server.token = unharmed.server.token, "another-token"
    error = refusal(store)
    assert isinstance(error, AccessDenied)
    assert "GITSTORE_GIT_TOKEN" in str(error)
    assert old not in str(error)
    unharmed.server.token = old
    put(store, B, b"{}")


def test_a_missing_token(git_remote: Remote) -> None:
    with closing(git_remote.connect(GIT_TOKEN="")) as backend:
        error = refusal(backend)
        assert isinstance(error, AccessDenied)
        assert "set GITSTORE_GIT_TOKEN" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (403, AccessDenied, "lacks a right"),
        (404, Unavailable, "no such repository"),
        (429, Unavailable, "too often"),
        (500, Unavailable, "fault of its own"),
        (503, Unavailable, "fault of its own"),
    ],
)
def test_what_a_server_answers_instead(
    store: Git, unharmed: Remote, status: int, kind: type[StoreError], word: str
) -> None:
    unharmed.server.status = status
    error = refusal(store)
    assert type(error) is kind
    assert word in str(error)
    unharmed.server.status = 0
    put(store, A, b"{}")


def test_a_server_that_is_not_there(git_remote: Remote) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/store.git"
        with closing(git_remote.connect(GIT_URL=url)) as backend:
            error = refusal(backend)
    assert isinstance(error, Unavailable)
    assert url in str(error)
    assert "no connection" in str(error)


@pytest.mark.parametrize("scheme", ["http", "https", "ssh", "git"])
def test_a_server_that_takes_the_call_and_says_nothing(git_remote: Remote, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/store.git"
        backend = git_remote.connect(deadline=2.0, GIT_URL=url)
        with closing(backend), pytest.raises(Unavailable, match="no answer in time"):
            backend.snapshot()


def test_a_host_that_is_not_known(git_remote: Remote) -> None:
    url = "https://person:secret-word@no-such-host.invalid/store.git"
    with closing(git_remote.connect(GIT_URL=url, GIT_TOKEN="")) as backend:
        error = refusal(backend)
    assert isinstance(error, Unavailable)
    assert "host name is not known" in str(error)
    assert "secret-word" not in str(error)


def test_a_repository_that_is_missing(git_remote: Remote) -> None:
    with closing(git_remote.connect(GIT_URL=git_remote.repository.url + "-not")) as backend:
        assert "no such repository" in str(refusal(backend))


def test_a_branch_that_is_missing(store: Git, git_remote: Remote) -> None:
    put(store, A, b"{}")
    with closing(git_remote.connect(GIT_BRANCH="dev")) as backend:
        error = refusal(backend)
        assert isinstance(error, Unavailable)
        assert "no branch 'dev', but master" in str(error)


def test_branches_among_which_none_is_the_default(store: Git, git_remote: Remote) -> None:
    put(store, A, b"{}")
    git_remote.repository.git("branch", "one", "master")
    git_remote.repository.git("branch", "-m", "master", "two")
    with closing(git_remote.connect()) as backend:
        assert "no default branch, but one, two" in str(refusal(backend))
        git_remote.repository.git("symbolic-ref", "HEAD", "refs/heads/two")
        assert set(backend.snapshot()) == {A}


def test_a_named_branch_in_an_empty_repository(git_remote: Remote) -> None:
    with closing(git_remote.connect(GIT_BRANCH="tokens")) as backend:
        put(backend, A, b"{}")
        assert backend.identity.endswith("#tokens")
    assert A in git_remote.repository.files("tokens")


def test_a_hook_refuses_one_of_many(store: Git, git_remote: Remote) -> None:
    put(store, A, b"{}")
    git_remote.repository.hook(
        "pre-receive",
        "while read old new ref; do git cat-file -e $new:auths/b.json 2>/dev/null &&"
        " { echo 'b is not allowed here'; exit 1; }; done; exit 0",
    )
    batches = [[Put(path, b"{}", None)] for path in ("auths/1.json", B, C, "auths/2.json")]
    outcomes = store.commit(batches, PATIENCE)
    error = failed(outcomes[1], AccessDenied)
    assert error.path == B
    assert "b is not allowed here" in str(error)
    assert "pre-receive hook declined" in str(error)
    for at in (0, 2, 3):
        done(outcomes[at])
    assert set(store.snapshot()) == {A, C, "auths/1.json", "auths/2.json"}


def test_a_protected_branch(store: Git, git_remote: Remote) -> None:
    first = put(store, A, b"1")
    git_remote.repository.hook("update", "echo 'protected branch' >&2; exit 1")
    error = failed(commit(store, Put(A, b"2", first)), AccessDenied)
    assert "protected branch" in str(error)
    assert content(store, A) == b"1"
    assert error.cause.count(git_remote.repository.url) <= 1


def test_more_than_the_server_takes(store: Git, git_remote: Remote) -> None:
    put(store, A, b"1")
    git_remote.repository.git("config", "receive.maxInputSize", "20000")
    large = os.urandom(40_000)
    outcomes = store.commit([[Put(B, large, None)], [Put(C, b"small", None)]], PATIENCE)
    assert "that much" in str(failed(outcomes[0], Invalid))
    done(outcomes[1])
    assert content(store, C) == b"small"


def test_a_token_waits_for_a_server_whose_disk_is_full(store: Git, git_remote: Remote) -> None:
    first = put(store, A, b"1")
    git_remote.repository.git("config", "receive.maxInputSize", "10")
    assert "disk is full" in str(failed(commit(store, Put(A, b"2", first)), Unavailable))


def test_a_restart_fetches_nothing_that_is_there(git_remote: Remote, tmp_path: Path) -> None:
    root = tmp_path / "machine"
    with closing(git_remote.connect(root)) as backend:
        put(backend, A, b"{}")
    git_remote.server.requests.clear()
    with closing(git_remote.connect(root)) as backend:
        assert content(backend, A) == b"{}"
    assert not [line for line in git_remote.server.requests if line.startswith("POST")]


def _lose_objects(clone: Path) -> None:
    shutil.rmtree(clone / "objects")


def _lose_everything(clone: Path) -> None:
    shutil.rmtree(clone)


def _lose_head(clone: Path) -> None:
    (clone / "HEAD").write_bytes(b"")


def _lose_bytes(clone: Path) -> None:
    for file in clone.glob("objects/**/*"):
        if file.is_file():
            file.chmod(0o600)
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


HARMS = [_lose_objects, _lose_everything, _lose_head]


@pytest.mark.parametrize(
    ("harm", "running"),
    [*((harm, running) for harm in HARMS for running in (False, True)), (_lose_bytes, False)],
)
def test_a_broken_clone_is_made_again(
    git_remote: Remote, tmp_path: Path, harm: Callable[[Path], None], running: bool
) -> None:
    root = tmp_path / "machine"
    backend = git_remote.connect(root)
    first = put(backend, A, b"1")
    put(backend, B, b"b")
    if not running:
        backend.close()
    harm(root / ".storefs/git")
    if not running:
        backend = git_remote.connect(root)
    with closing(backend):
        assert set(backend.snapshot()) == {A, B}
        second = put(backend, A, b"2", first)
        assert content(backend, A) == b"2"
        assert content(backend, B) == b"b"
        done(commit(backend, Delete(A, second)))
    assert git_remote.repository.git("fsck", "--strict") is not None
    with closing(git_remote.connect()) as other:
        assert set(other.snapshot()) == {B}


def test_two_processes_never_share_a_clone(
    git_remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, scratch = tmp_path / "machine", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with closing(git_remote.connect(root)) as one, closing(git_remote.connect(root)) as two:
        put(one, A, b"{}")
        assert content(two, A) == b"{}"
        put(two, B, b"{}")
        assert set(one.snapshot()) == {A, B}
        assert len(os.listdir(scratch)) == 1
    assert sorted(os.listdir(root / ".storefs")) == ["git", "git-lock"]
    assert os.listdir(scratch) == []


def test_without_a_root_nothing_is_left_behind(
    git_remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    settings = replace(git_remote.settings(), mirror=tmp_path / "none")
    with closing(connect(settings)) as backend:
        put(backend, A, b"{}")
        assert backend.history(A)
        assert len(os.listdir(scratch)) == 2
    assert os.listdir(scratch) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "needs GITSTORE_GIT_URL"),
        ("file:///srv/store.git", "is a path"),
        ("/srv/store.git", "is a path"),
        ("./store.git", "is a path"),
        ("store.git", "is a path"),
        ("ftp://example.com/store.git", "https, http, ssh or git"),
        ("https://example.com", "the path of a repository"),
        ("https://example.com:x/store.git", "needs a host"),
        ("https://example.com/store.git?token=secret-word", "GITSTORE_GIT_TOKEN"),
        ("https://exa mple.com/store.git", "space"),
    ],
)
def test_urls_that_are_refused(git_remote: Remote, url: str, word: str) -> None:
    with pytest.raises(Quit) as quitted:
        git_remote.connect(GIT_URL=url)
    assert quitted.value.code == Exit.SETTINGS
    assert word in str(quitted.value)
    assert "secret-word" not in str(quitted.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITSTORE_GIT_BRANCH", "a..b"),
        ("GITSTORE_MAX_COMMITS", "0"),
        ("GITSTORE_MAX_COMMITS", "many"),
    ],
)
def test_settings_that_are_refused(git_remote: Remote, name: str, value: str) -> None:
    settings = git_remote.settings()
    with pytest.raises(Quit, match=name):
        connect(replace(settings, env={**settings.env, name: value}))


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        (
            "https://u:secret-word@Example.com/you/store.git/",
            "git:https://example.com/you/store.git",
        ),
        ("git@example.com:you/store.git", "git:git@example.com:you/store.git"),
        ("ssh://example.com:2222/srv/store.git", "git:ssh://git@example.com:2222/srv/store.git"),
        ("git://[::1]/store.git", "git:git://[::1]/store.git"),
    ],
)
def test_identities_hold_no_secret(git_remote: Remote, url: str, identity: str) -> None:
    with closing(git_remote.connect(GIT_URL=url)) as backend:
        assert backend.identity == identity


def test_a_token_in_the_url_works_and_is_never_shown(
    git_remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    url = git_remote.repository.user_url
    caplog.set_level(logging.DEBUG)
    with closing(git_remote.connect(GIT_URL=url, GIT_TOKEN="")) as backend:
        put(backend, A, b"{}")
        shown = f"{backend.identity} {backend.traits()} {vars(backend)}"
    assert git_remote.server.token not in shown + caplog.text
    assert git_remote.server.token not in git("config", "--list", cwd=git_remote.repository.path)
