"""The Compose files: their schema, their variables, and their containers' commands, run here.

There is no container around them: their paths are taken to a directory of the test, and the host
names of their servers to servers of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.compose import BASE, FILES, services, variables
from tests.deploy.places import DEPLOY, command
from tests.mount.harness import until
from tests.servers.git_store import Remote, git_remote, git_server  # noqa: F401 - fixtures
from tests.servers.postgres import cluster, database  # noqa: F401 - fixtures
from tests.servers.s3 import bucket, moto_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = 60.0
"""Seconds for a first synchronisation, or a change that a poll must find."""
GIVEN = {
    "MANAGEMENT_PASSWORD": "management-pw",
    "PROXY_API_KEY": "sk-clients",
    "POSTGRES_PASSWORD": "pw",
}
STORES = {"local": "", "postgres": "database", "s3": "bucket", "git": "git_remote"}


def test_the_schema_of_compose_accepts_the_files() -> None:
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [sys.executable, *words, *map(str, [BASE, *FILES])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.name.split(".")[1] for file in FILES] == sorted(STORES)


@pytest.mark.parametrize("file", [BASE, *FILES], ids=lambda file: file.name)
def test_every_variable_is_in_the_example(file: Path) -> None:
    text = (DEPLOY / ".env.example").read_text()
    example = set(re.findall(r"^#?([A-Z]\w*)=", text, re.MULTILINE))
    assert variables(file) - example == set()


def test_what_fuse_needs_in_a_container() -> None:
    found = yaml.safe_load(BASE.read_text())["services"]
    for name in ("proxy", "storefs"):
        assert found[name]["devices"] == ["/dev/fuse"]
        assert found[name]["cap_add"] == ["SYS_ADMIN"]
        assert found[name]["security_opt"] == ["apparmor:unconfined"]
        assert found[name]["init"] is True
    beside = found["proxy-beside"]["volumes"][0]
    assert found["storefs"]["volumes"][0]["bind"]["propagation"] == "rshared"
    assert beside["bind"]["propagation"] == "rslave"
    words = found["storefs"]["command"]
    shown = words[words.index("--auth-dir") + 1]
    inside = words[2].removeprefix(found["storefs"]["volumes"][0]["target"])
    assert shown == f"{beside['target']}{inside}/auths"
    assert f"{beside['target']}{inside}/config/config.yaml" in found["proxy-beside"]["command"]


def test_data_of_postgres_lies_below_its_volume() -> None:
    for version in ("17", "18"):
        env = {**GIVEN, "POSTGRES_VERSION": version}
        server = services(DEPLOY / "docker-compose.postgres.yml", env)["postgres"]
        assert server["image"] == f"postgres:{version}"
        assert server["environment"]["PGDATA"] == f"/var/lib/postgresql/{version}/docker"
        assert server["volumes"] == ["postgres:/var/lib/postgresql"]


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """A kind of store, and the variables that reach one."""
    kind: str = request.param
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    made = request.getfixturevalue(STORES[kind]) if STORES[kind] else None
    return kind, {} if made is None else dict(made.env())


@dataclass
class Container:
    """One service of a file, as processes of this machine."""

    base: Path
    service: dict[str, Any]
    store: dict[str, str]

    def __post_init__(self) -> None:
        self.home = self.base / "root"
        self.home.mkdir(parents=True)
        bin_ = command(self.base / "bin")
        proxy = bin_ / "cli-proxy-api"
        proxy.write_text('#!/bin/sh\nenv >"$HOME/seen"\necho "$@" >"$HOME/words"\nexec sleep 600\n')
        proxy.chmod(0o755)
        env = {name: self.here(value) for name, value in self.service["environment"].items()}
        # The servers have other addresses here; that the variables are the right ones is seen.
        real = {name: value for name, value in self.store.items() if name in env}
        path = f"{bin_}:{os.environ['PATH']}"
        self.env = {**env, **real, "PATH": path, "HOME": str(self.home)}

    def here(self, text: str) -> str:
        """A path in the container as one of this machine."""
        template = "/usr/local/share/storefs/container.template.yaml"
        text = text.replace(template, str(DEPLOY / "container.template.yaml"))
        text = text.replace("/srv/documents", str(self.base.parent / "documents"))
        return re.sub(r"^(/var/lib|/srv)/storefs", f"{self.base}\\1/storefs", text)

    def words(self, words: list[str]) -> list[str]:
        found = [self.here(word) for word in words]
        return [shutil.which(found[0], path=self.env["PATH"]) or found[0], *found[1:]]

    def is_healthy(self) -> bool:
        kind, *words = self.service["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(self.words(words), env=self.env, capture_output=True, check=False)
        return done.returncode == 0

    @contextmanager
    def running(self) -> Iterator[Container]:
        """Its command, until Docker would stop it."""
        for name in ("var/lib/storefs", "srv/storefs"):
            (self.base / name).mkdir(parents=True)
        with open(self.base / "said", "wb") as said:
            words = self.words(self.service["command"])
            process = subprocess.Popen(
                words, env=self.env, cwd=self.home, stdout=said, stderr=subprocess.STDOUT
            )
        try:
            until(lambda: process.poll() is not None or self.is_healthy(), "healthy", LONG)
            assert process.poll() is None, (self.base / "said").read_text()
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            ended = process.wait(LONG)
        assert ended == (128 + signal.SIGTERM if "run" in words else 0)
        assert not self.is_healthy()

    @property
    def mount(self) -> Path:
        return self.home / ".cli-proxy-api"


def test_two_proxies_share_their_tokens(store: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    kind, env = store
    (tmp_path / "documents").mkdir()
    found = services(DEPLOY / f"docker-compose.{kind}.yml", {**env, **GIVEN})
    assert {name for name in env if name in found["proxy-1"]["environment"]} or kind == "local"
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(Container(tmp_path / name, found[name], env).running())
            for name in ("proxy-1", "proxy-2")
        )
        until((one.home / "words").exists, "the proxy runs", LONG)
        config = yaml.safe_load((one.mount / "config/config.yaml").read_text())
        assert config["api-keys"] == [GIVEN["PROXY_API_KEY"]]
        assert config["host"] == ""
        assert config["auth-dir"] == f"{one.mount}/auths"
        seen = dict(line.split("=", 1) for line in (one.home / "seen").read_text().splitlines())
        assert seen["MANAGEMENT_PASSWORD"] == GIVEN["MANAGEMENT_PASSWORD"]
        assert {seen.get(name, "") for name in env if name != "HOME"} <= {""}

        (one.mount / "auths/a.json").write_text(json.dumps({"type": "claude", "by": "one"}))
        until((two.mount / "auths/a.json").exists, "it arrives", LONG)


def test_a_container_that_only_mounts(tmp_path: Path) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    service = services(DEPLOY / "docker-compose.local.yml", GIVEN)["storefs"]
    (tmp_path / "documents").mkdir()
    with Container(tmp_path / "storefs", service, {}).running() as container:
        config = container.base / "srv/storefs/mnt/config/config.yaml"
        assert yaml.safe_load(config.read_text())["auth-dir"] == "/data/mnt/auths"
