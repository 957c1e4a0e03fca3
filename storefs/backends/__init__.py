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


OPENERS: Mapping[str, Callable[[Settings], Backend]] = {"local": _local, "memory": _memory}


def connect(settings: Settings) -> Backend:
    """The backend that the settings name. Raises StoreError."""
    return OPENERS[settings.backend](settings)
