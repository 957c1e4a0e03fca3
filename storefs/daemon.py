"""Leaves the terminal: the parent returns when the daemon is ready, or says why it is not.

Knows nothing of mounts. Forks before any thread exists; the daemon says one thing through a
pipe, `ready <text>` or `quit <code> <message>`, or nothing if it dies.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


def detach(serve: Callable[[Callable[[str], None]], Exit], log_hint: str) -> int:
    """Run `serve` as a daemon in `/` with umask 077; returns the exit code of the command.

    `serve` is given what it must call once when it is ready, with lines for the person; a Quit
    before that is shown here. `log_hint` says where to look if it dies without a word.
    """
    # What is buffered would be written twice, by both processes.
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    # Until there is a session to end, Ctrl-C has to wait.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        os.close(reader)
        _leave_session()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _run(serve, writer)
    os.close(writer)
    try:
        os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return _await(reader, log_hint)
    except KeyboardInterrupt:
        # It would go on and mount behind the back of a person who gave up.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGTERM)
        raise


def notify(state: str) -> None:
    """Tell systemd, as sd_notify(3) does; without NOTIFY_SOCKET nothing. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError as error:
        log.warning("systemd cannot be told %s: %s", state, error.strerror)


def _leave_session() -> None:
    """Become a child of init that can never get a terminal again; only that one returns.

    Session and process group keep the number of the process between.
    """
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)


def _run(serve: Callable[[Callable[[str], None]], Exit], writer: int) -> NoReturn:
    """The daemon's life. Ends the process without the parent's clean-up."""
    told = False

    def tell(words: str) -> None:
        nonlocal told
        told = True
        # Without a parent, its terminal is closed: the daemon goes on.
        with (
            suppress(BrokenPipeError),
            open(writer, "w", encoding="utf-8", errors="backslashreplace") as pipe,
        ):
            pipe.write(words)

    def ready(text: str) -> None:
        _silence()
        tell(f"ready {text}")

    code = Exit.FAILED
    try:
        code = serve(ready)
    except Quit as refusal:
        code = refusal.code
        if told:
            log.error("%s", refusal)
        else:
            tell(f"quit {code.value} {refusal}")
    except BaseException:
        log.exception("the daemon ends")
    finally:
        logging.shutdown()
        os._exit(code)


def _silence() -> None:
    """From now on nobody reads what is printed."""
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _await(reader: int, log_hint: str) -> int:
    """The parent's part: show what the daemon says."""
    with open(reader, encoding="utf-8") as pipe:
        verdict, _, words = pipe.read().partition(" ")
    if verdict == "ready":
        print(words.rstrip("\n"), flush=True)
        return Exit.DONE
    if verdict == "quit":
        code, _, message = words.partition(" ")
        print(f"storefs: {message}", file=sys.stderr)
        return int(code)
    print(f"storefs: the daemon ended before it was ready; {log_hint}", file=sys.stderr)
    return Exit.FAILED
