"""Versions that `storefs copy` replaces, kept as conflict copies of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs import root
from storefs.errors import Exit, Quit
from storefs.kept import Kept, Place

if TYPE_CHECKING:
    from storefs.sides import Side


class SetAside:
    """The conflicts folder of the target's root, opened when the first copy is kept."""

    def __init__(self, target: Side, identity: str) -> None:
        self._target, self._identity = target, identity
        self._root: root.Root | None = None
        self._kept: Kept | None = None

    @property
    def place(self) -> str:
        """Where copies were kept, empty if none were."""
        return str(self._root.path / Place.CONFLICTS.value) if self._root else ""

    def keep(self, path: str, data: bytes) -> None:
        """Have a version on this disk before it is replaced. Raises Quit."""
        if self._kept is None:
            self._root = root.open_beside(self._target.settings, self._identity)
            self._kept = Kept(self._root.dir_fd)
        try:
            self._kept.keep(Place.CONFLICTS, path, data)
        except OSError as error:
            raise Quit(
                Exit.FAILED,
                f"{path}: not replaced, for the old version cannot be kept in {self.place}: "
                f"{error.strerror}",
            ) from None

    def close(self) -> None:
        """Give the root back."""
        if self._kept is not None and self._root is not None:
            self._kept.close()
            self._root.close()
