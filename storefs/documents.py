"""The bytes of documents as programs see them: shown form, edits, the view of `auth-dir`.

Nothing here asks the backend. Writes change what every process of this machine reads at once;
`commit` carries them on.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs import view
from storefs.errors import BackendFailed, DocumentTooLarge, Stale
from storefs.inodes import Edit, Kind
from storefs.mirror import VANISHED, Torn
from storefs.paths import CONFIG
from storefs.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Revision
    from storefs.generations import Generations
    from storefs.handles import Handle, Handles
    from storefs.inodes import Inode, Inodes
    from storefs.locks import PathLocks
    from storefs.marks import Marks
    from storefs.mirror import Mirror
    from storefs.pending import PendingChanges

log = logging.getLogger(__name__)

SCRATCH_SECONDS = 60.0
"""How long empty or invalid bytes live after the last release."""


class ConfigView:
    """The auth-dir view, with the last results remembered: there is one config."""

    def __init__(self, auth_dir: str | None) -> None:
        """`auth_dir` None: show the config as it is stored."""
        self._auth_dir = auth_dir
        self._stored = b""
        self._shown = b""
        self.refused = ""

    def shown(self, path: str, stored: bytes) -> bytes:
        """What a read of `path` shows of the stored bytes."""
        if path != CONFIG or self._auth_dir is None:
            return stored
        if stored != self._stored:
            result = view.show(stored, self._auth_dir)
            if result.refused and result.refused != self.refused:
                log.warning("%s is shown without this machine's auth-dir: %s", path, result.refused)
            self._stored, self._shown, self.refused = stored, result.data, result.refused
        return self._shown

    def stored(self, path: str, written: bytes, before: bytes | None) -> bytes:
        """What to store when a program writes `written` over the stored `before`."""
        if path != CONFIG or self._auth_dir is None:
            return written
        return view.unshow(written, self._auth_dir, before)


@dataclass(slots=True)
class Documents:
    """Contents of document inodes; a change is under way from its first byte to its commit."""

    mirror: Mirror
    inodes: Inodes
    handles: Handles
    generations: Generations
    marks: Marks
    locks: PathLocks
    config_view: ConfigView
    pending: PendingChanges
    max_size: int
    settling: Settling = field(default_factory=Settling)
    held_back: dict[str, float] = field(default_factory=dict)
    """Documents renamed to a local name: path -> when the delete goes out (monotonic)."""
    former: dict[int, bytes] = field(default_factory=dict)
    """By inode: what stood before an install whose event is not raised. A raise worker drops it."""
    scratch: dict[Inode, float] = field(default_factory=dict)
    """Closed with empty or invalid bytes: inode -> when the last valid version returns."""
    on_due: Callable[[], None] = lambda: None
    """Told when something was added to these two: somebody must look once its time is over."""

    def busy(self, path: str) -> bool:
        """Whether a change by a program of this machine is under way."""
        if self.locks.held(path) or path in self.held_back or path in self.pending:
            return True
        inode = self.inodes.find(path)
        return inode is not None and inode.kind is Kind.DOCUMENT and self.changing(inode)

    def hold_back(self, path: str, seconds: float) -> None:
        """The document has got a local name; unless its own returns it is deleted."""
        self.held_back[path] = time.monotonic() + seconds
        self.on_due()

    def keep_scratch(self, inode: Inode) -> None:
        """Show empty or invalid bytes for a while."""
        self.scratch[inode] = time.monotonic() + SCRATCH_SECONDS
        self.on_due()

    def changing(self, inode: Inode) -> bool:
        """Whether bytes of this document may still go to the backend by themselves."""
        edit = inode.edit
        if edit is not None and edit.changed and (edit.scheduled or self.handles.wrote(inode)):
            return True
        return self.handles.about_to_write(inode)

    def arriving(self, path: str) -> bool:
        """Whether the mirror holds a document whose name is not visible yet."""
        return (
            path in self.mirror.records
            and path not in self.held_back
            and self.inodes.find(path) is None
        )

    def stored(self, path: str) -> bytes | None:
        """The stored bytes, None for a path without a record. Raises BackendFailed."""
        if path not in self.mirror.records:
            return None
        change = self.pending.get(path)
        if change is not None and change.data is not None:
            return change.data
        try:
            return self.mirror.content(path)
        except (Torn, OSError) as error:
            self.marks.mark([path])
            raise BackendFailed(
                f"{path}: its copy on this disk is unusable ({error}); it is being fetched again"
            ) from error

    def data(self, inode: Inode) -> bytes | bytearray:
        """The present bytes, in shown form. Raises BackendFailed."""
        if inode.edit is not None and not self.outvoted(inode):
            return inode.edit.data
        stored = self.stored(inode.path) if inode.linked else None
        return b"" if stored is None else self.config_view.shown(inode.path, stored)

    def keep_former(self, inode: Inode) -> None:
        """Other bytes are about to stand: whoever has it open reads the old ones for now.

        The kernel cuts what it caches at the size it knows, and a reader would see half a
        document (once in 1,000 changes, on a machine with a full load).
        """
        if inode.opens and inode.ino not in self.former:
            with suppress(BackendFailed):
                self.former[inode.ino] = bytes(self.data(inode))

    def read(self, handle: Handle) -> bytes | bytearray:
        """What a handle reads. Raises BackendFailed."""
        if self.former and handle.seen < handle.inode.installed:
            old = self.former.get(handle.inode.ino)
            if old is not None:
                return old
        return self.data(handle.inode)

    def outvoted(self, inode: Inode) -> bool:
        """Whether the writer was told that another version stands; it may not be raised yet."""
        edit = inode.edit
        return edit is not None and edit.told and not edit.changed and inode.linked

    def measures(self, inode: Inode) -> tuple[int, int]:
        """The exact size of the present bytes, and their mtime. On the path of every stat."""
        edit = inode.edit
        if edit is not None:
            return len(edit.data), edit.mtime_ns
        record = self.mirror.records.get(inode.path)
        if record is None:
            return 0, 0
        if not inode.linked:
            return 0, record.mtime_ns
        size = len(self.data(inode)) if inode.path == CONFIG else record.size
        return size, record.mtime_ns

    def mtime_ns(self, inode: Inode) -> int:
        """The last local write, else when the shown revision was first seen."""
        if inode.edit is not None:
            return inode.edit.mtime_ns
        record = self.mirror.records.get(inode.path)
        return record.mtime_ns if record else 0

    def expect(self, path: str) -> Revision | None:
        """The revision that a commit of `path` must find."""
        if change := self.pending.get(path):
            return change.expect
        record = self.mirror.records.get(path)
        return record.revision if record and record.revision != VANISHED else None

    def begin(self, inode: Inode, *, empty: bool = False) -> Edit:
        """Make the document's bytes changeable; a change is under way from here on."""
        edit = inode.edit
        if edit is None:
            data = bytearray() if empty else bytearray(self.data(inode))
            edit = inode.edit = Edit(data, time.time_ns())
        elif empty:
            edit.data.clear()
        if not edit.changed or not edit.sequence:
            edit.base, edit.told = self.settling.base(inode.path), False
        edit.changed = True
        edit.sequence += 1
        edit.mtime_ns = time.time_ns()
        self.scratch.pop(inode, None)
        if inode.linked:  # else the name may be another document's by now
            self.generations.advance(inode.path)
        return edit

    def write(self, handle: Handle, offset: int, data: bytes) -> int:
        """Change the present bytes. Raises DocumentTooLarge, Stale."""
        self._check_size(handle.inode, offset + len(data))
        self._check_seen(handle)
        buffer = self.begin(handle.inode).data
        if offset > len(buffer):
            buffer.extend(bytes(offset - len(buffer)))
        buffer[offset : offset + len(data)] = data
        handle.wrote = True
        return len(data)

    def resize(self, inode: Inode, size: int, handle: Handle | None) -> None:
        """Cut or extend with zeros. Raises DocumentTooLarge, Stale."""
        self._check_size(inode, size)
        if handle is not None:
            if size:
                self._check_seen(handle)
            handle.wrote = True
        buffer = self.begin(inode, empty=size == 0).data
        del buffer[size:]
        buffer.extend(bytes(size - len(buffer)))

    def _check_size(self, inode: Inode, size: int) -> None:
        if size > self.max_size:
            raise DocumentTooLarge(
                f"{inode.path}: {size} bytes is more than --max-file-size {self.max_size}"
            )

    def _check_seen(self, handle: Handle) -> None:
        if not handle.wrote and handle.seen < handle.inode.installed:
            raise Stale(
                f"{handle.inode.path}: changed elsewhere since this program opened it; "
                "open it again"
            )

    def freeze(self, inode: Inode, *, replaced: bool = False) -> None:
        """Keep the bytes of a document that loses its name for the handles still open.

        `replaced`: the name goes to another file, so who looked it up a moment ago may open it.
        """
        if (inode.opens or (replaced and inode.lookups)) and inode.edit is None:
            with suppress(BackendFailed):  # torn: what was asked for is done all the same
                inode.edit = Edit(bytearray(self.data(inode)), self.mtime_ns(inode))
        if inode.edit is not None:
            inode.edit.changed = False
        self.former.pop(inode.ino, None)
        self.scratch.pop(inode, None)

    def finish(self, inode: Inode, edit: Edit, sequence: int) -> None:
        """The bytes of `sequence` are committed or given up: the change is over.

        Where the mirror would show other bytes than were written, the written ones stay until
        reconcile shows the others.
        """
        if inode.edit is not edit or edit.sequence != sequence:
            return  # written again meanwhile: the later flush decides
        edit.changed = False
        self.handles.committed(inode, self.generations.now)
        if not inode.linked:
            return
        stored = self.stored(inode.path)
        if stored is not None and self.config_view.shown(inode.path, stored) == edit.data:
            inode.edit = None
        else:
            self.marks.show(inode.path)
