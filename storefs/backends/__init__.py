"""The stores storefs can stand on; strangers to each other.

A backend joins with one line in OPENERS; its module is imported when it is chosen.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from storefs import known
from storefs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from storefs.backends.contract import Backend
    from storefs.settings import Settings


log = logging.getLogger(__name__)

_PAUSE = 0.5


def _local(settings: Settings) -> Backend:
    from storefs.backends.local import Local

    return Local(settings.local_store)


def _memory(settings: Settings) -> Backend:
    from storefs.backends.memory import Memory

    return Memory()


def _postgres(settings: Settings) -> Backend:
    from storefs.backends.postgres import connect

    return connect(settings)


def _s3(settings: Settings) -> Backend:
    from storefs.backends.s3 import connect

    return connect(settings)


def _git(settings: Settings) -> Backend:
    from storefs.backends.git import connect

    return connect(settings)


OPENERS: Mapping[str, Callable[[Settings], Backend]] = {
    "local": _local,
    "memory": _memory,
    "postgres": _postgres,
    "s3": _s3,
    "git": _git,
}


def connect(settings: Settings) -> Backend:
    """The backend that the settings name. Raises StoreError, Quit for a setting it lacks."""
    return OPENERS[settings.backend](settings)


def connect_or_wait(settings: Settings) -> Backend:
    """`connect`, for a mount: also a store that answers later, if it is known which one it is.

    Where it is not known, tries for `--wait` seconds. Blocking. Raises StoreError, Quit.
    """
    until = time.monotonic() + settings.wait
    while True:
        try:
            backend = connect(settings)
        except Unavailable as error:
            if identity := known.identity(settings):
                from storefs.backends.absent import Absent

                again = partial(connect, settings)
                return Absent(identity, again, error, settings.poll_interval)
            if time.monotonic() >= until:
                raise
            log.info("%s: waiting for it: %s", settings.backend, error)
            time.sleep(_PAUSE)
        else:
            known.remember(settings, backend.identity)
            return backend
