"""The extended attributes: what becomes of a document's bytes, told beside the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.errors import NoAttribute
from storefs.inodes import Kind

if TYPE_CHECKING:
    from storefs.documents import Documents
    from storefs.inodes import Inode

_STATE, _REVISION, _ERROR = "user.storefs.state", "user.storefs.revision", "user.storefs.error"


def names(inode: Inode) -> tuple[str, ...]:
    """Those that an inode has."""
    return (_STATE, _REVISION, _ERROR) if inode.kind in (Kind.DOCUMENT, Kind.LOCAL) else ()


def value(inode: Inode, name: str, documents: Documents, unreachable: str) -> bytes:
    """One of them. `unreachable`: why the backend does not answer, empty while it does.

    Raises NoAttribute.
    """
    if name not in names(inode):
        raise NoAttribute(f"{inode.path}: {name}")
    if name == _REVISION:
        return (documents.expect(inode.path) or "").encode()
    if inode.kind is Kind.LOCAL:
        return b"local" if name == _STATE else b""
    return _state(inode, documents) if name == _STATE else _error(inode, documents, unreachable)


def _state(inode: Inode, documents: Documents) -> bytes:
    if _invalid(inode):
        return b"invalid"
    if (waits := documents.pending.get(inode.path)) is not None:
        return b"refused" if waits.refused else b"pending"
    return b"pending" if inode.edit is not None and inode.edit.changed else b"synced"


def _error(inode: Inode, documents: Documents, unreachable: str) -> bytes:
    if (waits := documents.pending.get(inode.path)) is not None:
        return (waits.refused or unreachable).encode()
    return b"empty or invalid, not sent" if _invalid(inode) else b""


def _invalid(inode: Inode) -> bool:
    edit = inode.edit
    if edit is None or not edit.changed:
        return False
    return edit.refused == edit.sequence or not edit.data  # made, and never written
