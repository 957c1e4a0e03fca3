"""docs/MOVING.md: its command lines run, in their order, on a machine as the page begins with."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.deploy.places import command
from tests.mount.harness import REPOSITORY, environment
from tests.mount.processes import Place, put, token

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.user


def test_every_block_runs(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/MOVING.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 4
    with Place(tmp_path / "one") as place:
        home = place.home / ".cli-proxy-api"
        put(home, "config.yaml", b"port: 8317\n")
        put(home, "claude-a@example.com.json", token(1))
        put(home, "logs/main.log", b"log")
        env = environment(place.home)
        env["PATH"] = f"{command(tmp_path / 'bin')}:{env['PATH']}"
        for block in blocks:
            words = block.replace("/tmp/", f"{tmp_path}/")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", words],
                env=env,
                cwd=place.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (block, done.stdout, done.stderr)
        assert (home / "claude-a@example.com.json").read_bytes() == token(1)
        assert (home / "config.yaml").read_bytes() == b"port: 8317\n"
        assert (home / "logs/main.log").read_bytes() == b"log"
