"""No log, status, metric or message ever holds a piece of a document or a key."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.mount.harness import storefs, until
from tests.mount.processes import Place, put, token, tree_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

MARKER = "s3cr3t-mark-e7c1"
KEEPS_CONTENT = ("conflicts", "found", "trash")
"""Copies of documents: their content is what they are for."""


def attempt(file: Path, data: bytes) -> None:
    """Write as a program does; it may well be refused."""
    with suppress(OSError):
        file.write_bytes(data)


def be_refused(machine: Mount) -> None:
    """Everything that makes the daemon complain about a document."""
    mark = MARKER.encode()
    attempt(machine.auths / "half.json", b'{"access_token": "' + mark)
    attempt(machine.auths / "nan.json", b'{"access_token": "' + mark + b'", "n": NaN}')
    attempt(machine.auths / "bytes.json", b'{"access_token": "' + mark + b'\xff"}')
    attempt(machine.auths / "list.json", b'["' + mark + b'"]')
    attempt(machine.auths / "long.json", token(MARKER, pad="x" * 4096))
    attempt(machine.config, b'api-keys: ["' + mark + b'"\nport: }')
    attempt(machine.config, b"api-keys: &a [" + mark + b"]\nx: *b\n")
    attempt(machine.config, b"api-keys:\n  - " + mark + b"\nauth-dir: a\nauth-dir: b\n")
    attempt(machine.config, b"{api-keys: [" + mark + b"]}")
    attempt(machine.auths / "old.tmp", b'{"half": "' + mark)
    with suppress(OSError):
        (machine.auths / "old.tmp").rename(machine.auths / "renamed.json")
    for fault in ("commit.fail-before", "break.flush", "break.write", "break.unlink"):
        active = machine.fault(fault)
        attempt(machine.auths / "good.json", token(MARKER, fault=fault))
        with suppress(OSError):
            (machine.auths / "gone.json").unlink()
        active.unlink()


def said_by(machine: Mount) -> dict[str, bytes]:
    """Everything that the daemon and the commands said, and wrote beside the documents."""
    own = machine.root / ".storefs"
    files = [path for path in own.rglob("*") if path.is_file()]
    files = [path for path in files if path.parent.name not in KEEPS_CONTENT]
    said = {str(path): path.read_bytes() for path in files}
    for name in ("status", "metrics"):
        said[name] = (machine.path / ".storefs" / name).read_bytes()
    for words in (["status"], ["status", "--json"], ["sync"], ["mount"]):
        done = storefs(machine.home, words[0], str(machine.path), *words[1:])
        said[" ".join(words)] = (done.stdout + done.stderr).encode()
    for name in ("stdout", "stderr"):
        said[name] = (machine.base / name).read_bytes()
    assert machine.process is not None
    with open(f"/proc/{machine.process.pid}/cmdline", "rb") as file:
        said["ps"] = file.read()
    return said


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


def excerpt(text: bytes) -> str:
    at = text.find(MARKER.encode())
    return text[max(0, at - 300) : at + 100].decode(errors="replace")


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
