"""`storefs doctor`: looks at everything a mount needs and says what to do. Changes nothing.

Each check is what `mount` itself would run into, asked of the same modules. Whatever may touch a
disk, a mount or a backend runs in a child process (`mountpoint.ask`): nothing here hangs.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from storefs import apart, checkup, device, machine, mountinfo, mountpoint
from storefs import settings as options
from storefs.errors import Exit, Quit
from storefs.findings import Finding, guarded, refused
from storefs.mountpoint import PATIENCE, State, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from storefs.mountinfo import Mounted
    from storefs.settings import Settings

_BACKEND_PATIENCE = 20.0
"""Seconds for everything that is asked of the backend."""

_ROOM = 64 << 20
_AHEAD = 300.0
"""Seconds by which clocks may differ: token rules that compare times allow for as much."""

_SHOWN = 5


def examine(
    given: Mapping[str, object], environ: Mapping[str, str], cwd: Path, *, as_json: bool
) -> Exit:
    """Print every finding for a mount with these options; FAILED if one failed."""
    findings: list[Finding] = []
    for finding in _findings(given, environ, cwd):
        findings.append(finding)
        if not as_json:
            print(finding, flush=True)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    return Exit.FAILED if any(finding.level == "fail" for finding in findings) else Exit.DONE


def administration(given: Mapping[str, object], environ: Mapping[str, str], cwd: Path) -> str:
    """The SQL that makes a PostgreSQL database ready for these settings. Raises Quit."""
    settings = options.load(given, environ, cwd)
    if settings.backend != "postgres":
        cause = f"--sql is for PostgreSQL, but {settings.chosen}: set PGSTORE_DSN"
        raise Quit(Exit.SETTINGS, cause)
    from storefs.backends import postgres

    return postgres.administration(settings)


def _findings(
    given: Mapping[str, object], environ: Mapping[str, str], cwd: Path
) -> Iterator[Finding]:
    yield from machine.findings()
    states = {place: mountpoint.state(place) for place in mountpoint.ours()}
    for place, state in states.items():
        yield machine.mount(place, state)
    try:
        # The env file that `load` looks for may lie in a mount that hangs.
        ask(lambda: _nothing(os.path.exists(cwd / ".env")), PATIENCE)
        settings = options.load(given, environ, cwd)
    except Quit as refusal:
        yield refused(refusal, "correct the setting, then run this again")
        return
    except OSError:
        yield Finding("fail", f"{cwd} does not answer", "cd to a directory that does")
        return
    yield from _settings(settings)
    place, top = mountpoint.on_top(settings.mountpoint)
    # What lies on or below a mount that does not answer cannot be looked at.
    answers = states.get(place, State.ALIVE) is State.ALIVE
    if answers:
        yield from _places(settings, place, top)
    yield from _backend(settings, look_at_root=answers)


def _nothing(_: object) -> bytes:
    return b""


def _settings(settings: Settings) -> Iterator[Finding]:
    files = ", ".join(str(file) for file in settings.env_files) or "none"
    yield Finding("ok", f"{settings.chosen.partition(';')[0]}; env files: {files}")
    if settings.ignored:
        names = ", ".join(settings.ignored)
        yield Finding("warn", f"{names}: set too, and ignored", f"unset {names}, or name --backend")
    if settings.backend == "memory":
        yield Finding(
            "warn", "backend memory: the documents end with the mount", "choose --backend local"
        )
    if settings.dir_wait > settings.deadline:
        yield Finding(
            "warn", f"--dir-wait {settings.dir_wait:g} is longer than --deadline "
            f"{settings.deadline:g}, which ends the wait", "lower --dir-wait",
        )  # fmt: skip
    if settings.max_file_size > settings.cache_size:
        yield Finding(
            "warn", "--max-file-size is larger than --cache-size: such documents are read from "
            "disk each time", "raise --cache-size",
        )  # fmt: skip
    if settings.allow_other and os.geteuid() != 0:
        yield from guarded("--allow-other", "leave --allow-other out", _others_allowed)


def _others_allowed() -> str:
    device.check_others_allowed()
    return ""


def _places(settings: Settings, place: Path, top: Mounted | None) -> Iterator[Finding]:
    if top is None:
        step = "choose another mount point, or correct its rights"
        look = partial(checkup.mountpoint, place, empty=not settings.move_in)
        yield from guarded(str(place), step, look)
    elif top.fstype != mountinfo.TYPE:
        yield Finding(
            "fail", f"{place} is a mount already ({top.fstype})", "choose another mount point"
        )
    what = "mount point, root and local store"
    yield from guarded(what, "choose other places", partial(_lie_apart, settings))
    if settings.backend == "local":
        store, step = settings.local_store, "correct its owner and mode, or name --local-store"
        yield from guarded(f"the local store {store}", step, partial(checkup.writable, store))


def _lie_apart(settings: Settings) -> str:
    apart.check_places(settings, settings.mirror)
    return "mount point, root and local store lie apart"


def _backend(settings: Settings, *, look_at_root: bool) -> Iterator[Finding]:
    if settings.backend == "memory":
        return
    ends = time.monotonic() + _BACKEND_PATIENCE - PATIENCE
    try:
        answer = ask(lambda: checkup.backend(settings, ends), _BACKEND_PATIENCE)
    except OSError as error:
        cause = error.strerror if not isinstance(error, TimeoutError) else "no answer in time"
        yield Finding("fail", f"backend {settings.backend}: {cause}", "see whether it is up")
        return
    said = checkup.Said(**json.loads(answer))
    if said.error:
        cause, _, step = said.error.rpartition("; ")
        yield Finding(
            "fail",
            f"backend {settings.backend}: {cause or step}",
            step if cause else "see whether it is up",
        )
        return
    yield Finding("ok", f"{said.identity}: {said.documents} documents, {said.checked} looked at")
    lacking = said.traits.pop("lacking", "")
    if traits := ", ".join(f"{name}: {text}" for name, text in said.traits.items()):
        yield Finding("warn" if lacking else "ok", traits, lacking)
    yield from _documents(said)
    if not look_at_root:
        return
    what, step = f"the root of {said.identity}", "correct its owner and mode, or name --mirror DIR"
    yield from guarded(what, step, partial(checkup.root, settings, said.identity, _ROOM))


def _documents(said: checkup.Said) -> Iterator[Finding]:
    for reasons, step in (
        (said.invalid, "correct it where it was written; programs see it as it is"),
        (said.skipped, "it is not shown: rename it in the backend"),
    ):
        for reason in reasons[:_SHOWN]:
            yield Finding("warn", reason, step)
        if len(reasons) > _SHOWN:
            yield Finding("warn", f"and {len(reasons) - _SHOWN} more like it", step)
    if said.newest - time.time() > _AHEAD:
        yield Finding(
            "warn",
            "the backend holds documents from the future",
            "compare the clocks of the machines: timedatectl",
        )
