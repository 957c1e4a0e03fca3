"""What a person asks about earlier versions: `storefs log` and `storefs restore`.

All through the mount's `.storefs/ask`; needs no settings and no backend.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from storefs.commands import asked
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 300.0
"""Seconds: the mount answers at its own deadline, and a long history takes a while to fetch."""

_SHOWN = 12
"""Characters of a revision on the screen."""


def show(mountpoint: Path, path: str, *, as_json: bool) -> Exit:
    """One line a version, the newest first. Raises Quit."""
    answer = asked(mountpoint, "log", path, patience=_PATIENCE).decode(errors="replace")
    if as_json:
        print(answer, end="")
        return Exit.DONE
    for line in answer.splitlines():
        version = json.loads(line)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(version["time"]))
        what = version["revision"][:_SHOWN] if version["revision"] else "deleted"
        print(_printable(f"{what:<{_SHOWN}}  {moment}  {version['author']}  {version['machine']}"))
    return Exit.DONE


def restore(mountpoint: Path, path: str, revision: str) -> Exit:
    """Make a version the document again; prints its whole revision. Raises Quit."""
    print(asked(mountpoint, "restore", path, revision, patience=_PATIENCE).decode(), end="")
    return Exit.DONE


def restore_copy(mountpoint: Path, path: str) -> Exit:
    """Bring the backup copy of a document back; prints its path. Raises Quit."""
    print(asked(mountpoint, "restore", path, patience=_PATIENCE).decode(errors="replace"), end="")
    return Exit.DONE


def restore_copies(mountpoint: Path) -> Exit:
    """Bring back everything that only the backup has; prints each path. Raises Quit.

    What is refused is told on stderr, and does not stop the others.
    """
    answer = asked(mountpoint, "only-in-backup", patience=_PATIENCE)
    worst = Exit.DONE
    for path in answer.decode(errors="surrogateescape").splitlines():
        try:
            restore_copy(mountpoint, path)
        except Quit as refusal:
            print(f"storefs: {refusal}", file=sys.stderr)
            worst = Exit(refusal.code)
    return worst


def _printable(line: str) -> str:
    """Authors are called what they like; what they are called must not drive a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in line).rstrip()
