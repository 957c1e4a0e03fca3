"""Git over SSH: keys, an agent, and a host that must be known."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.steps import PATIENCE
from tests.servers.git import git

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.user

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
TOP = Path(__file__).parents[2]


@dataclass(frozen=True)
class Host:
    """A running sshd that lets one key in."""

    base: Path
    port: int

    @property
    def url(self) -> str:
        user = pwd.getpwuid(os.getuid()).pw_name
        return f"ssh://{user}@127.0.0.1:{self.port}{self.base}/store.git"

    @property
    def key(self) -> Path:
        return self.base / "key"

    def session(self, *words: str, **env: str) -> tuple[int, str]:
        """One session of another machine; its exit code and what it printed."""
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.base), "PYTHONPATH": str(TOP)}
        root = self.base / "root"
        done = subprocess.run(
            [sys.executable, "-m", "tests.servers.git_ssh_session", self.url, str(root), *words],
            env={**clean, **env},
            cwd=TOP,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if SSHD is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root refuses to start without it
    elif not Path(pwd.getpwuid(os.getuid()).pw_shell).name.endswith("sh"):
        pytest.skip("this user has no shell, so that sshd lets it run nothing")
    for name in ("key", "host"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(words, check=True)
    (tmp_path / "authorized").write_bytes((tmp_path / "key.pub").read_bytes())
    git("init", "--quiet", "--bare", "--initial-branch=master", "store.git", cwd=tmp_path)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    words = [SSHD, "-D", "-e", "-f", "/dev/null", "-h", str(tmp_path / "host"), "-p", str(port)]
    for option in (
        f"AuthorizedKeysFile={tmp_path}/authorized",
        "ListenAddress=127.0.0.1",
        "PidFile=none",
        "StrictModes=no",
        "UsePAM=no",
        "PasswordAuthentication=no",
    ):
        words += ["-o", option]
    with open(tmp_path / "sshd.log", "wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _listening(process, port, tmp_path / "sshd.log")
        public = (tmp_path / "host.pub").read_text().split()[:2]
        (tmp_path / ".ssh").mkdir(mode=0o700)
        known = f"[127.0.0.1]:{port} {' '.join(public)}\n"
        (tmp_path / ".ssh/known_hosts").write_text(known)
        yield Host(tmp_path, port)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


def test_a_named_key(host: Host) -> None:
    assert host.session(str(host.key)) == (0, "[b'by ssh']\n")
    repository = host.base / "store.git"
    assert git("cat-file", "blob", "master:auths/a.json", cwd=repository) == "by ssh"


def test_a_key_at_its_usual_place(host: Host) -> None:
    for name in ("", ".pub"):
        shutil.copy(f"{host.key}{name}", host.base / f".ssh/id_ed25519{name}")
    assert host.session() == (0, "[b'by ssh']\n")


def test_the_agent(host: Host) -> None:
    place = str(host.base / "agent")
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        env = {"SSH_AUTH_SOCK": place, "PATH": os.environ["PATH"]}
        end = time.monotonic() + PATIENCE
        while subprocess.run(["ssh-add", "-q", str(host.key)], env=env, check=False).returncode:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert host.session(SSH_AUTH_SOCK=place) == (0, "[b'by ssh']\n")
    finally:
        agent.terminate()
        agent.wait(PATIENCE)


def test_no_key_that_is_let_in(host: Host) -> None:
    code, said = host.session()
    assert code == 1
    assert "AccessDenied" in said
    assert "SSH key" in said


def test_a_host_that_is_not_the_known_one(host: Host) -> None:
    (host.base / ".ssh/known_hosts").write_text("")
    code, said = host.session(str(host.key))
    assert code == 1
    assert "AccessDenied" in said
    assert "known_hosts" in said
