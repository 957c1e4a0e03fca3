"""Mounts over a Git remote: the main job, pushes of others, two machines at once."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.mount.harness import Mount, Plain, Watch, storefs, until
from tests.mount.remote import CONFIG, LONG, credential, tree
from tests.scale import scaled
from tests.servers.git import TOKEN, apart, available, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.git import Repository

pytestmark = pytest.mark.user

POLL = "0.2"


class Machines(Protocol):
    """Mounts another machine over the test's one repository."""

    def __call__(self, name: str, poll: str = POLL) -> Mount: ...


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """An empty repository on a server of its own."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    if reason := available():
        pytest.skip(reason)
    with apart(tmp_path / "server") as host:
        yield host.repository()


@pytest.fixture
def machines(repository: Repository, tmp_path: Path) -> Iterator[Machines]:
    env = {"GITSTORE_GIT_URL": repository.url, "GITSTORE_GIT_TOKEN": TOKEN}
    with ExitStack() as stack:

        def make(name: str, poll: str = POLL) -> Mount:
            more = {"STOREFS_POLL_INTERVAL": poll}
            return stack.enter_context(
                Mount(tmp_path / name, tmp_path / "unused", (), {**env, **more})
            )

        yield make


@pytest.fixture
def person(repository: Repository, tmp_path: Path) -> Path:
    """A normal clone of a repository with a config, as a person has it."""
    work = repository.clone(tmp_path / "person")
    (work / "config").mkdir()
    (work / "config/config.yaml").write_bytes(CONFIG)
    (work / "README.md").write_text("what this is\n")
    git("checkout", "--quiet", "-B", "main", cwd=work)
    push(work)
    return work


def push(work: Path) -> None:
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "-m", "by hand", cwd=work)
    git("push", "--quiet", "origin", "main", cwd=work)


def test_the_main_job(machines: Machines, person: Path, repository: Repository) -> None:
    here, there = machines("here"), machines("there")
    token, name = credential(1, 500), "claude-me@example.com.json"
    (here.auths / name).write_bytes(token)
    assert repository.content(f"auths/{name}") == token
    until(partial(holds, there, {name: token}), "the other machine has the token", LONG)
    with Watch(there.auths) as watch:
        (here.auths / name).write_bytes(credential(2))
        watch.expect("MODIFY", name, LONG)
    assert (there.auths / name).read_bytes() == credential(2)
    here.config.write_bytes(here.config.read_bytes().replace(b"8317", b"8318"))
    assert b"port: 8318" in repository.content("config/config.yaml")
    assert b'"/elsewhere/auths"' in repository.content("config/config.yaml")
    (there.auths / name).rename(there.auths / "renamed.json")
    until(partial(holds, here, {"renamed.json": credential(2)}), "the new name is here", LONG)
    (there.auths / "renamed.json").unlink()
    until(partial(holds, here, {}), "it is gone here", LONG)
    assert set(repository.files()) == {"README.md", "config/config.yaml"}
    assert TOKEN not in here.log() + str(here.status())


def test_a_push_by_a_person_arrives_as_events(machines: Machines, person: Path) -> None:
    here = machines("here")
    with Watch(here.auths) as watch:
        for kind, serial in ("CREATE", 1), ("MODIFY", 2):
            (person / "auths").mkdir(exist_ok=True)
            (person / "auths/a.json").write_bytes(credential(serial))
            push(person)
            watch.expect(kind, "a.json", LONG)
            assert (here.auths / "a.json").read_bytes() == credential(serial)
        (person / "auths/b.json").write_bytes(credential(3))
        push(person)
        watch.expect("CREATE", "b.json", LONG)
        (person / "auths/b.json").unlink()
        push(person)
        watch.expect("DELETE", "b.json", LONG)


def test_sync_fetches_at_once(machines: Machines, person: Path) -> None:
    here = machines("here", poll="1000")
    (person / "auths").mkdir()
    (person / "auths/a.json").write_bytes(credential(1))
    push(person)
    here.sync()
    until(partial(holds, here, {"a.json": credential(1)}), "the token is here", LONG)


WRITER = """
import sys
for line in sys.stdin:
    with open(sys.argv[1], "wb") as file:
        file.write(line.rstrip().encode())
