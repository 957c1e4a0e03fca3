"""Where log lines go: stderr, syslog or the journal, and always `<root>/.storefs/log`.

Each handler is set up once, at the start of a mount; other commands do not log.
"""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler, SysLogHandler
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import TextIOWrapper

LOG = ".storefs/log"
"""The log file, below the root."""

_SYSLOG = Path("/dev/log")
_BYTES = 1 << 20
_OLD_FILES = 2
"""With the current one, three files."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _PrivateFile(RotatingFileHandler):
    """A rotating file only its owner can read, from the moment it exists."""

    def _open(self) -> TextIOWrapper:
        fd = os.open(
            self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        os.fchmod(fd, 0o600)
        return open(fd, "a", encoding="utf-8", errors="backslashreplace")


def start(level: str, *, foreground: bool) -> None:
    """Log to stderr; as a daemon to syslog too, and then to stderr warnings only.

    A daemon's stderr is the terminal until it is ready, and nothing from then on.
    """
    log = logging.getLogger()
    log.setLevel(level.upper())
    stderr = logging.StreamHandler()
    stderr.setFormatter(logging.Formatter(_FORMAT))
    log.addHandler(stderr)
    if foreground:
        return
    stderr.setLevel(logging.WARNING)
    if (syslog := _syslog()) is not None:
        log.addHandler(syslog)


def open_log(root: Path) -> logging.Handler:
    """Log to `<root>/.storefs/log` too; the handler is returned for who wants to close it.

    Raises OSError.
    """
    handler = _PrivateFile(root / LOG, maxBytes=_BYTES, backupCount=_OLD_FILES)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.getLogger().addHandler(handler)
    return handler


def _syslog() -> SysLogHandler | None:
    """None where nothing listens, as in most containers: the log file remains."""
    # The handler itself takes a missing socket in silence, and complains at every record.
    if not _SYSLOG.is_socket():
        return None
    handler = SysLogHandler(str(_SYSLOG), facility=SysLogHandler.LOG_DAEMON)
    handler.ident = f"storefs[{os.getpid()}]: "
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    return handler
