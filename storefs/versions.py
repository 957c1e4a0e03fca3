"""What documents were before: the answers to `storefs log` and `storefs restore`.

Asked through `.storefs/ask`. Knows no history and no copies of its own: the backend has some, or
there are none.
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

        Answers with the whole revision. With the path alone it is the backup copy of a document
        that the store lacks, and the answer is that path. Raises FileError, StoreError, OSError.
        """
        if len(arguments) == 1:
            return await self._restore_copy(self._path(arguments, 1))
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

    async def only_in_backup(self, arguments: Sequence[str]) -> bytes:
        """The path of each document of this mount that only the backup has, one a line.

        Raises NotSupported, StoreError.
        """
        found = await self.store.find_only_in_backup()
        if found is None:
            raise self._no_copies()
        top = self.inodes.top
        paths = [path for path in found if not top or path.startswith(f"{top}/")]
        return "".join(f"{path}\n" for path in paths).encode()

    async def _restore_copy(self, path: str) -> bytes:
        data = await self.store.copy(path)
        if data is None:
            if await self.store.find_only_in_backup() is None:
                raise self._no_copies()
            raise NoEntry(f"{path}: the backup has no copy of it")
        await self.recovery.bring_back(path, data)
        return f"{path}\n".encode()

    def _no_copies(self) -> NotSupported:
        identity = self.store.backend.identity
        return NotSupported(
            f"{identity} keeps no backup copies: they need the backend s3 and "
            "OBJECTSTORE_BACKUP_PREFIX. Give a REVISION where it keeps versions; `storefs log` "
            "lists them"
        )

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
