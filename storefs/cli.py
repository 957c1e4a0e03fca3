"""The command line: words to options, options to a command, its outcome to an exit code.

Only `mount` needs trio and pyfuse3; each command imports what it needs, so that the others
answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import __version__
from storefs import settings as options
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""

_DESCRIPTION = "Mounts shared configuration and tokens as ordinary files."

_EPILOG = """\
examples:
  storefs mount                     mount at ~/.cli-proxy-api, return when it is ready
  storefs mount /srv/p --foreground stay in the foreground, for systemd or a container
  storefs status                    is all well? exit code 7 if something waits for you
  storefs umount                    send what is pending, then unmount

Each command: storefs COMMAND --help
"""

_MOUNT_EPILOG = """\
Every option --some-option is also the variable STOREFS_SOME_OPTION, in the environment or in an
env file. Order: command line, environment, env files, defaults.

The directory must be empty; it is made if it is missing. In it appear config/ and auths/, and
.storefs/status, which says how things are.

examples:
  storefs mount
  storefs mount ~/p --local-store /mnt/shared/p     documents in a directory of your choice
  storefs mount ~/tokens --subdir auths             only the tokens, at the top
  STOREFS_CACHE_SIZE=1G storefs mount
"""

_STATUS_EPILOG = """\
exit codes: 0 all is well; 7 offline, or something is pending, refused, in conflict, found or held
back; 8 not mounted; 1 the mount does not answer.
"""

_SYNC_EPILOG = """\
A mount does this by itself; sync is for those who cannot wait. Deletions that came in suspicious
number are held back until `storefs sync --accept-deletions`.

exit codes: 0 done; 4 the backend cannot be reached; 8 not mounted.
"""

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

_ADOPT_EPILOG = """\
A file in .storefs/found/ was in the place of a document, and nobody could account for it. It is
refused if it is invalid, or if the document exists with other bytes. It leaves found/ when the
backend has it.

exit codes: 0 done, or pending; 1 refused, the log says why; 8 not mounted.
"""

_WITH_NAMES = ("conflicts", "adopt")
"""Commands whose words are names of copies: their mount point is the option --mount."""

_DOCTOR_EPILOG = """\
Give it the options you give to `storefs mount`, from the same directory. It changes nothing, and
takes no longer than half a minute, whatever hangs.

exit codes: 0 nothing failed; 1 something did.
"""

_UMOUNT_EPILOG = """\
Returns when the daemon has ended, so everything that was written is on disk or in the backend.

exit codes: 0 done; 6 in use; 8 not mounted; 1 the daemon still runs.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:  # argparse: 0 after --help, 2 after a usage message
        return int(end.code or 0)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return int(run(args))
    except Quit as refusal:
        print(f"storefs: {refusal}", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="storefs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"storefs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run, text, epilog, add in _COMMANDS:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in _WITH_NAMES:
            place = command.add_argument("--mount", dest="mountpoint")
        else:
            place = command.add_argument("mountpoint", nargs="?")
        place.metavar, place.help = "MOUNTPOINT", f"default {options.MOUNTPOINT}"
        command.set_defaults(run=run)
        add(command)
    return parser


def _add_mount(command: argparse.ArgumentParser) -> None:
    def flag(name: str, text: str) -> None:
        command.add_argument(name, action=argparse.BooleanOptionalAction, help=text)

    def value(name: str, metavar: str, text: str) -> None:
        command.add_argument(name, metavar=metavar, help=text)

    flag("--foreground", "do not leave the terminal; for systemd (Type=notify) and containers")
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


def _add_umount(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--stop-timeout",
        metavar="SECONDS",
        help="what the mount was given (default "
        f"{options.Settings.stop_timeout:g}); waits a little longer",
    )


def _add_sync(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accept-deletions", action="store_true", help="believe the deletions held back"
    )


def _add_status(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")


def _add_conflicts(command: argparse.ArgumentParser) -> None:
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


def _add_doctor(command: argparse.ArgumentParser) -> None:
    _add_mount(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--sql", action="store_true", help="print what an administrator of PostgreSQL runs once"
    )


def _mount(args: argparse.Namespace) -> int:
    from storefs import daemon, logs, mountpoint, root

    cwd = _cwd()
    # Before the settings: the working directory, and so `.env`, may lie in a mount that hangs.
    place = mountpoint.clear(options.locate(args.mountpoint, os.environ, cwd))
    settings = options.load(vars(args), os.environ, cwd)
    mountpoint.prepare(settings)
    _leave(place)

    def serve(ready: Callable[[str], None]) -> Exit:
        logs.start(settings.log_level, foreground=settings.foreground)
        from storefs import mount

        return mount.serve(settings, ready)

    if settings.foreground:
        return serve(_say_ready)
    where = settings.mirror or Path(root.STATE, "*")
    return daemon.detach(serve, f"see {where / logs.LOG}, or journalctl -t storefs")


def _status(args: argparse.Namespace) -> int:
    from storefs import commands

    return commands.status(_place(args), as_json=args.json)


def _sync(args: argparse.Namespace) -> int:
    from storefs import commands

    return commands.sync(_place(args), accept_deletions=args.accept_deletions)


def _conflicts(args: argparse.Namespace) -> int:
    from storefs import copies

    place, action, names = _place(args), args.action, args.names
    wanted = {"list": 0, "drop": 0 if args.all else max(1, len(names))}.get(action, 1)
    if len(names) != wanted:
        raise Quit(Exit.USAGE, f"conflicts {action}: takes {wanted or 'no'} NAME of a copy")
    if action == "list":
        return copies.show_list(place, as_json=args.json)
    if action == "drop":
        return copies.drop_all(place) if args.all else copies.drop(place, names)
    if action == "take":
        return copies.take(place, names[0], args.path)
    return copies.show(place, names[0])


def _adopt(args: argparse.Namespace) -> int:
    from storefs import copies

    return copies.adopt(_place(args), args.name, args.path)


def _umount(args: argparse.Namespace) -> int:
    from storefs import commands

    place = _place(args)
    timeout = options.stop_timeout(vars(args), os.environ)
    # Standing in the mount ourselves would keep it busy.
    os.chdir("/")
    return commands.umount(place, timeout)


def _doctor(args: argparse.Namespace) -> int:
    from storefs import doctor

    if args.sql:
        print(doctor.administration(vars(args), os.environ, _cwd()), end="")
        return Exit.DONE
    return doctor.examine(vars(args), os.environ, _cwd(), as_json=args.json)


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


def _place(args: argparse.Namespace) -> Path:
    return options.locate(args.mountpoint, os.environ, _cwd())


def _cwd() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise Quit(Exit.FAILED, "the working directory is gone: cd to another one") from None


_COMMANDS = (
    ("mount", _mount, "mount the documents, return when they are there", _MOUNT_EPILOG, _add_mount),
    ("umount", _umount, "send what is pending and unmount", _UMOUNT_EPILOG, _add_umount),
    ("status", _status, "show how a mount is doing", _STATUS_EPILOG, _add_status),
    ("sync", _sync, "take in now what changed elsewhere", _SYNC_EPILOG, _add_sync),
    (
        "conflicts",
        _conflicts,
        "list, show, take or drop versions that lost",
        _CONFLICTS_EPILOG,
        _add_conflicts,
    ),
    ("adopt", _adopt, "send a found file as the document it was", _ADOPT_EPILOG, _add_adopt),
    ("doctor", _doctor, "say what stands in the way, and what to do", _DOCTOR_EPILOG, _add_doctor),
)
