"""`storefs doctor`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storefs.cli import mount
from storefs.cli.command import Command, working_directory
from storefs.errors import Exit

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
Give it the options you give to `storefs mount`, from the same directory. It changes nothing, and
takes no longer than half a minute, whatever hangs.

exit codes: 0 nothing failed; 1 something did.
"""


def _doctor(args: argparse.Namespace) -> int:
    from storefs import doctor

    if args.sql:
        print(doctor.administration(vars(args), os.environ, working_directory()), end="")
        return Exit.DONE
    return doctor.examine(vars(args), os.environ, working_directory(), as_json=args.json)


def _add_doctor(command: argparse.ArgumentParser) -> None:
    mount.add_options(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--sql", action="store_true", help="print what an administrator of PostgreSQL runs once"
    )


COMMANDS = (
    Command("doctor", _doctor, "say what stands in the way, and what to do", _EPILOG, _add_doctor),
)
