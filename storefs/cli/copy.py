"""`storefs copy`: documents from one store to another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storefs.cli.command import Command, working_directory

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
SOURCE and TARGET are two of:
  local:DIR         a directory with config/ and auths/; where DIR has neither, but config.yaml or
                    *.json directly in it, those (as ~/.cli-proxy-api was before it was a mount)
  flat:DIR          the same without guessing: config.yaml and *.json directly in DIR
  postgres, s3, git the store that the variables name (PGSTORE_..., OBJECTSTORE_..., GITSTORE_...)
  postgres:ENVFILE  the store that the variables in ENVFILE alone name; also s3:, git:

Bytes are copied as they are stored. A document that TARGET lacks is put; one that differs is
replaced, and the replaced version kept among the conflict copies of TARGET's root on this machine;
the same bytes are skipped; what TARGET alone has stays. In the end what was written is read back
and compared. Interrupted at any point, the same command again completes it. Mounts may be live on
either side.

examples:
  storefs copy flat:~/.cli-proxy-api postgres --dry-run
  storefs copy postgres s3
  storefs copy git:/etc/old.env git:/etc/new.env
  storefs copy s3 local:/backup/today

exit codes: 0 done and verified; 1 failed; 2 usage; 3 settings; 4 a store cannot be reached;
5 something was kept back.
"""


def _copy(args: argparse.Namespace) -> int:
    import logging  # the other commands need none

    from storefs import copy, sides

    logging.basicConfig(level=logging.WARNING, format="storefs: %(message)s")
    cwd = working_directory()
    common: dict[str, object] = {"env_file": args.env_file}
    source = sides.parse(args.source, common, os.environ, cwd)
    target = sides.parse(args.target, {**common, "mirror": args.mirror}, os.environ, cwd)
    wishes = copy.Wishes(args.dry_run, args.delete, not args.no_overwrite)
    return copy.run(source, target, wishes)


def _add(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SOURCE", help="where the documents are")
    command.add_argument("target", metavar="TARGET", help="where they go")
    command.add_argument(
        "--dry-run", action="store_true", help="only say what would be done; changes nothing"
    )
    command.add_argument(
        "--delete", action="store_true", help="remove what TARGET alone has; a copy is kept"
    )
    command.add_argument(
        "--no-overwrite",
        action="store_true",
        help="leave documents that differ as they are, and exit with 5 if there are any",
    )
    command.add_argument(
        "--mirror", metavar="DIR", help="TARGET's root: replaced versions go to its conflicts"
    )
    command.add_argument(
        "--env-file",
        metavar="FILE",
        action="append",
        help="variables, one KEY=VALUE a line; again for more (default: .env, if there is one)",
    )


COMMANDS = (Command("copy", _copy, "copy documents between stores", _EPILOG, _add, place="none"),)
