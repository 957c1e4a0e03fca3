"""What a daemon says when documents are refused, and where somebody could find a secret in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tests.mount.harness import storefs
from tests.mount.processes import token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.harness import Mount

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


def excerpt(text: bytes) -> str:
    at = text.find(MARKER.encode())
    return text[max(0, at - 300) : at + 100].decode(errors="replace")
