"""`storefs prune`: tokens that expired long ago and that nobody refreshed since.

All through the mount: its files are read, and unlinked. Needs no settings and no backend.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from storefs import commands
from storefs.errors import Exit, Quit
from storefs.mountpoint import PATIENCE, ask
from storefs.paths import is_document
from storefs.tokens import last_good

if TYPE_CHECKING:
    from pathlib import Path

_LOOK_PATIENCE = 300.0
"""Seconds to read every token."""

_UNLINK_PATIENCE = 60.0


def prune(mountpoint: Path, age: float, *, remove: bool, as_json: bool) -> Exit:
    """List, or `remove`, the tokens that were last good more than `age` seconds ago."""
    top = _tokens_of(mountpoint)
    limit = time.time() - age
    try:
        old: dict[str, float] = json.loads(ask(lambda: _look(top, limit), _LOOK_PATIENCE))
    except TimeoutError:
        raise commands.hanging(mountpoint) from None
    except OSError as error:
        raise commands.unusable(mountpoint, error) from None
    if as_json:
        rows = [{"path": path, "last_good": moment} for path, moment in old.items()]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    kept = 0
    for path, moment in old.items():
        done = _remove(top / path, limit) if remove else ""
        kept += bool(done)
        if not as_json:
            day = time.strftime("%Y-%m-%d", time.localtime(moment))
            print(f"{'removed  ' if remove and not done else ''}{path}  last good {day}")
        if done:
            print(f"storefs: {path}: {done}", file=sys.stderr)
    if old and not remove and not as_json:
        print(f"{len(old)} of them; the same command with --yes removes them", file=sys.stderr)
    return Exit.KEPT_BACK if kept else Exit.DONE


def _tokens_of(mountpoint: Path) -> Path:
    """The directory of the tokens in the mount. Raises Quit."""
    subdir = commands.read_state(mountpoint).get("subdir")
    if subdir == "config":
        raise Quit(Exit.USAGE, f"{mountpoint} shows config/ alone: there are no tokens")
    return mountpoint if subdir else mountpoint / "auths"


def _look(top: Path, limit: float) -> bytes:
    """Path and last good time of each old token, as JSON."""
    found = {}
    for directory, below, names in os.walk(top):
        below.sort()
        for name in sorted(names):
            file = os.path.join(directory, name)
            path = os.path.relpath(file, top)
            if is_document(f"auths/{path}") and (moment := _old(file, limit)) is not None:
                found[path] = moment
    return json.dumps(found).encode()


def _old(file: str | Path, limit: float) -> float | None:
    """When a token was last good, if that is before `limit`."""
    with suppress(FileNotFoundError), open(file, "rb") as token:
        moment = last_good(token.read())
        return moment if moment is not None and moment < limit else None
    return None


def _remove(file: Path, limit: float) -> str:
    """Unlink it if it is still old; empty, or why it stays."""

    def unlink() -> bytes:
        if _old(file, limit) is None:
            return b"it was refreshed meanwhile"
        file.unlink()
        return b""

    try:
        return ask(unlink, max(PATIENCE, _UNLINK_PATIENCE)).decode()
    except OSError as error:
        return str(error.strerror or "the mount does not answer")
