"""What a person asks about kept copies: `storefs conflicts`, `trash` and `adopt`.

All through the mount's `.storefs/`; needs no settings and no backend.
"""

from __future__ import annotations

import calendar
import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from storefs.commands import hanging, require, unusable, write_order
from storefs.errors import Exit, Quit
from storefs.kept import Place, path_in
from storefs.mountpoint import PATIENCE, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_ORDER_PATIENCE = 300.0
"""Seconds: the mount answers at its own deadline, which a distant store may need."""


def show_list(mountpoint: Path, place: Place, *, as_json: bool) -> Exit:
    """One line per copy: name, document, time, bytes; the oldest first."""
    copies = _copies(mountpoint, place)
    if as_json:
        print(json.dumps(copies, indent=2, ensure_ascii=False))
        return Exit.DONE
    for copy in copies:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(copy["time"]))
        print(
            f"{copy['name']}  {copy['path'] or '(path too long)'}  {moment}  {copy['size']} bytes"
        )
    return Exit.DONE


def show(mountpoint: Path, place: Place, name: str) -> Exit:
    """Print the bytes of one copy, nothing else."""
    file = mountpoint / place.value / bare(name)
    sys.stdout.buffer.write(_asked(mountpoint, name, file.read_bytes))
    sys.stdout.buffer.flush()
    return Exit.DONE


def drop(mountpoint: Path, place: Place, names: Sequence[str]) -> Exit:
    """Remove copies for good."""
    for name in names:
        file = mountpoint / place.value / bare(name)
        _asked(mountpoint, name, lambda file=file: _unlink(file))  # type: ignore[misc]
    return Exit.DONE


def drop_all(mountpoint: Path, place: Place) -> Exit:
    """Remove every copy there is now."""
    return drop(mountpoint, place, [copy["name"] for copy in _copies(mountpoint, place)])


def take(mountpoint: Path, place: Place, name: str, path: str) -> Exit:
    """Make a copy the document. Raises Quit where the mount refuses."""
    word = "take-trash" if place is Place.TRASH else "take"
    return _order(mountpoint, word, bare(name), path)


def adopt(mountpoint: Path, name: str, path: str) -> Exit:
    """Send a found file as the document it was. Raises Quit where the mount refuses."""
    done = _order(mountpoint, "adopt", bare(name), path)
    file = mountpoint / Place.FOUND.value / bare(name)
    if _asked(mountpoint, name, lambda: b"1" if file.exists() else b""):
        print(
            "pending: the backend does not have it yet, so the file stays in found/; the same "
            "command takes it out once `storefs status` is online"
        )
    return done


def bare(name: str) -> str:
    """The name of a copy, from what a person pasted: perhaps its path."""
    return name.rpartition("/")[2]


def _copies(mountpoint: Path, place: Place) -> list[dict[str, Any]]:
    directory = mountpoint / place.value
    text = _asked(mountpoint, directory.name, lambda: json.dumps(_sizes(directory)).encode())
    copies = [
        {"name": name, "path": path_in(name), "time": _moment(name, mtime), "size": size}
        for name, size, mtime in json.loads(text)
    ]
    return sorted(copies, key=lambda copy: (copy["time"], copy["name"]))


def _sizes(directory: Path) -> list[tuple[str, int, float]]:
    found = []
    for file in directory.iterdir():
        with suppress(FileNotFoundError):  # pruned meanwhile
            info = file.stat()
            found.append((file.name, info.st_size, info.st_mtime))
    return found


def _moment(name: str, mtime: float) -> float:
    """When a copy was made (unix seconds): its name says, else the file."""
    with suppress(ValueError, IndexError):
        moment = time.strptime(name.rsplit("~", 2)[1], "%Y%m%dT%H%M%SZ")
        return float(calendar.timegm(moment))
    return mtime


def _unlink(file: Path) -> bytes:
    file.unlink()
    return b""


def _order(mountpoint: Path, word: str, name: str, path: str) -> Exit:
    order = f"{word} {name}\n{path}".encode(errors="surrogateescape")
    control = mountpoint / ".storefs/sync"
    _asked(mountpoint, name, lambda: write_order(control, order), _ORDER_PATIENCE)
    return Exit.DONE


def _asked(
    mountpoint: Path, name: str, call: Callable[[], bytes], patience: float = PATIENCE
) -> bytes:
    """What the mount answers. Raises Quit where it refuses, or is no mount."""
    require(mountpoint)
    try:
        return ask(call, patience)
    except TimeoutError:
        raise hanging(mountpoint) from None
    except FileNotFoundError:
        raise Quit(Exit.FAILED, f"{name}: no such copy; `storefs conflicts` lists them") from None
    except FileExistsError:
        raise Quit(
            Exit.FAILED,
            f"{name}: the document exists with other bytes, or a local file has its name: compare "
            f"them; then copy the kept file over it, or remove {mountpoint}/.storefs/found/{name}",
        ) from None
    except OSError as error:
        refusal = unusable(mountpoint, error)
        why = "; the mount's log says why (`storefs status` names it)"
        raise Quit(Exit(refusal.code), f"{name}: {refusal}{why}") from None
