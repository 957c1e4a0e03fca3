"""`storefs run`: a command on a mount of its own."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import natives
from storefs import settings as options
from storefs.cli import mount
from storefs.cli.command import Command, working_directory
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from storefs.run import Own

_EPILOG = """\
In COMMAND the words {mount}, {config} and {auths} stand for the mount point, the config file and
the directory of the tokens. A storefs mount that lives at MOUNTPOINT is used, and left. Else one is
made from these options (`storefs mount --help` explains them), COMMAND starts when the whole tree
is there, and the mount ends after COMMAND, when everything is sent or on this disk.

COMMAND gets the variables of the env files, MANAGEMENT_PASSWORD among them, and those of the
backend as empty strings, so that the proxy does not open the store itself. It has the terminal;
signals to `storefs run` are passed on. What it leaves in the background loses the mount. If the
mount ends first, COMMAND is stopped (SIGTERM, SIGKILL after --stop-timeout), because its watches
are gone: let a supervisor start `storefs run` again. Under systemd: KillMode=mixed.

examples:
  storefs run -- cli-proxy-api -config {config}
  storefs run -- cli-proxy-api -config {config} --claude-login
  storefs run --mount /srv/p --env-file /etc/p.env -- sh -c 'ls -l {auths}'

exit codes: COMMAND's own; 128+n: ended by signal n; 127: no such command; 126: it cannot be
executed; 1: the mount ended under it. Before COMMAND started: those of `storefs mount`.
"""


def _run(args: argparse.Namespace) -> int:
    from storefs import run

    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise Quit(Exit.USAGE, "run: name the command, as in `storefs run -- COMMAND ...`")
    cwd = working_directory()
    place = options.locate(args.mountpoint, os.environ, cwd)
    used = run.live(place)
    if used is None:
        from storefs import mountpoint

        mountpoint.clear(place)
    settings = options.load(vars(args), os.environ, cwd)
    subdir = settings.subdir if used is None else used.subdir
    words = run.filled(words, place, subdir)
    config = _watched(settings, place, subdir)
    ground = _made(settings) if used is None else used
    env = natives.blanked(settings.env)
    try:
        return run.Runner(ground, words, env, settings.stop_timeout, config).run()
    except run.NotStarted as failure:
        print(f"storefs: {failure}", file=sys.stderr)
        return failure.code


def _made(settings: options.Settings) -> Own:
    from storefs import daemon, mountpoint, run

    mountpoint.prepare(settings)
    pid = daemon.attach(mount.serving(settings), mount.log_hint(settings))
    return run.Own(pid, settings.stop_timeout + settings.deadline + run.GRACE)


def _watched(settings: options.Settings, place: Path, subdir: str) -> Path | None:
    if not settings.restart_on_config_replace:
        return None
    from storefs import run

    return Path(run.filled(["{config}"], place, subdir)[0])


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--restart-on-config-replace",
        action=argparse.BooleanOptionalAction,
        help="start COMMAND again when a file is renamed onto the config: its watch is gone then",
    )
    mount.add_options(command, alone=False)
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")


COMMANDS = (Command("run", _run, "run a command on the mount", _EPILOG, _add_run, place="option"),)
