"""`storefs doctor`: looks at everything a mount needs and says what to do. Changes nothing.

Each check is what `mount` itself would run into, asked of the same modules. Whatever may touch a
disk, a mount or a backend runs in a child process (`mountpoint.ask`): nothing here hangs.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from storefs import __version__, checkup, device, mountpoint, root
from storefs import settings as options
from storefs.errors import Exit, Quit
from storefs.mountpoint import PATIENCE, State, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storefs.mountpoint import Mounted
    from storefs.settings import Settings

_BACKEND_PATIENCE = 20.0
"""Seconds for everything that is asked of the backend."""

_INOTIFY = Path("/proc/sys/fs/inotify")
_INOTIFY_LEAST = {
    "max_user_instances": (16, "each mount, and each program that watches one, needs one"),
    "max_user_watches": (4096, "each watched directory needs one"),
    "max_queued_events": (16384, "a program that watches would lose events in bulk changes"),
}
_ROOM = 64 << 20
_BORN = 1_760_000_000
"""No clock that is right shows an earlier time (2025-10, unix seconds)."""

_AHEAD = 300.0
"""Seconds by which clocks may differ: token rules that compare times allow for as much."""

_SHOWN = 5

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `step` says what to do, empty where nothing is."""

    level: Level
    what: str
    step: str = ""

    def __str__(self) -> str:
        return f"{self.level:<6}{self.what}" + (f"  — {self.step}" if self.step else "")


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
    yield from _guarded("the versions", "install storefs again: scripts/mount does", _versions)
    yield from _device()
    yield from _inotify()
    yield from _clock()
    states = {place: mountpoint.state(place) for place in mountpoint.ours()}
    for place, state in states.items():
        yield _mount(place, state)
    try:
        # The env file that `load` looks for may lie in a mount that hangs.
        ask(lambda: _nothing(os.path.exists(cwd / ".env")), PATIENCE)
        settings = options.load(given, environ, cwd)
    except Quit as refusal:
        yield _refused(refusal, "correct the setting, then run this again")
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


def _guarded(
    what: str, step: str, call: Callable[[], str], patience: float = PATIENCE
) -> Iterator[Finding]:
    """The outcome of a call that may hang or refuse, made by a child: ok with what it says."""

    def answer() -> bytes:
        try:
            return b" " + call().encode(errors="surrogateescape")
        except Quit as refusal:
            return b"!" + str(refusal).encode(errors="surrogateescape")

    try:
        found = ask(answer, patience).decode(errors="replace")
    except TimeoutError:
        yield Finding("fail", f"{what}: no answer within {patience:g} s", step)
    except OSError as error:
        yield Finding("fail", f"{what}: {error.strerror}", step)
    else:
        if found.startswith("!"):
            yield _refused(found[1:], step)
        elif found[1:]:
            yield Finding("ok", found[1:])


def _refused(refusal: Quit | str, step: str) -> Finding:
    """Messages end in what to do, behind the last colon; or in what the system said."""
    cause, colon, remedy = str(refusal).rpartition(": ")
    if not colon or remedy[:1].isupper():
        return Finding("fail", str(refusal), step)
    return Finding("fail", cause, remedy)


def _versions() -> str:
    from storefs import fuse  # the child's import: it fails where libfuse is missing

    return (
        f"storefs {__version__}, Python {platform.python_version()}, {fuse.versions()}, "
        f"kernel {platform.release()}"
    )


def _device() -> Iterator[Finding]:
    try:
        device.check_present()
        yield Finding("ok", "/dev/fuse is there and can be opened")
    except Quit as refusal:
        yield _refused(refusal, "ask whoever runs this machine")
    try:
        yield from _helper(device.check_helper())
    except Quit as refusal:
        found = _refused(refusal, "install the package fuse3")
        yield found if os.geteuid() else Finding("warn", found.what, found.step)
    try:
        device.check_others_allowed()
        yield Finding("ok", "user_allow_other is set in /etc/fuse.conf")
    except Quit as refusal:
        # An error for whom it concerns is made by `_settings`, which knows who asked for it.
        yield Finding("ok", f"{str(refusal).rpartition(': ')[0]}; nothing else does")


def _helper(program: Path) -> Iterator[Finding]:
    info = program.stat()
    raised = info.st_uid == 0 and info.st_mode & stat.S_ISUID
    if raised or os.geteuid() == 0 or "security.capability" in os.listxattr(program):
        yield Finding("ok", f"{program} is there" + (", setuid root" if raised else ""))
    else:
        yield Finding(
            "fail", f"{program} is not setuid root", f"as root: chown root {program} && "
            f"chmod u+s {program}; or mount as root",
        )  # fmt: skip


def _inotify() -> Iterator[Finding]:
    said = []
    for name, (least, why) in _INOTIFY_LEAST.items():
        try:
            found = int((_INOTIFY / name).read_text())
        except (OSError, ValueError):
            yield Finding("warn", f"{_INOTIFY / name} cannot be read", "look at it as root")
            continue
        said.append(f"{name} {found}")
        if found < least:
            yield Finding(
                "warn", f"fs.inotify.{name} is {found}: {why}",
                f"sysctl -w fs.inotify.{name}={least}",
            )  # fmt: skip
    yield from _guarded(
        "inotify",
        "end programs that watch, or raise fs.inotify.max_user_instances and max_user_watches",
        checkup.watch,
    )
    yield Finding("ok", f"inotify: {', '.join(said)}")


def _clock() -> Iterator[Finding]:
    if time.time() < _BORN:
        now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        yield Finding("fail", f"the clock shows {now} (UTC)", "set it: timedatectl set-ntp true")


def _mount(place: Path, state: State) -> Finding:
    """One of the storefs mounts of this machine, not only the one that was asked about."""
    if state is State.DEAD:
        return Finding(
            "fail",
            f"the mount at {place} is dead: its process ended without unmounting",
            f"`storefs mount {place}` replaces it, `storefs umount {place}` removes it",
        )
    if state is State.HANGING:
        return Finding(
            "fail",
            f"the mount at {place} does not answer within {PATIENCE:g} s",
            f"look at its log, end its process (pgrep -af storefs), fusermount3 -uz {place}",
        )
    return Finding("ok", f"the mount at {place} answers; `storefs status {place}` says more")


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
        yield from _guarded("--allow-other", "leave --allow-other out", _others_allowed)


def _others_allowed() -> str:
    device.check_others_allowed()
    return ""


def _places(settings: Settings, place: Path, top: Mounted | None) -> Iterator[Finding]:
    if top is None:
        step = "choose another mount point, or correct its rights"
        look = partial(checkup.mountpoint, place, empty=not settings.move_in)
        yield from _guarded(str(place), step, look)
    elif top.fstype != mountpoint.TYPE:
        yield Finding(
            "fail", f"{place} is a mount already ({top.fstype})", "choose another mount point"
        )
    what = "mount point, root and local store"
    yield from _guarded(what, "choose other places", partial(_lie_apart, settings))
    if settings.backend == "local":
        store, step = settings.local_store, "correct its owner and mode, or name --local-store"
        yield from _guarded(f"the local store {store}", step, partial(checkup.writable, store))


def _lie_apart(settings: Settings) -> str:
    root.check_places(settings, settings.mirror)
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
    yield from _guarded(what, step, partial(checkup.root, settings, said.identity, _ROOM))


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