"""


def test_two_machines_and_a_person_lose_nothing(
    machines: Machines, person: Path, repository: Repository
) -> None:
    mounts = [machines("here"), machines("there")]
    documents = [credential(serial) for serial in range(scaled(50, least=5))]
    writers = []
    for mount in mounts:
        words = [sys.executable, "-c", WRITER, str(mount.auths / f"{mount.base.name}.json")]
        writers.append(subprocess.Popen(words, stdin=subprocess.PIPE))
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n".join(documents))
        writer.stdin.close()
    (person / "auths").mkdir()
    (person / "auths/person.json").write_bytes(credential(7))
    git("add", "--all", cwd=person)
    git("commit", "--quiet", "-m", "by hand", cwd=person)
    until(lambda: pulled_and_pushed(person), "the person is through", LONG)
    for writer in writers:
        assert writer.wait(LONG) == 0
    last = documents[-1]
    expected = {"here.json": last, "there.json": last, "person.json": credential(7)}
    for mount in mounts:
        until(partial(holds, mount, expected), "everything is everywhere", LONG)
    found = {path for path in repository.files() if path.startswith("auths/")}
    assert found == {f"auths/{name}" for name in expected}


def holds(mount: Mount, expected: dict[str, bytes]) -> bool:
    try:
        return tree(mount.auths) == expected
    except FileNotFoundError:  # renamed or removed while this looked
        return False


def pulled_and_pushed(work: Path) -> bool:
    git("pull", "--quiet", "--rebase", "origin", "main", cwd=work)
    words = ["git", "push", "--quiet", "origin", "main"]
    return subprocess.run(words, cwd=work, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("killed", [False, True])
def test_a_lost_clone_takes_no_pending_change_along(
    machines: Machines, person: Path, repository: Repository, killed: bool
) -> None:
    here = machines("here")
    fault = here.fault("commit.fail-before")
    (here.auths / "a.json").write_bytes(credential(1))
    assert here.status()["pending"] == 1
    if killed:
        here.kill()
    shutil.rmtree(here.root / ".storefs/git")
    fault.unlink()
    if killed:
        here.start()
    here.sync()
    until(lambda: here.status()["pending"] == 0, "it is sent", LONG)
    assert repository.content("auths/a.json") == credential(1)
    assert (here.auths / "a.json").read_bytes() == credential(1)


def test_without_a_token_the_mount_says_what_is_missing(
    repository: Repository, tmp_path: Path
) -> None:
    env = {"GITSTORE_GIT_URL": repository.url}
    mount = Mount(tmp_path / "here", tmp_path / "unused", (), env)
    assert mount.launch().wait(60) == 4
    assert "GITSTORE_GIT_TOKEN" in mount.log()


def test_log_and_restore(repository: Repository, tmp_path: Path) -> None:
    """Versions by their revisions, the newest first; one of them becomes the document again."""
    env = {"GITSTORE_GIT_URL": repository.url, "GITSTORE_GIT_TOKEN": TOKEN}
    env["STOREFS_POLL_INTERVAL"] = POLL
    with (
        Plain(tmp_path / "one", tmp_path / "unused", (), env) as one,
        Plain(tmp_path / "other", tmp_path / "unused", (), env) as other,
    ):
        _log_and_restore(one, other)


def _log_and_restore(one: Mount, other: Mount) -> None:
    file = one.auths / "a b.json"
    texts = [b'{"n": %d}' % number for number in range(3)]
    for text in texts:
        file.write_bytes(text)
    file.unlink()
    done = storefs(one.home, "log", str(file), "--json")
    versions = [json.loads(line) for line in done.stdout.splitlines()]
    assert [version["revision"] is None for version in versions] == [True, False, False, False]
    assert versions[1]["machine"] == platform.node()
    assert versions[1]["author"] == "CLIProxyAPI"

    shown = storefs(one.home, "log", "auths/a b.json", "--mount", str(one.path)).stdout
    assert [line.split()[0] for line in shown.splitlines()] == [
        "deleted",
        *(version["revision"][:12] for version in versions[1:]),
    ]
    (one.base / "link").symlink_to(one.auths)  # a path into the mount all the same
    assert storefs(one.home, "log", str(one.base / "link/a b.json")).stdout == shown
    revision = versions[2]["revision"]
    with Watch(other.auths) as watch:
        done = storefs(one.home, "restore", str(file), revision[:10])
        assert (done.returncode, done.stdout) == (0, f"{revision}\n")
        watch.expect("CREATE", "a b.json")
    assert file.read_bytes() == texts[1] == (other.auths / "a b.json").read_bytes()

    file.write_bytes(b'{"n": 9}')
    assert storefs(one.home, "restore", str(file), revision).returncode == 0
    assert file.read_bytes() == texts[1]
    assert b'{"n": 9}' in one.kept("conflicts").values()
    for wrong, reason in (("abcd1234", "has no version"), ("ab", "has no version")):
        done = storefs(one.home, "restore", str(file), wrong)
        assert done.returncode == 1
        assert reason in done.stderr
    done = storefs(one.home, "log", str(one.auths / "never.json"))
    assert done.returncode == 1
    assert "never been" in done.stderr
