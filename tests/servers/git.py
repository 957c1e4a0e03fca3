"""A Git server on loopback: smart HTTP with a token, by `git http-backend`.

`GitServer` runs in threads of the test; `python -m tests.servers.git DIRECTORY TOKEN` is the same
in a process of its own, which prints its port and ends with its standard input.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

TOKEN = "made-up-token-0123456789"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}


def git(*words: str, cwd: Path, data: bytes | None = None, fails: bool = False) -> str:
    """Run the git program; returns what it prints. It must succeed unless it `fails`."""
    names = {f"GIT_{who}_{what}": "A Person" if what == "NAME" else "person@example.com"
             for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}  # fmt: skip
    done = subprocess.run(
        ["git", *words],
        cwd=cwd,
        env={**ENVIRONMENT, **names},
        input=data if data is not None else b"",
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    assert (done.returncode != 0) == fails, said
    return said if fails else done.stdout.decode(errors="replace").strip()


@dataclass(frozen=True)
class Repository:
    """One bare repository of a server."""

    path: Path
    url: str
    """Without credentials."""
    user_url: str
    """With them, for the git program."""

    def git(self, *words: str, data: bytes | None = None) -> str:
        """The git program in it."""
        return git(*words, cwd=self.path, data=data)

    def hook(self, name: str, script: str) -> None:
        """Put a hook in force."""
        file = self.path / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def clone(self, directory: Path) -> Path:
        """A normal clone with a work tree, as a person has it."""
        git("clone", "--quiet", self.user_url, str(directory), cwd=self.path)
        return directory

    def files(self, branch: str = "HEAD") -> dict[str, str]:
        """The blob of every path in the tree of a branch."""
        lines = self.git("ls-tree", "-r", "-z", branch).split("\0")
        parts = [line.partition("\t") for line in lines if line]
        return {path: meta.split()[2] for meta, _, path in parts}

    def content(self, path: str, branch: str = "HEAD") -> bytes:
        """The bytes of one path."""
        words = ["git", "cat-file", "blob", f"{branch}:{path}"]
        return subprocess.run(words, cwd=self.path, capture_output=True, check=True).stdout

    def commits(self, branch: str = "HEAD") -> int:
        """How many commits the branch has."""
        return int(self.git("rev-list", "--count", branch))


class Host:
    """Where a server listens, and the repositories it serves."""

    def __init__(self, directory: Path, port: int, token: str) -> None:
        self.directory = directory
        self.port = port
        self.user = "git"
        self.token = token

    def repository(self, name: str = "store", branch: str = "main") -> Repository:
        """A new empty repository whose HEAD names `branch`."""
        path = self.directory / f"{name}.git"
        git(
            "init", "--quiet", "--bare", f"--initial-branch={branch}", str(path), cwd=self.directory
        )
        for setting in ("receive.autogc=false", "gc.auto=0", "core.fsync=none"):
            git("config", *setting.split("="), cwd=path)  # it need not outlive the test
        place = f"127.0.0.1:{self.port}/{name}.git"
        return Repository(path, f"http://{place}", f"http://{self.user}:{self.token}@{place}")


class GitServer(Host):
    """A server in threads; what it should do wrong can be set any time.

    Not for tests that write through a mount: the children it starts have copies of the files
    that are open, and closing those would wait for the very mount that waits for the server.
    """

    def __init__(self, directory: Path, token: str = TOKEN) -> None:
        self.status = 0
        """Answered to everything while not 0."""
        self.stuck = threading.Event()
        """While set, every request waits."""
        self.lost_answers = 0
        """So many pushes are carried out, but their answer never comes."""
        self.requests: list[str] = []
        """Method and path of every request that was let in."""
        self._freed = threading.Event()
        directory.mkdir(parents=True, exist_ok=True)
        server = self

        class Handler(_Handler):
            owner = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        super().__init__(directory, int(self._http.server_address[1]), token)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def pushes(self) -> int:
        """How many pushes were sent."""
        return sum(line.startswith("POST") and "receive" in line for line in self.requests)

    def let_in(self, authorization: str) -> bool:
        """Whether user name and token are right; a server without token lets everybody in."""
        wanted = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
        return not self.token or authorization == f"Basic {wanted}"

    def hold(self) -> None:
        """Wait while the server is stuck."""
        while self.stuck.is_set() and not self._freed.wait(0.02):
            pass

    def close(self) -> None:
        """Stop; may be called twice."""
        self._freed.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: GitServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing: tests fail on noise."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _serve(self, body: bytes) -> None:
        self.owner.hold()
        if self.owner.status:
            self._answer(self.owner.status, {}, b"")
        elif not self.owner.let_in(self.headers.get("Authorization", "")):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        else:
            self.owner.requests.append(f"{self.command} {self.path}")
            self._answer(*self._backend(body))

    def _backend(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path, _, query = self.path.partition("?")
        env = {
            **ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.owner.directory),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": self.owner.user,
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            [str(_program())], env=env, input=body, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        return int(fields.pop("Status", "200").split()[0]), fields, content

    def _answer(self, status: int, fields: dict[str, str], content: bytes) -> None:
        pushed = self.command == "POST" and "receive-pack" in self.path
        if pushed and self.owner.lost_answers and status == 200:
            self.owner.lost_answers -= 1
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in fields.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Apart(Host):
    """A server in a process of its own, as one with mounts beside it must be."""

    def __init__(self, directory: Path, token: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._answers = process.stdin, process.stdout
        self.pid = process.pid
        super().__init__(directory, int(self._answers.readline()), token)

    def count(self) -> int:
        """How many requests were let in."""
        self._orders.write(b"count requests\n")
        self._orders.flush()
        return int(self._answers.readline())

    def set(self, name: str, value: str | int) -> None:
        """Set `token` or `status` of the `GitServer` there; in force when this returns."""
        self._orders.write(f"{name} {value}\n".encode())
        self._orders.flush()
        assert self._answers.readline() == b"set\n"


@contextmanager
def apart(directory: Path, token: str = TOKEN) -> Iterator[Apart]:
    """A server in a process of its own, which ends with this one."""
    directory.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "tests.servers.git", str(directory), token]
    with subprocess.Popen(
        words, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Apart(directory, token, process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def available() -> str:
    """Why there can be no such server here, empty if there can."""
    if shutil.which("git") is None:
        return "the git program is not installed"
    return "" if _program().exists() else "git has no http-backend"


@cache
def _program() -> Path:
    words = ["git", "--exec-path"]
    place = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return Path(place) / "git-http-backend"


def main() -> None:
    """See the module."""
    with GitServer(Path(sys.argv[1]), sys.argv[2]) as server:
        print(server.port, flush=True)
        for order in sys.stdin:
            name, value = order.split()
            if name == "count":
                print(len(server.requests), flush=True)
                continue
            setattr(server, name, type(getattr(server, name))(value))
            print("set", flush=True)


if __name__ == "__main__":
    main()
