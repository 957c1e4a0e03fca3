"""What an error of the disk means to whoever asked a store that is a directory."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storefs.backends import local_files as files
from storefs.errors import AccessDenied, Invalid, StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from storefs.backends.contract import Entry

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_INVALID = {
    errno.EFBIG,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}

_REMEDIES = {
    errno.EDQUOT: "free space, or have the quota raised",
    errno.EMFILE: "raise ulimit -n, or the sysctl fs.inotify.max_user_instances",
    errno.ENOENT: "put the store directory back, or mount its disk",
    errno.ENOSPC: "free space, or raise the sysctl fs.inotify.max_user_watches",
    errno.ETIMEDOUT: "try again; fuser tells who holds the file",
}


@contextmanager
def translating(path: str, applied: Mapping[str, Entry] | None = None) -> Iterator[None]:
    """Whatever goes wrong inside is about `path`; `applied` as StoreError has it."""
    try:
        yield
    except OSError as error:
        raise translate(path, error, applied) from error


def translate(path: str, error: OSError, applied: Mapping[str, Entry] | None = None) -> StoreError:
    """What an OSError about `path` (empty: about the store) means to whoever asked.

    Errnos as open(2), write(2), rename(2) and fsync(2) list them. What is neither a missing
    right nor an impossible name may pass, so it is Unavailable.
    """
    cause = error.strerror or str(error)
    if not path and error.filename:
        cause = f"{error.filename}: {cause}"
    if error.errno in _DENIED:
        cause += "; check owner and mode, and whether the disk is mounted read-only"
        return AccessDenied(path, cause, applied=applied)
    if isinstance(error, files.NotAFile) or error.errno in _INVALID:
        cause += "; move what is in the way, or use another name"
        return Invalid(path, cause, applied=applied)
    cause += f"; {_REMEDIES.get(error.errno or 0, 'try again, and look at the disk')}"
    return Unavailable(path, cause, applied=applied)
