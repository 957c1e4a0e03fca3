"""No log, status, metric or message ever holds a piece of a document or a key."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.mount.harness import until
from tests.mount.processes import Place, put, token, tree_of
from tests.mount.said import MARKER, attempt, be_refused, excerpt, said_by

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user


def test_no_document_content_in_any_log_or_status(mounts: Mounts) -> None:
    machine = mounts("a", "--log-level", "debug", "--max-file-size", "4096", start=False)
    machine.env["PGSTORE_DSN"] = f"postgres://me:{MARKER}@nowhere/db"
    machine.env["OBJECTSTORE_SECRET_KEY"] = MARKER
    machine.options += ("--backend", "local", "--offline", "refuse")
    put(machine.root, "auths/broken.json", b'{"half": "' + MARKER.encode())
    with machine:
        (machine.auths / "good.json").write_bytes(token(MARKER))
        (machine.auths / "gone.json").write_bytes(token(MARKER))
        be_refused(machine)
        put(machine.store, "auths/good.json", token(MARKER, by="another machine"))
        until(lambda: b"another" in (machine.auths / "good.json").read_bytes(), "it arrived")
        said = said_by(machine)
    log = (machine.root / ".storefs/log").read_bytes()
    for expected in (b"not JSON", b"broken on purpose", b"fail-before", b"max-file-size"):
        assert expected in log, expected
    said["log to the end"] = log
    for where, text in said.items():
        assert MARKER.encode() not in text, f"{where}: {excerpt(text)}"


def test_the_key_of_the_first_config_is_in_the_config_alone(mounts: Mounts) -> None:
    machine = mounts("a", "--log-level", "debug")
    key = yaml.safe_load(machine.config.read_text())["api-keys"][0].encode()
    for where, text in said_by(machine).items():
        assert key not in text, where


def test_the_log_of_a_daemon_is_its_users_alone(tmp_path: Path) -> None:
    with Place(tmp_path / "one") as place:
        done = place.mount("--log-level", "debug")
        assert done.returncode == 0
        attempt(place.mnt / "auths/half.json", b'{"access_token": "' + MARKER.encode())
        assert stat.S_IMODE((place.root / ".storefs/log").stat().st_mode) == 0o600
        assert str(place.root / ".storefs/log") in place.storefs("status", place.mnt).stdout
        assert place.storefs("umount", place.mnt).returncode == 0
        assert "not JSON" in place.log()
        assert MARKER not in place.log() + done.stdout + done.stderr
        assert MARKER.encode() not in b"".join(tree_of(place.store).values())
        assert os.listdir(place.root / ".storefs/conflicts")
