"""The password, key or token of a store is in the daemon's variables, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, environment, until
from tests.mount.processes import Place, token, umask
from tests.mount.said import MARKER, be_refused, said_by
from tests.servers.git import TOKEN
from tests.servers.git_store import Remote, git_remote, git_server  # noqa: F401 - fixtures
from tests.servers.postgres import cluster, database  # noqa: F401 - fixtures
from tests.servers.s3 import SECRET, bucket, moto_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.user

SECRETS = {"s3": SECRET, "git": TOKEN}
STORES = {"postgres": "database", "s3": "bucket", "git": "git_remote"}


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest) -> tuple[dict[str, str], str]:
    """The variables of a store, and the secret among them."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    made = request.getfixturevalue(STORES[request.param])
    secret = made.cluster.password if request.param == "postgres" else SECRETS[request.param]
    env = {name: value for name, value in made.env().items() if name != "HOME"}
    return env, secret


def assert_absent(said: dict[str, bytes], *secrets: str) -> None:
    for where, text in said.items():
        for secret in secrets:
            at = text.find(secret.encode())
            assert at < 0, f"{where}: {text[max(0, at - 200) : at]!r}"


def test_the_secret_of_the_store_is_nowhere(
    store: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    env, secret = store
    options = "--log-level", "debug", "--max-file-size", "4096", "--offline", "refuse"
    with umask(0), Mount(tmp_path / "a", tmp_path / "unused", options, dict(env)) as machine:
        (machine.auths / "good.json").write_bytes(token(MARKER))
        (machine.auths / "gone.json").write_bytes(token(MARKER))
        be_refused(machine)
        said = said_by(machine)
        said |= {f"process {pid}": line for pid, line in command_lines(tmp_path).items()}
        # Local files keep the mode their program gave them; no directory above lets anybody in.
        inside = [path for path in machine.root.rglob("*") if path.suffix != ".tmp"]
        loose = [str(path) for path in inside if path.stat().st_mode & 0o077]
    log = (machine.root / ".storefs/log").read_bytes()
    assert b"broken on purpose" in log  # there were tracebacks
    assert len([where for where in said if where.startswith("process")]) >= 1
    assert_absent({**said, "log to the end": log}, secret, MARKER)
    assert loose == []


def command_lines(base: Path) -> dict[str, bytes]:
    """What `ps` shows of every process of this test."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
        except OSError:  # it ended meanwhile
            continue
        if os.fsencode(base) in words:
            found[name] = words
    return found


def test_a_command_on_the_mount_does_not_get_it(
    store: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    env, secret = store
    words = [sys.executable, "-m", "storefs", "run", "--mount", str(tmp_path / "mnt"),
             "--mirror", str(tmp_path / "root"), "--", "env"]  # fmt: skip
    done = subprocess.run(
        words, env=environment(tmp_path, **env), cwd=tmp_path, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"HOME=" in done.stdout
    assert_absent({"its variables": done.stdout, "messages": done.stderr}, secret)


def test_nor_does_a_message_hold_it_when_nobody_answers(
    store: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    env, secret = store
    away = {name: _elsewhere(value) for name, value in env.items()}
    assert away != env
    with Place(tmp_path / "one") as place:
        debug = "--log-level", "debug", "--deadline", "1"
        said = {}
        for command in ("mount", "doctor"):
            done = place.storefs(command, place.mnt, "--mirror", place.root, *debug, env=away)
            assert done.returncode != 0, done.stdout
            said[command] = (done.stdout + done.stderr).encode()
            assert said[command]
        until(lambda: not os.path.ismount(place.mnt), "nothing is mounted")
        said["log"] = place.log().encode()
    assert_absent(said, secret)


def _elsewhere(value: str) -> str:
    """The same address at a port where nobody listens."""
    before, colon, rest = value.rpartition("127.0.0.1:")
    return f"{before}{colon}9{rest.lstrip('0123456789')}" if colon else value
