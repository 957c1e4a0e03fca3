"""What documents were before: the answers to `storefs log`, and to `storefs restore PATH REVISION`.

Asked through `.storefs/ask`. Knows no history of its own: the backend has one, or there is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.errors import InvalidArgument, NoEntry, NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.backends.contract import Revision, Version
    from storefs.inodes import Inodes
    from storefs.recovery import Recovery
    from storefs.store import Store

_SHORT = 4
"""Characters of a revision that a person must give at least."""


@dataclass(slots=True)
class Versions:
    """The history of one mount's documents."""

    store: Store
    inodes: Inodes
    recovery: Recovery

    async def log(self, arguments: Sequence[str]) -> bytes:
        """One JSON object a line for each version of a path, the newest first.

        Keys: time (unix seconds), author, machine, revision (null: deleted). Raises FileError,
        StoreError.
        """
        path = self._path(arguments, 1)
        lines = [
            json.dumps(
                {
                    "time": version.time,
                    "author": version.author,
                    "machine": version.machine,
                    "revision": version.revision,
                },
                ensure_ascii=False,
            )
            for version in await self._versions(path)
        ]
        return "".join(f"{line}\n" for line in lines).encode(errors="replace")

    async def restore(self, arguments: Sequence[str]) -> bytes:
        """A version that `log` names, or the beginning of its revision, becomes the document.

        Answers with the whole revision. Raises FileError, StoreError, OSError.
        """
        path, wanted = self._path(arguments, 2), arguments[1]
        found = {
            version.revision
            for version in await self._versions(path)
            if version.revision is not None and version.revision.startswith(wanted)
        }
        if len(wanted) < _SHORT or not found:
            raise NoEntry(f"{path}: has no version {wanted!r}; `storefs log` lists them")
        if len(found) > 1:
            raise InvalidArgument(f"{path}: {wanted!r} begins several revisions; give more of it")
        revision: Revision = found.pop()
        await self.recovery.bring(path, await self.store.version(revision))
        return f"{revision}\n".encode()

    def _path(self, arguments: Sequence[str], count: int) -> str:
        """The document's path, from the one that the mount shows. Raises InvalidArgument."""
        if len(arguments) != count or not arguments[0]:
            raise InvalidArgument("the path of a document is asked for")
        top, path = self.inodes.top, arguments[0]
        return f"{top}/{path}" if top and not path.startswith(f"{top}/") else path

    async def _versions(self, path: str) -> Sequence[Version]:
        versions = await self.store.history(path)
        if versions is None:
            identity = self.store.backend.identity
            raise NotSupported(f"{identity} keeps no versions; the backend git does")
        if not versions:
            raise NoEntry(f"{path}: there has never been a document of that path")
        return versions
