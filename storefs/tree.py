"""The tree of names at start: what the mirror holds, and what else lies beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs import disk
from storefs.inodes import Kind
from storefs.paths import SHARED, ancestors, parent

if TYPE_CHECKING:
    from storefs.survey import Survey


def grow(survey: Survey) -> None:
    """Give every document, directory and local file its inode; a file wins over deeper names.

    What loses leaves the mirror and is told as skipped. Raises OSError.
    """
    mirror, inodes = survey.documents.mirror, survey.documents.inodes
    records = mirror.records
    for top in SHARED:
        disk.make_directory(survey.dir_fd, top)
        if not inodes.top:
            inodes.add_path(top, Kind.DIRECTORY)
    blocking: dict[str, str] = {}  # of a directory, the file that has its name or one above
    for path in sorted(records):
        if (above := parent(path)) not in blocking:
            blocking[above] = next((name for name in ancestors(path) if name in records), "")
        if blocking[above]:
            survey.admission.skip(path, f"{blocking[above]} is a file")
            mirror.drop(path)
        else:
            inodes.add_path(path, Kind.DOCUMENT)
    for path in sorted(survey.directories):
        if inodes.find(path) is None:
            inodes.add_path(path, Kind.DIRECTORY)
    for path in sorted(survey.locals):
        if inodes.find(path) is None:
            inodes.add_path(path, Kind.LOCAL)
