"""The tree of names at start: what the mirror holds, and what else lies beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs import disk
from storefs.inodes import Kind
from storefs.paths import SHARED, ancestors, parent

if TYPE_CHECKING:
    from storefs.admission import Admission
    from storefs.documents import Documents
    from storefs.survey import Survey


def grow(documents: Documents, survey: Survey, admission: Admission) -> None:
    """Give every document, directory and local file its inode; a file wins over deeper names.

    What loses leaves the mirror and is told as skipped. Raises OSError.
    """
    inodes, records = documents.inodes, documents.mirror.records
    for top in SHARED:
        disk.make_directory(survey.dir_fd, top)
        if not inodes.top:
            inodes.add_path(top, Kind.DIRECTORY)
    blocking: dict[str, str] = {}  # of a directory, the file that has its name or one above
    for path in sorted(records):
        if (above := parent(path)) not in blocking:
            blocking[above] = next((name for name in ancestors(path) if name in records), "")
        if blocking[above]:
            admission.skip(path, f"{blocking[above]} is a file")
            documents.mirror.drop(path)
        else:
            inodes.add_path(path, Kind.DOCUMENT)
    for path in sorted(survey.directories):
        if inodes.find(path) is None:
            inodes.add_path(path, Kind.DIRECTORY)
    for path in sorted(survey.locals):
        if inodes.find(path) is None:
            inodes.add_path(path, Kind.LOCAL)
