"""PostgreSQL servers of the tests: own clusters on 127.0.0.1, never as root, never the machine's.

A server ends with the test process, whatever ends that: its signal of the parent's death.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from storefs.backends.postgres import Postgres, connect
from storefs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

OWNER = "owner"
"""The superuser of each cluster."""

_PATIENCE = 60.0
_FAST = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200")
serial = itertools.count()


def binaries() -> Path | None:
    """The directory of initdb and postgres, the newest there is. Debian has them off the PATH.

    STOREFS_TEST_POSTGRES names another one.
    """
    if named := os.environ.get("STOREFS_TEST_POSTGRES"):
        return Path(named)
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    if found := sorted(versions, key=lambda path: int(path.parts[-3])):
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Cluster:
    """One server with its data; `start` and `stop` as often as wanted, on one port."""

    directory: Path
    bin: Path
    options: tuple[str, ...] = _FAST
    """Settings of the server, NAME=VALUE."""
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, bin_: Path, **more: Any) -> Cluster:
        """A new cluster, started, in a directory that the server's user owns."""
        cluster = cls(Path(tempfile.mkdtemp(prefix="storefs-pg-")), bin_, **more)
        secret = cluster.directory / "password"
        secret.write_text(cluster.password)
        if os.geteuid() == 0:
            owner = server_user()
            for path in (cluster.directory, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        cluster.run(
            "initdb", "--no-sync", "--auth=scram-sha-256", f"--username={OWNER}",
            f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "-D", str(cluster.data),
        )  # fmt: skip
        return cluster.start()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def run(self, program: str, *words: str, **env: str) -> str:
        """Run one of PostgreSQL's programs as the server's user, to its end."""
        done = subprocess.run(
            [*as_server(), str(self.bin / program), *words],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": self.password, **env},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode()}"
        return done.stdout.decode()  # as it is: a dump may hold CRLF

    def start(self) -> Cluster:
        """Start the server and wait until it answers."""
        options = [
            "listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=",
            *self.options,
        ]  # fmt: skip
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    *as_server(), "setpriv", "--pdeathsig", "QUIT", str(self.bin / "postgres"),
                    "-D", str(self.data), *(f"-c{option}" for option in options),
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        end = time.monotonic() + _PATIENCE
        while not self._answers():
            said = (self.directory / "log").read_text()
            assert self.process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        try:
            self.session("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End the server and every session; SIGINT is PostgreSQL's fast shutdown."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(_PATIENCE)
            self.process = None

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def session(
        self, database: str, user: str = OWNER, password: str = "", **more: Any
    ) -> psycopg.Connection[Any]:
        """A plain session, as psql has one: each statement is a transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user,
            password=password or self.password, autocommit=True, **more,
        )  # fmt: skip

    def database(self, **more: str) -> Database:
        """A new, empty database."""
        name = f"db_{os.getpid()}_{next(serial)}"
        with self.session("postgres") as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with self.session(name) as admin:  # the default since PostgreSQL 15
            admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        return Database(self, name, more=more)


@dataclass
class Database:
    """One database of a cluster, and how a mount reaches it. `more`: further variables."""

    cluster: Cluster
    name: str
    user: str = OWNER
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def dsn(self) -> str:
        """In the form of a URL."""
        cluster = self.cluster
        return f"postgresql://{self.user}:{cluster.password}@127.0.0.1:{cluster.port}/{self.name}"

    @property
    def version(self) -> int:
        """The server's, as PostgreSQL numbers it: 150018."""
        ((number,),) = self.run("SELECT current_setting('server_version_num')::int")
        return int(number)

    def env(self, **more: str) -> dict[str, str]:
        """The variables of a mount over it."""
        return {"PGSTORE_DSN": self.dsn, **self.more, **more}

    def settings(self, **more: Any) -> Settings:
        """The settings of a mount over it; `env` in `more` replaces variables."""
        env = self.env(**more.pop("env", {}))
        nowhere = Path("/nonexistent")
        words: dict[str, Any] = {"deadline": 10.0, "backend": "postgres", "env": env, **more}
        return Settings(mountpoint=nowhere, local_store=nowhere, **words)

    def connect(self, **more: Any) -> Postgres:
        """A new session of storefs, as another machine would begin it."""
        return connect(self.settings(**more))

    def session(self, **more: Any) -> psycopg.Connection[Any]:
        """A plain session of its user."""
        return self.cluster.session(self.name, self.user, **more)

    def run(self, statement: str, *values: Any) -> list[Any]:
        """One statement, as psql would send it, and its rows."""
        with self.session() as session:
            cursor = session.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def role(self, *statements: str) -> Database:
        """The same database for a new role, to which the statements grant: `{}` is its name."""
        role = f"role_{os.getpid()}_{next(serial)}"
        secret = sql.Literal(self.cluster.password)
        with self.session() as session:
            session.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), secret)
            )
            for statement in statements:
                session.execute(statement.format(role).encode())
        return Database(self.cluster, self.name, role, self.more)


def server_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def as_server() -> list[str]:
    """What makes a command run as somebody whom PostgreSQL does not refuse."""
    if os.geteuid() != 0:
        return []
    user = server_user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
