"""Every exception storefs raises on purpose. None of them knows an errno: `fuse.py` maps them.

StorefsError
├─ StoreError               what a backend answers; made in one `translate()` per backend
│  ├─ Conflict              the path's revision is not the expected one
│  ├─ NotFound              a path that must exist is absent
│  ├─ AccessDenied          the backend refuses the credentials or the right
│  ├─ Invalid               the backend can never hold this path or these bytes
│  ├─ Unavailable           no answer in time, or none at all: the outcome is unknown
│  └─ Corrupt               what the backend holds cannot be understood
├─ FileError                what a file system call answers
│  ├─ NoEntry, EntryExists, NotADirectory, IsADirectory, DirectoryNotEmpty
│  ├─ NotPermitted          a stranger at the root, a link, a device, a closed place
│  ├─ InvalidName, NameTooLong, InvalidDocument, InvalidArgument, DocumentTooLarge
│  ├─ Gone                  the name went to another file; the kernel looks again
│  ├─ Stale, Busy           the document changed elsewhere (write side, name side)
│  ├─ Denied, ReadOnly, CrossDevice, NoAttribute, NotSupported, BadHandle
│  ├─ BackendFailed         the backend could not be asked, nothing was changed
│  └─ Superseded            a raise that came too late; the path was marked dirty again
└─ Quit                     ends a command with an exit code and one sentence, no traceback
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.contract import Blob, Entry


class StorefsError(Exception):
    """Root of all expected failures."""


class StoreError(StorefsError):
    """A backend's answer: the path it is about (empty: the store as a whole) and the cause.

    `applied` holds the entries of the same batch that were applied before the failure.
    """

    def __init__(
        self, path: str, cause: str, *, applied: Mapping[str, Entry] | None = None
    ) -> None:
        super().__init__(f"{path}: {cause}" if path else cause)
        self.path = path
        self.cause = cause
        self.applied: Mapping[str, Entry] = applied or {}


class Conflict(StoreError):
    """A path is not at the expected revision. `current`: path -> Blob, None where absent,
    for the paths whose present content was at hand."""

    def __init__(
        self,
        path: str,
        cause: str,
        *,
        current: Mapping[str, Blob | None] | None = None,
        applied: Mapping[str, Entry] | None = None,
    ) -> None:
        super().__init__(path, cause, applied=applied)
        self.current: Mapping[str, Blob | None] = current or {}


class NotFound(StoreError):
    """A path that must exist is absent."""


class AccessDenied(StoreError):
    """The backend refuses the credentials, or they lack a right."""


class Invalid(StoreError):
    """The backend can never hold this path or these bytes."""


class Unavailable(StoreError):
    """No answer within the deadline, or no connection. The outcome of a commit is unknown."""


class Corrupt(StoreError):
    """The backend answered with something that cannot be understood."""


class FileError(StorefsError):
    """A file system call is refused. The message names the path and the reason."""


class NoEntry(FileError):
    """The name does not exist."""


class EntryExists(FileError):
    """The name exists already."""


class NotADirectory(FileError):
    """A directory is needed."""


class IsADirectory(FileError):
    """A file is needed."""


class DirectoryNotEmpty(FileError):
    """The directory still holds names."""


class NotPermitted(FileError):
    """The mount has no place for this: a stranger at the root, a link, a device."""


class InvalidName(FileError):
    """The name holds a control character or is not UTF-8."""


class NameTooLong(FileError):
    """The name is longer than 255 bytes."""


class InvalidDocument(FileError):
    """The bytes are not a JSON object or a YAML mapping, so they are not sent."""


class InvalidArgument(FileError):
    """The call asks for something a mount never does, such as an exchange of two names."""


class DocumentTooLarge(FileError):
    """The document is longer than --max-file-size."""


class Gone(FileError):
    """The kernel asks for a file whose name was taken away a moment ago."""


class Stale(FileError):
    """The document changed elsewhere since the writer read it."""


class Busy(FileError):
    """The name changed elsewhere: unlink or rename is refused, everything is as before."""


class Denied(FileError):
    """The backend lacks the right for this change."""


class ReadOnly(FileError):
    """The mount, or the backend's account, may only read."""


class CrossDevice(FileError):
    """A directory that holds documents is never renamed as a whole."""


class NoAttribute(FileError):
    """No such extended attribute."""


class NotSupported(FileError):
    """The mount does not keep this kind of metadata."""


class BadHandle(FileError):
    """The handle is not open, or not open for this."""


class BackendFailed(FileError):
    """The backend could not be reached in time; nothing was changed."""


class Superseded(FileError):
    """A raise that came too late: no event arises, the path is looked at again."""


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SETTINGS = 3
    UNREACHABLE = 4
    KEPT_BACK = 5
    MOUNT_POINT = 6
    DEGRADED = 7
    NOT_MOUNTED = 8


class Quit(StorefsError):
    """Ends a command: one sentence for a person, and the exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
