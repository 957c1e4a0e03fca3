"""The command line: words to options, options to a command, its outcome to an exit code.

A command is a `Command` of one of the modules here. Only `mount` needs trio and pyfuse3; each
command imports what it needs, so that the others answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from storefs import __version__
from storefs import settings as options
from storefs.cli import copies, copy, doctor, live, mount, prune, versions
from storefs.cli import run as run_command
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storefs.cli.command import Command

COMMANDS = (
    *mount.COMMANDS,
    *run_command.COMMANDS,
    *live.COMMANDS,
    *copies.COMMANDS,
    *versions.COMMANDS,
    *copy.COMMANDS,
    *prune.COMMANDS,
    *doctor.COMMANDS,
)

_INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""

_DESCRIPTION = "Mounts shared configuration and tokens as ordinary files."

_EPILOG = """\
examples:
  storefs mount                     mount at ~/.cli-proxy-api, return when it is ready
  storefs mount /srv/p --foreground stay in the foreground, for systemd or a container
  storefs run -- cli-proxy-api -config {config}      mount, run, unmount
  storefs status                    is all well? exit code 7 if something waits for you
  storefs umount                    send what is pending, then unmount

Each command: storefs COMMAND --help
"""


def run(words: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        args = parser(words[:1]).parse_args(words)
    except SystemExit as end:  # argparse: 0 after --help, 2 after a usage message
        return int(end.code or 0)
    command: Callable[[argparse.Namespace], int] = args.run
    try:
        return int(command(args))
    except Quit as refusal:
        print(f"storefs: {refusal}", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.FAILED


def parser(only: Sequence[str] = ()) -> argparse.ArgumentParser:
    """What the words of the command line mean; man page and completion are made from it.

    `only`: the name of the one command that is wanted; the others are then not put together.
    """
    known = [command for command in COMMANDS if command.name in only] or COMMANDS
    words = argparse.ArgumentParser(
        prog="storefs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    words.add_argument("--version", action="version", version=f"storefs {__version__}")
    commands = words.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in known:
        one = commands.add_parser(
            command.name,
            help=command.text,
            description=f"{command.text[0].upper()}{command.text[1:]}.",
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.set_defaults(run=command.run)
        _add_mountpoint(one, command)
        command.add(one)
    return words


def _add_mountpoint(words: argparse.ArgumentParser, command: Command) -> None:
    text = f"default {options.MOUNTPOINT}"
    if command.place == "option":
        words.add_argument("--mount", dest="mountpoint", metavar="MOUNTPOINT", help=text)
    elif command.place == "word":
        words.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT", help=text)
