"""The virtual machine: Vagrant takes its file, and bash its provisioning."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.deploy.places import TOP, run

if TYPE_CHECKING:
    from pathlib import Path

PORTS = {8317, 8085, 1455, 54545, 51121, 11451}
"""The proxy, and where the logins of its providers come back to; its own image publishes them."""


def test_the_ports_come_out_on_the_hosts_loopback_alone() -> None:
    text = (TOP / "Vagrantfile").read_text()
    listed = re.search(r"^PORTS = \[(.*)\]", text, re.MULTILINE)
    assert listed
    assert {int(port) for port in listed[1].split(",")} == PORTS
    assert 'guest: port, host: port, host_ip: "127.0.0.1"' in text
    assert 'config.vm.box = "debian/bookworm64"' in text


def test_the_provisioning_can_be_read() -> None:
    script = TOP / "deploy/vagrant/provision"
    run("bash", "-n", str(script))
    assert os.access(script, os.X_OK)
    assert "/vagrant/deploy/vagrant/provision" in (TOP / "Vagrantfile").read_text()


def test_vagrant_or_ruby_accepts_the_file(tmp_path: Path) -> None:
    shutil.copy(TOP / "Vagrantfile", tmp_path)
    env = {**os.environ, "HOME": str(tmp_path), "VAGRANT_HOME": str(tmp_path / "home")}
    if shutil.which("vagrant"):
        words = ["vagrant", "validate", "--ignore-provider"]
    elif shutil.which("ruby"):
        words = ["ruby", "-c", "Vagrantfile"]
    else:
        pytest.skip("neither vagrant nor ruby is installed")
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
