"""`storefs conflicts`, `trash` and `adopt`: kept copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.cli.command import Command, mountpoint
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    import argparse

    from storefs.kept import Place

_CONFLICTS_EPILOG = """\
A copy is a version of a document that lost against another. list: name, document, time, size.
show: its bytes. take: it becomes the document, on all machines, old tokens included; the version
that it replaces is kept as a copy. drop: it is removed for good.

examples:
  storefs conflicts
  storefs conflicts --mount ~/p --json
  storefs conflicts show NAME
  storefs conflicts drop --all

exit codes: 0 done; 1 refused, the log says why; 2 usage; 8 not mounted.
"""

_TRASH_EPILOG = """\
What a change from elsewhere replaced or removed lies here for 30 days, at most 256 MiB of it. list:
name, document, time, size. show: its bytes. take: it becomes the document again, on all machines;
what it replaces is kept as a conflict copy. drop: it is removed for good.

examples:
  storefs trash
  storefs trash take NAME

exit codes: 0 done; 1 refused, the log says why; 2 usage; 8 not mounted.
"""

_ADOPT_EPILOG = """\
A file in .storefs/found/ was in the place of a document, and nobody could account for it. It is
refused if it is invalid, or if the document exists with other bytes. It leaves found/ when the
backend has it.

exit codes: 0 done, or pending; 1 refused, the log says why; 8 not mounted.
"""


def _conflicts(args: argparse.Namespace) -> int:
    from storefs.kept import Place

    return _copies(args, Place.CONFLICTS)


def _trash(args: argparse.Namespace) -> int:
    from storefs.kept import Place

    return _copies(args, Place.TRASH)


def _copies(args: argparse.Namespace, kept: Place) -> int:
    from storefs import copies

    place, action, names = mountpoint(args), args.action, args.names
    wanted = {"list": 0, "drop": 0 if args.all else max(1, len(names))}.get(action, 1)
    if len(names) != wanted:
        raise Quit(Exit.USAGE, f"{action}: takes {wanted or 'no'} NAME of a copy")
    if action == "list":
        return copies.show_list(place, kept, as_json=args.json)
    if action == "drop":
        return copies.drop_all(place, kept) if args.all else copies.drop(place, kept, names)
    if action == "take":
        return copies.take(place, kept, names[0], args.path)
    return copies.show(place, kept, names[0])


def _adopt(args: argparse.Namespace) -> int:
    from storefs import copies

    return copies.adopt(mountpoint(args), args.name, args.path)


def _add_copies(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action", metavar="ACTION", nargs="?", default="list",
        choices=("list", "show", "take", "drop"), help="list (default), show, take or drop",
    )  # fmt: skip
    command.add_argument("names", metavar="NAME", nargs="*", help="of a copy, as listed")
    command.add_argument("--all", action="store_true", help="drop: every copy")
    command.add_argument("--json", action="store_true", help="list: for programs")
    _add_as(command)


def _add_adopt(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="of a file in .storefs/found/")
    _add_as(command)


def _add_as(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--as", dest="path", metavar="PATH", default="",
        help="the document, such as auths/a.json, where NAME does not tell it",
    )  # fmt: skip


COMMANDS = (
    Command(
        "conflicts",
        _conflicts,
        "list, show, take or drop versions that lost",
        _CONFLICTS_EPILOG,
        _add_copies,
        place="option",
    ),
    Command(
        "trash",
        _trash,
        "list, show, take or drop what changes from elsewhere replaced",
        _TRASH_EPILOG,
        _add_copies,
        place="option",
    ),
    Command(
        "adopt",
        _adopt,
        "send a found file as the document it was",
        _ADOPT_EPILOG,
        _add_adopt,
        place="option",
    ),
)
