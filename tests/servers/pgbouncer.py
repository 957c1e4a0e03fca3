"""PgBouncer in transaction mode before a cluster, and a line that stalls."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.postgres_cluster import OWNER, Cluster, as_server, free_port, server_user

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 30.0


@dataclass(frozen=True)
class Bouncer:
    """Where it listens."""

    port: int


@contextlib.contextmanager
def bouncing(cluster: Cluster) -> Iterator[Bouncer]:
    """Run PgBouncer before a cluster until the end of the block."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no PgBouncer is installed: the package pgbouncer")
    base, port = Path(tempfile.mkdtemp(prefix="storefs-bouncer-")), free_port()
    users, config = base / "users", base / "pgbouncer.ini"
    users.write_text(f'"{OWNER}" "{cluster.password}"\n')
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={cluster.port} user={OWNER}"
        f" password={cluster.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = plain\n"
        f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 2\nunix_socket_dir =\n"
    )
    if os.geteuid() == 0:
        owner = server_user()
        for path in (base, users, config):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    with open(base / "log", "wb") as log:
        process = subprocess.Popen(
            [*as_server(), "setpriv", "--pdeathsig", "QUIT", program, str(config)],
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while not _listens(port):
            assert process.poll() is None, (base / "log").read_text()
            assert time.monotonic() < end, (base / "log").read_text()
            time.sleep(0.01)
        yield Bouncer(port)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(base)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Line:
    """Forwards connections to a port of 127.0.0.1, and can stall: nothing gets lost, or through.

    It can also be diverted, as an address is that moves to another server.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._ended = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """From now on bytes wait, and so does whoever waits for them."""
        self._open.clear()

    def flow(self) -> None:
        """Let everything through that waited."""
        self._open.set()

    def divert(self, target: int) -> None:
        """Break every connection; the next ones go to another port."""
        self._target = target

    def close(self) -> None:
        self._ended = True
        self._open.set()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            self._open.wait()
            target = self._target
            with socket.create_connection(("127.0.0.1", target)) as far:
                other = {near: far, far: near}
                while not self._ended and self._target == target:
                    ready, _, _ = select.select([near, far], [], [], 0.1)
                    self._open.wait()
                    for source in ready:
                        data = source.recv(65536)
                        if not data:
                            return
                        other[source].sendall(data)
