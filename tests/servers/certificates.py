"""Certificates of servers on loopback, each its own authority."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def certificate(directory: Path, name: str) -> Path:
    """A new one for 127.0.0.1, `NAME.crt`; its key lies beside it as `NAME.key`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificates")
    file = directory / f"{name}.crt"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(file.with_suffix(".key")), "-out", str(file)]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True, timeout=60)
    file.with_suffix(".key").chmod(0o600)
    return file
