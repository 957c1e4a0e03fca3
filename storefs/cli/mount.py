"""`storefs mount`: its options, and how its process comes to serve."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import settings as options
from storefs.cli.command import Command, working_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.errors import Exit

_EPILOG = """\
Every option --some-option is also the variable STOREFS_SOME_OPTION, in the environment or in an
env file. Order: command line, environment, env files, defaults.

The directory is made if it is missing. In it appear config/ and auths/, and .storefs/status, which
says how things are. Documents that lie in it before (config/ and auths/; config.yaml and *.json;
pgstore/, objectstore/, gitstore/) move in: what the store lacks is committed, what differs there
becomes a conflict copy. Then they are renamed to MOUNTPOINT.before-storefs/; other files stay, are
hidden by the mount, and listed. With --keep-originals all stay; --no-move-in refuses to mount.

examples:
  storefs mount
  storefs mount ~/p --local-store /mnt/shared/p     documents in a directory of your choice
  storefs mount ~/tokens --subdir auths             only the tokens, at the top
  storefs mount --no-move-in                        only over an empty directory
  STOREFS_CACHE_SIZE=1G storefs mount
"""


def _mount(args: argparse.Namespace) -> int:
    from storefs import daemon, mountpoint

    cwd = working_directory()
    # Before the settings: the working directory, and so `.env`, may lie in a mount that hangs.
    mountpoint.clear(options.locate(args.mountpoint, os.environ, cwd))
    settings = options.load(vars(args), os.environ, cwd)
    mountpoint.prepare(settings)
    if settings.foreground:
        return serving(settings)(_say_ready)
    return daemon.detach(serving(settings), log_hint(settings))


def serving(settings: options.Settings) -> Callable[[Callable[[str], None]], Exit]:
    """What the process that is to serve a prepared mount does, from its beginning."""

    def serve(ready: Callable[[str], None]) -> Exit:
        from storefs import logs, mountpoint

        _leave(mountpoint.on_top(settings.mountpoint)[0])
        logs.start(settings.log_level, foreground=settings.foreground)
        from storefs import process

        return process.serve(settings, ready)

    return serve


def log_hint(settings: options.Settings) -> str:
    """Where to look when a daemon dies without a word."""
    from storefs import logs, root

    return f"see {(settings.mirror or Path(root.STATE, '*')) / logs.LOG}, or journalctl -t storefs"


def _say_ready(text: str) -> None:
    from storefs import daemon

    print(text, flush=True)
    daemon.notify("READY=1")


def _leave(mountpoint: Path) -> None:
    """Let nothing of this process depend on the mount it is about to serve.

    `python -m storefs` puts the working directory on the module path: if that is the mount
    point, a late import would ask the mount, which would wait for itself.
    """
    sys.path[:] = [
        entry for entry in sys.path if entry and not Path(entry).is_relative_to(mountpoint)
    ]
    os.chdir("/")
    os.umask(0o077)


def add_options(command: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """Every option of a mount; whoever makes or examines one takes them too.

    `alone`: it is a process of its own, which may stay in the foreground.
    """

    def flag(name: str, text: str) -> None:
        command.add_argument(name, action=argparse.BooleanOptionalAction, help=text)

    def value(name: str, metavar: str, text: str) -> None:
        command.add_argument(name, metavar=metavar, help=text)

    if alone:
        flag("--foreground", "stay in the terminal; for systemd (Type=notify) and containers")
    value("--subdir", "PART", "mount this part alone, at the top: auths or config")
    flag("--read-only", "refuse every change")
    flag("--allow-other", "let other users in, as far as owner and mode allow")
    value("--owner", "USER[:GROUP]", "who owns the files; root only, implies --allow-other")
    value(
        "--auth-dir",
        "PATH",
        "shown as auth-dir in the config (default: the mount's auths/), or keep",
    )
    value("--backend", "NAME", "where the documents are: local, or memory to try things out")
    value("--local-store", "DIR", f"the local backend's documents (default {options.LOCAL_STORE})")
    value("--offline", "WORD", "while the backend is away, keep changes (default) or refuse")
    value("--commit", "WORD", "return when the backend has a change: sync (default), or behind")
    value("--wait", "SECONDS", "at the start, wait this long for an unreachable backend")
    value("--mirror", "DIR", "this machine's own copy, log and conflicts: the root")
    _add_limits(value)
    value(
        "--spin",
        "MICROSECONDS",
        "look for the next request this long before sleeping "
        f"(default {options.Settings.spin}, 0: never; never on one CPU)",
    )
    value("--config-template", "FILE", "the first config of an empty store; ${VAR} is filled in")
    flag("--config-refresh", "at each start, commit the filled template if it has changed")
    flag("--move-in", "take in documents that lie under MOUNTPOINT (default), or refuse to mount")
    flag("--keep-originals", "leave what was taken in where it is, below the mount")
    value("--log-level", "LEVEL", "debug, info, warning or error")
    command.add_argument(
        "--env-file",
        metavar="FILE",
        action="append",
        help="variables, one KEY=VALUE a line; again for more (default: .env, if there is one)",
    )


def _add_limits(value: Callable[[str, str, str], None]) -> None:
    default = options.Settings
    sizes = f"{default.cache_size >> 20}M", f"{default.max_file_size >> 20}M"
    value("--cache-size", "SIZE", f"memory for contents (default {sizes[0]})")
    value("--max-file-size", "SIZE", f"the longest document (default {sizes[1]})")
    value("--deadline", "SECONDS", f"wait for the backend (default {default.deadline:g})")
    value("--dir-wait", "SECONDS", f"the same in unlink and rename (default {default.dir_wait:g})")
    value(
        "--stop-timeout", "SECONDS", f"send the rest at the end (default {default.stop_timeout:g})"
    )
    value(
        "--snapshot-interval",
        "SECONDS",
        f"look at everything this often (default {default.snapshot_interval:g})",
    )
    value("--poll-interval", "SECONDS", "where no hints come, look this often (default by backend)")


COMMANDS = (
    Command(
        "mount", _mount, "mount the documents, return when they are there", _EPILOG, add_options
    ),
)
