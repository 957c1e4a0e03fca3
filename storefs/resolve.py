"""The conflict rules: what becomes of a change when the backend holds something else. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.merge import NotMerged, merge, only_tokens_changed
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from storefs.backends.contract import Blob, Revision


@dataclass(frozen=True, slots=True)
class Again:
    """Send `data` (None: a delete) on `expect`; `lost` is then kept as a conflict copy."""

    data: bytes | None
    expect: Revision | None
    lost: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stands:
    """The backend's version stands; `lost`, if not None, becomes a conflict copy."""

    lost: bytes | None = None
    refused: bool = False
    """Rule 4: whoever wrote must be told."""


def resolve(
    path: str,
    base: bytes | None,
    ours: bytes | None,
    current: Blob | None,
    *,
    now: float,
    too_old: bool = False,
    own: bool = False,
) -> Again | Stands:
    """Rules 0 to 4 for the change from `base` to `ours` (None: absent), in stored form.

    `too_old`: it waited so long that it never goes over what changed meanwhile. `own`: what the
    backend holds, or lacks, is an earlier change of this machine, whose answer got lost. `now`:
    unix seconds.
    """
    if own and ours != (current.data if current else None):
        return Again(ours, current.entry.revision if current else None)
    if current is None:
        return _deleted_there(path, base, ours, too_old=too_old)
    revision, theirs = current.entry.revision, current.data
    if base is not None and theirs == base:
        return Again(ours, revision)
    if ours is None:
        return Stands()
    if ours == theirs:
        return Stands()
    if too_old:
        return Stands(ours, refused=True)
    try:
        merged = merge(path, base, ours, theirs, now=now)
    except NotMerged:
        return Stands(ours, refused=True)
    if merged.data == theirs:
        return Stands(ours if merged.ours_lost else None)
    lost = ours if merged.ours_lost else theirs if merged.theirs_lost else None
    return Again(merged.data, revision, lost)


def _deleted_there(
    path: str, base: bytes | None, ours: bytes | None, *, too_old: bool
) -> Again | Stands:
    if ours is None:
        return Stands()
    # config.yaml that vanished is restored; and a refresh of tokens is nobody's decision.
    if base is None or path == CONFIG:
        return Again(ours, None)
    if too_old or only_tokens_changed(path, base, ours):
        return Stands(ours, refused=True)
    return Again(ours, None)
