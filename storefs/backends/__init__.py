"""The stores storefs can stand on; strangers to each other.

A backend joins with one line in OPENERS; its module is imported when it is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from storefs.backends.contract import Backend
    from storefs.settings import Settings


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
