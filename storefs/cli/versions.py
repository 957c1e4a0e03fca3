"""`storefs log` and `restore`: what documents were before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storefs import settings as options
from storefs.cli.command import Command, mountpoint, working_directory

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_LOG_EPILOG = """\
PATH is the document in the mount: a path into it, or as it stands there, such as auths/a.json.
One line a version, the newest first: time, author, machine, revision. Only the backend git keeps
versions, as many as GITSTORE_MAX_COMMITS says.

examples:
  storefs log auths/a.json
  storefs log ~/.cli-proxy-api/config/config.yaml --json

exit codes: 0 done; 1 there is none; 4 the backend cannot be reached; 8 not mounted.
"""

_RESTORE_EPILOG = """\
With REVISION, on the backend git: that version becomes the document again, on all machines, as a
new commit; what it replaces is kept as a conflict copy. The beginning of a REVISION, as `storefs
log` shows it, is enough.

Without, on the backend s3 with OBJECTSTORE_BACKUP_PREFIX: the backup copy of a document that
vanished from the store becomes the document again, on all machines. Without PATH all of them, which
`storefs status` lists as only in backup. A document that the store has is never touched.

examples:
  storefs restore auths/a.json 8a3f21c0
  storefs restore auths/a.json
  storefs restore

exit codes: 0 done, or with REVISION pending; 1 refused; 4 the backend cannot be reached; 8 not
mounted.
"""


def _log(args: argparse.Namespace) -> int:
    from storefs import history

    return history.show(*_document(args), as_json=args.json)


def _restore(args: argparse.Namespace) -> int:
    from storefs import history

    if args.path is None:
        return history.restore_copies(mountpoint(args))
    if args.revision is None:
        return history.restore_copy(*_document(args))
    return history.restore(*_document(args), args.revision)


def _document(args: argparse.Namespace) -> tuple[Path, str]:
    """The mount point and the document's path below it."""
    from storefs.mountpoint import on_top, ours

    cwd = working_directory()
    named = None
    if args.mountpoint is not None:
        named = options.locate(args.mountpoint, os.environ, cwd)
    place, _ = on_top(options.locate(args.path, os.environ, cwd))
    for mount in [on_top(named)[0]] if named else ours():
        if mount in place.parents:
            return mount, str(place.relative_to(mount))
    return named or options.locate(None, os.environ, cwd), args.path


def _add_log(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="PATH", help="of a document")
    command.add_argument("--json", action="store_true", help="for programs, one object a line")


def _add_restore(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="PATH", nargs="?", help="of a document")
    command.add_argument("revision", metavar="REVISION", nargs="?", help="of a version, as listed")


COMMANDS = (
    Command("log", _log, "list the versions of a document", _LOG_EPILOG, _add_log, place="option"),
    Command(
        "restore",
        _restore,
        "bring a version of a document back, or its backup copy",
        _RESTORE_EPILOG,
        _add_restore,
        place="option",
    ),
)
