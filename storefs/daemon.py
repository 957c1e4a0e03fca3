"""Starts what serves: the parent goes on when the daemon is ready, or says why it is not.

`detach` leaves the terminal for good; `attach` keeps the daemon as a child that ends with us.

Knows nothing of mounts. Forks before any thread exists; the daemon says one thing through a
pipe, `ready <text>` or `quit <code> <message>`, or nothing if it dies.
"""

from __future__ import annotations

import ctypes
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

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

_prctl = ctypes.CDLL(None, use_errno=True).prctl


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
        print(_await(reader, log_hint), flush=True)
    except Quit as refusal:
        print(f"storefs: {refusal}", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        # It would go on and mount behind the back of a person who gave up.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGTERM)
        raise
    return Exit.DONE


def attach(serve: Callable[[Callable[[str], None]], Exit], log_hint: str) -> int:
    """Run `serve` in a child that is ready when this returns its process id. Raises Quit.

    The child has a session of its own, so no key of the terminal reaches it, and it is told to
    end (SIGTERM) when this process ends, whatever ends it. Its warnings go on to stderr.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        end_with(parent)
        os.chdir("/")
        os.umask(0o077)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _run(serve, writer, heard=(2,))
    os.close(writer)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _await(reader, log_hint)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    return child


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when `parent`, which forked it, ends."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os._exit(Exit.FAILED)


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


def _run(
    serve: Callable[[Callable[[str], None]], Exit], writer: int, heard: tuple[int, ...] = ()
) -> NoReturn:
    """The daemon's life. Ends the process without the parent's clean-up.

    `heard`: the descriptors of what is printed that somebody goes on reading.
    """
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
        _silence(heard)
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


def _silence(heard: tuple[int, ...]) -> None:
    """From now on nobody reads what is printed, except where it is `heard`."""
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in {0, 1, 2}.difference(heard):
        os.dup2(null, fd)
    os.close(null)


def _await(reader: int, log_hint: str) -> str:
    """The parent's part: the lines for the person. Raises Quit with what went wrong."""
    with open(reader, encoding="utf-8") as pipe:
        verdict, _, words = pipe.read().partition(" ")
    if verdict == "ready":
        return words.rstrip("\n")
    if verdict == "quit":
        code, _, message = words.partition(" ")
        raise Quit(Exit(int(code)), message)
    raise Quit(Exit.FAILED, f"the daemon ended before it was ready; {log_hint}")
