"""S3 servers of the tests: moto, which honours conditions, and rclone, which ignores them.

Both are processes on 127.0.0.1 that end with the test process, whatever ends that.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from storefs.backends.s3 import S3, connect
from storefs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3.client import S3Client

KEY, SECRET = "storefs-test-key", "storefs-test-secret"
BIN = Path(sys.executable).parent
_PATIENCE = 60.0
_PORT = re.compile(rb"http://127\.0\.0\.1:(\d+)")
_serial = itertools.count()
PAGE = 100
"""Objects on one page of moto's listings: ten times fewer than elsewhere."""


@dataclass(frozen=True)
class Bucket:
    """One bucket of one server, as anybody else sees it: with plain boto3 calls."""

    endpoint: str
    name: str = field(default_factory=lambda: f"bucket-{os.getpid()}-{next(_serial)}")
    more: dict[str, str] = field(default_factory=dict)
    """Further OBJECTSTORE_* variables of who connects."""

    def env(self, **more: str) -> dict[str, str]:
        """The variables of a mount over this bucket."""
        return {
            "OBJECTSTORE_ENDPOINT": self.endpoint,
            "OBJECTSTORE_BUCKET": self.name,
            "OBJECTSTORE_ACCESS_KEY": KEY,
            "OBJECTSTORE_SECRET_KEY": SECRET,
            **self.more,
            **{f"OBJECTSTORE_{name}": value for name, value in more.items()},
        }

    def settings(self, **more: Any) -> Settings:
        """The settings of a mount over this bucket; `env` in `more` replaces variables."""
        env = {**self.env(), **more.pop("env", {})}
        nowhere = Path("/nonexistent")
        words: dict[str, Any] = {"deadline": 10.0, "backend": "s3", "env": env, **more}
        return Settings(mountpoint=nowhere, local_store=nowhere, **words)

    def connect(self, **more: Any) -> S3:
        """A new session, as another machine would begin it."""
        return connect(self.settings(**more))

    @property
    def client(self) -> S3Client:
        return client(self.endpoint)

    def make(self) -> Bucket:
        """Make the bucket before any mount does."""
        self.client.create_bucket(Bucket=self.name)
        return self

    def put(self, key: str, data: bytes, **more: Any) -> str:
        """Put as any other program does: without a condition. Returns the ETag."""
        return self.client.put_object(Bucket=self.name, Key=key, Body=data, **more)["ETag"]

    def get(self, key: str) -> bytes | None:
        try:
            return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self) -> list[str]:
        """Every key, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))

    def content(self) -> dict[str, bytes]:
        """Every object."""
        return {key: data for key in self.keys() if (data := self.get(key)) is not None}


_clients: dict[str, S3Client] = {}


def client(endpoint: str) -> S3Client:
    """A plain client, made once for each server."""
    if endpoint not in _clients:
        _clients[endpoint] = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    return _clients[endpoint]


@contextmanager
def _serving(log: Path, *command: str) -> Iterator[str]:
    """Run a server until the end of the block; yields the URL that it says it serves."""
    env = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    env["MOTO_S3_DEFAULT_MAX_KEYS"] = str(PAGE)
    with open(log, "wb") as out:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env=env,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while not (said := _PORT.search(log.read_bytes())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no port after {_PATIENCE:g} s: {log.read_text()}"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{int(said[1])}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server that honours conditions on put and delete."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with _serving(log, str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", "0") as url:
        yield url


@pytest.fixture(scope="session")
def rclone_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server that accepts every condition, and ignores it; it checks keys and signatures."""
    base = tmp_path_factory.mktemp("rclone")
    (base / "store").mkdir()
    words = ["serve", "s3", str(base / "store"), "--addr", "127.0.0.1:0"]
    words += ["--auth-key", f"{KEY},{SECRET}", "--config", str(base / "rclone.conf")]
    with _serving(base / "log", str(BIN / "rclone"), *words) as url:
        yield url


@pytest.fixture
def bucket(moto_url: str) -> Bucket:
    """A bucket of the server that honours conditions; it does not exist yet."""
    return Bucket(moto_url)


@pytest.fixture
def blind_bucket(rclone_url: str) -> Bucket:
    """A bucket of the server that ignores conditions; it does not exist yet."""
    return Bucket(rclone_url)
