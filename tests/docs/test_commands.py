"""Every command line of README.md and docs/ is run as it stands there, or at least understood.

A block that needs Docker, an account or the like says so in a comment before it, and is parsed.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from storefs.cli.line import parser
from tests.deploy.places import TOP, command
from tests.docs.blocks import PAGES, Block, blocks
from tests.mount.harness import mounts_below
from tests.mount.processes import token
from tests.servers.git_store import Remote, git_remote, git_server  # noqa: F401 - fixtures
from tests.servers.postgres import cluster, database  # noqa: F401 - fixtures
from tests.servers.s3 import bucket, moto_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORES = {
    "README.md": ("git", ["database", "git_remote"]),
    "RUNNING.md": ("postgres", ["database"]),
    "git.md": ("git", ["git_remote"]),
    "s3.md": ("s3", ["bucket"]),
    "postgres.md": ("postgres", ["database"]),
    "BACKUP.md": ("postgres", ["database", "bucket", "git_remote"]),
}
"""What is mounted for a page, and which stores its commands name; else a directory, and none."""

PROXY = """#!/bin/sh
test "$1" = -config && test -s "$2" || exit 9
echo '{"type": "claude", "access_token": "made up"}' >"${2%/config/*}/auths/login.json"
"""
"""In the place of the proxy: reads its config, writes a token, ends."""

ALL = [block for page in PAGES for block in blocks(page)]


def test_there_are_blocks_of_both_kinds() -> None:
    assert sum(bool(block.reason) for block in ALL) >= 3
    assert sum(not block.reason for block in ALL) >= 10


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_line_is_understood(block: Block) -> None:
    """By a shell, and by the parser of the command line."""
    done = subprocess.run(
        ["bash", "-n"], input=block.text.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    for words in block.storefs_words():
        parser().parse_args(words)


def test_every_reference_to_a_page_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_index_names_every_page() -> None:
    index = (TOP / "docs/README.md").read_text()
    for page in (TOP / "docs").rglob("*.md"):
        assert page.name in (*re.findall(r"[\w.-]+\.md", index), "README.md"), page.name


class Shell:
    """A person's shell: a home, storefs and a proxy on PATH, the variables of stores."""

    def __init__(self, base: Path, variables: dict[str, str]) -> None:
        self.home = base / "home"
        bin_ = command(self.home / ".local/bin")
        (bin_ / "cli-proxy-api").write_text(PROXY)
        (bin_ / "cli-proxy-api").chmod(0o755)
        names = "PROXY_API_KEY", "MANAGEMENT_PASSWORD", "OPENROUTER_API_KEY"
        tokens = dict.fromkeys(names, "made-up")
        self.env = {
            **variables, **tokens, "HOME": str(self.home), "WRITABLE_PATH": str(self.home),
            "PATH": f"{bin_}:{os.environ['PATH']}", "LANG": "C.UTF-8",
        }  # fmt: skip
        self.values: dict[str, str] = {}

    def run(self, text: str) -> str:
        """What a script prints. `storefs status` may ask for somebody's attention (7)."""
        for word, value in self.values.items():
            text = re.sub(rf"\b{word}\b", value, text)
        script = f"set -uo pipefail\ntrap 'rc=$?; [ $rc = 7 ] || exit $rc' ERR\n{text}\n:"
        done = subprocess.run(
            ["bash", "-c", script], env=self.env, cwd=TOP, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def mount(self) -> Path:
        return self.home / ".cli-proxy-api"

    def prepare(self) -> None:
        """Something of everything that the pages name: a document with versions, a found file."""
        if "PGSTORE_DSN" in self.env:  # what the pages copy from
            self.run("storefs mount --backend postgres && storefs umount")
        self.run("storefs mount")
        for serial in (1, 2):
            (self.mount / "auths/a.json").write_text(f'{{"type": "claude", "serial": {serial}}}')
        if self.env["STOREFS_BACKEND"] == "git":
            revision = self.run("storefs log auths/a.json").splitlines()[-1].split()[0]
            self.values |= {"REVISION": revision, "8a3f21": revision}
        root = re.search(r"^ +root +(.*)$", self.run("storefs status"), re.MULTILINE)
        assert root
        self.run("storefs umount")
        (self.home / "root").symlink_to(root[1])
        (self.home / "root/auths/lost.json").write_text('{"type": "claude"}')
        self.run("storefs mount")
        self.values["NAME"] = sorted(os.listdir(self.home / "root/.storefs/found"))[0]

    def clear(self) -> None:
        for point in mounts_below(self.home):
            self.run(f"storefs umount '{point}'")


@pytest.fixture
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    backend, stores = STORES.get(request.param, ("local", []))
    variables = {"STOREFS_BACKEND": backend}
    for name in stores:
        variables |= request.getfixturevalue(name).env()
    made = Shell(tmp_path, variables)
    yield made
    for point in mounts_below(tmp_path):
        subprocess.run(["fusermount3", "-uz", point], check=False, capture_output=True)


RUN = sorted({block.page.name for block in ALL if not block.reason})


@pytest.mark.parametrize("shell", RUN, indirect=True)
def test_the_lines_of_a_page_work(shell: Shell, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["shell"]
    shell.prepare()
    if name == "MOVING.md":
        shell.clear()
        (shell.mount / "plain.json").write_bytes(token("from before storefs"))
    for block in ALL:
        if block.page.name != name or block.reason:
            continue
        if block.mounts:
            shell.clear()
        elif not os.path.ismount(shell.mount):
            shell.run("storefs mount")
        shell.run(block.text)
    shell.clear()
