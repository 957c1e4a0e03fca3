"""A Git server that says no to a mount: what programs see, what is kept, that the rest goes on."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from storefs.errors import Exit
from tests.mount.calls import refused
from tests.mount.harness import Mount, Plain, storefs, until
from tests.mount.remote import CONFIG, LONG, credential
from tests.servers.git import TOKEN, Apart, apart, available, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.git import Repository

pytestmark = pytest.mark.user

LATER = "another-made-up-token"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Apart]:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    if reason := available():
        pytest.skip(reason)
    with apart(tmp_path / "server") as host:
        yield host


@pytest.fixture
def repository(host: Apart, tmp_path: Path) -> Repository:
    """With a config and one token, as a person pushed them."""
    repository = host.repository()
    work = repository.clone(tmp_path / "person")
    git("checkout", "--quiet", "-B", "main", cwd=work)
    for path, data in ("config/config.yaml", CONFIG), ("auths/a.json", credential(1)):
        (work / path).parent.mkdir()
        (work / path).write_bytes(data)
    (work / "README.md").write_text("what this is\n")
    (work / "auths/link.json").symlink_to("a.json")
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "-m", "by hand", cwd=work)
    git("push", "--quiet", "origin", "main", cwd=work)
    return repository


@pytest.fixture
def here(repository: Repository, tmp_path: Path) -> Iterator[Mount]:
    env = {
        "GITSTORE_GIT_URL": repository.url,
        "GITSTORE_GIT_TOKEN": TOKEN,
        "STOREFS_POLL_INTERVAL": "0.2",
    }
    with ExitStack() as stack:
        yield stack.enter_context(Plain(tmp_path / "here", tmp_path / "unused", (), env))


def only_without(path: str) -> str:
    """A hook that refuses whatever holds this path."""
    return (
        f"while read old new ref; do git cat-file -e $new:{path} 2>/dev/null &&"
        " { echo 'not allowed here'; exit 1; }; done; exit 0"
    )


def test_a_hook_refuses_one_document_and_no_other(here: Mount, repository: Repository) -> None:
    repository.hook("pre-receive", only_without("auths/b.json"))
    with refused(errno.EACCES):
        (here.auths / "b.json").write_bytes(credential(2))
    assert "not allowed here" in here.log()
    until(lambda: not (here.auths / "b.json").exists(), "what was never stored is gone")
    assert credential(2) in here.kept("conflicts").values()
    (here.auths / "c.json").write_bytes(credential(3))
    (here.auths / "a.json").write_bytes(credential(4))
    assert repository.content("auths/c.json") == credential(3)
    assert repository.content("auths/a.json") == credential(4)


def test_a_protected_branch_is_read_on_and_never_changed(
    here: Mount, repository: Repository
) -> None:
    repository.hook("update", "echo 'protected branch' >&2; exit 1")
    token = here.auths / "a.json"
    with refused(errno.EACCES):
        token.write_bytes(credential(2))
    with refused(errno.EACCES):
        token.unlink()
    with refused(errno.EACCES):
        token.rename(here.auths / "b.json")
    until(lambda: token.read_bytes() == credential(1), "the old version shows again")
    assert [file.name for file in here.auths.iterdir()] == ["a.json"]
    assert credential(2) in here.kept("conflicts").values()
    assert "protected branch" in here.log()
    assert here.status()["pending"] == 0
    (repository.path / "hooks/update").unlink()
    token.write_bytes(credential(3))
    assert repository.content("auths/a.json") == credential(3)


def test_an_expired_token_is_said_and_a_new_one_heals(
    here: Mount, host: Apart, repository: Repository
) -> None:
    host.set("token", LATER)
    with refused(errno.EACCES):
        (here.auths / "a.json").write_bytes(credential(2))
    token = here.auths / "a.json"
    until(lambda: token.read_bytes() == credential(1), "the old version shows again")
    until(lambda: here.status()["error"], "the poll was refused as well", LONG)
    shown = storefs(here.home, "status", str(here.path))
    assert shown.returncode == Exit.DEGRADED
    assert "GITSTORE_GIT_TOKEN" in shown.stdout + shown.stderr
    assert TOKEN not in shown.stdout + shown.stderr + here.log()
    host.set("token", TOKEN)
    until(lambda: not here.status()["error"], "the server lets it in again", LONG)
    assert here.log().count("cannot be listed") == 1
    (here.auths / "a.json").write_bytes(credential(3))
    assert repository.content("auths/a.json") == credential(3)


def test_a_repository_that_is_gone_for_a_while(here: Mount, repository: Repository) -> None:
    away = repository.path.with_name("away.git")
    repository.path.rename(away)
    (here.auths / "b.json").write_bytes(credential(2))
    (here.auths / "a.json").write_bytes(credential(3))
    assert here.status()["pending"] == 2
    assert (here.auths / "b.json").read_bytes() == credential(2)
    away.rename(repository.path)
    until(lambda: here.status()["pending"] == 0, "it is sent", LONG)
    assert repository.content("auths/b.json") == credential(2)
    assert repository.content("auths/a.json") == credential(3)


def test_what_is_refused_for_good_stops_no_other_pending_change(
    here: Mount, repository: Repository
) -> None:
    away = repository.path.with_name("away.git")
    repository.path.rename(away)
    for name, serial in ("b.json", 2), ("c.json", 3), ("d.json", 4):
        (here.auths / name).write_bytes(credential(serial))
    away.rename(repository.path)
    repository.hook("pre-receive", only_without("auths/b.json"))
    until(lambda: here.status()["pending"] == 0, "the others are sent", LONG)
    assert here.status()["refused"] == 1
    assert repository.content("auths/c.json") == credential(3)
    assert repository.content("auths/d.json") == credential(4)
    state = partial(os.getxattr, here.auths / "b.json", "user.storefs.state")
    until(lambda: state() == b"refused", "its state says so")
    assert (here.auths / "b.json").read_bytes() == credential(2)
    assert "not allowed here" in here.log()


def test_a_large_change_is_refused_and_small_ones_are_not(
    here: Mount, repository: Repository
) -> None:
    repository.git("config", "receive.maxInputSize", "20000")
    large = b'{"x": "' + os.urandom(30_000).hex().encode() + b'"}'
    with refused(errno.EINVAL):
        (here.auths / "large.json").write_bytes(large)
    (here.auths / "small.json").write_bytes(credential(2))
    assert repository.content("auths/small.json") == credential(2)
    assert "that much" in here.log()
    assert here.status()["pending"] == 0


def test_what_is_no_document_stays_and_is_not_shown(here: Mount, repository: Repository) -> None:
    before = repository.files()
    assert [file.name for file in here.auths.iterdir()] == ["a.json"]
    (here.auths / "a.json").write_bytes(credential(2))
    after = repository.files()
    assert after.pop("auths/a.json") != before.pop("auths/a.json")
    assert after == before
    assert here.log().count("auths/link.json") == 1
