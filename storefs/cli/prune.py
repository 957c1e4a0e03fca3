"""`storefs prune`: tokens nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs import values
from storefs.cli.command import Command, mountpoint
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
A token is old when it expired, and was refreshed last, longer ago than --older-than. A document
that names no expiry, such as a service account, is never old. Nothing is removed without --yes;
then each is unlinked in the mount, on all machines. One that was refreshed meanwhile stays.

examples:
  storefs prune --older-than 90d
  storefs prune --older-than 90d --yes

exit codes: 0 done; 5 one or more could not be removed; 8 not mounted.
"""


def _prune(args: argparse.Namespace) -> int:
    from storefs import prune

    try:
        age = values.age(args.older_than)
    except ValueError as error:
        raise Quit(Exit.USAGE, f"--older-than: {error}") from None
    return prune.prune(mountpoint(args), age, remove=args.yes, as_json=args.json)


def _add_prune(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--older-than", metavar="AGE", default="90d", help="such as 90d, 12w or 36h (default 90d)"
    )
    command.add_argument("--yes", action="store_true", help="remove them; else they are listed")
    command.add_argument("--json", action="store_true", help="for programs")


COMMANDS = (
    Command("prune", _prune, "list or remove tokens that expired long ago", _EPILOG, _add_prune),
)
