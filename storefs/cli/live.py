"""`storefs umount`, `status` and `sync`: what a person asks of a running mount."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from storefs import settings as options
from storefs.cli.command import Command, mountpoint

if TYPE_CHECKING:
    import argparse

_STATUS_EPILOG = """\
exit codes: 0 all is well; 7 offline, or something is pending, refused, in conflict, found or held
back; 8 not mounted; 1 the mount does not answer. With --backend also: 4 the store does not answer.

--backend adds, for PostgreSQL: connections, table sizes, the ten latest updates; S3: objects,
bytes, the ten latest; Git: tip, commits, size of the clone.
"""

_SYNC_EPILOG = """\
A mount does this by itself; sync is for those who cannot wait. Deletions that came in suspicious
number are held back until `storefs sync --accept-deletions`.

exit codes: 0 done; 4 the backend cannot be reached; 8 not mounted.
"""

_UMOUNT_EPILOG = """\
Returns when the daemon has ended, so everything that was written is on disk or in the backend.

exit codes: 0 done; 6 in use; 8 not mounted; 1 the daemon still runs.
"""


def _umount(args: argparse.Namespace) -> int:
    from storefs import commands

    place = mountpoint(args)
    timeout = options.stop_timeout(vars(args), os.environ)
    # Standing in the mount ourselves would keep it busy.
    os.chdir("/")
    return commands.umount(place, timeout)


def _status(args: argparse.Namespace) -> int:
    from storefs import commands

    return commands.status(mountpoint(args), as_json=args.json, backend=args.backend)


def _sync(args: argparse.Namespace) -> int:
    from storefs import commands

    return commands.sync(mountpoint(args), accept_deletions=args.accept_deletions)


def _add_umount(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--stop-timeout",
        metavar="SECONDS",
        help="what the mount was given (default "
        f"{options.Settings.stop_timeout:g}); waits a little longer",
    )


def _add_status(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--backend", action="store_true", help="add what the store says of itself; asks it"
    )


def _add_sync(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accept-deletions", action="store_true", help="believe the deletions held back"
    )


COMMANDS = (
    Command("umount", _umount, "send what is pending and unmount", _UMOUNT_EPILOG, _add_umount),
    Command("status", _status, "show how a mount is doing", _STATUS_EPILOG, _add_status),
    Command("sync", _sync, "take in now what changed elsewhere", _SYNC_EPILOG, _add_sync),
)
