"""Documents in the trees of a Git repository: listing, looking up, building. No network.

Trees are built in memory and in the object database; there is no work tree and no index, so no
filter, line ending or mode of this machine can get into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pygit2
from pygit2.enums import FileMode

from storefs import paths
from storefs.backends.contract import Blob, Entry, Revision
from storefs.errors import Corrupt, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pygit2 import Object, Oid, Repository, Tree

_FILES = {FileMode.BLOB, FileMode.BLOB_EXECUTABLE}
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024
"""Bytes; see the specification of Git LFS."""

KEPT = ("auths/.gitkeep", "config/.gitkeep")
"""What the proxy's own store puts into an empty repository."""


class Sizes:
    """The sizes of blobs, and which of them stand for a content that is kept elsewhere."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        """By raw blob id; -1 for a Git LFS pointer."""

    def of(self, repository: Repository, oid: Oid) -> int:
        """Bytes, or -1 for a Git LFS pointer. Raises KeyError, pygit2.GitError."""
        found = self._known.get(oid.raw)
        if found is None:
            _, found = repository.odb.read_header(oid)
            if found < _LONGEST_POINTER and data(repository, oid).startswith(_POINTER):
                found = -1
            self._known[oid.raw] = found
        return found

    def keep(self, used: set[bytes]) -> None:
        """Forget all but these."""
        self._known = {raw: size for raw, size in self._known.items() if raw in used}


def data(repository: Repository, oid: Oid) -> bytes:
    """The bytes of a blob. Raises KeyError, pygit2.GitError."""
    _, content = repository.odb.read(oid)
    return content


def find(repository: Repository, tree: Tree | None, path: str) -> Object | None:
    """What lies at a path, None if nothing does. Raises KeyError where the clone has holes."""
    *above, name = path.split("/")
    for directory in above:
        # Not tree[path]: that says the same of a path that is absent and of a tree that is lost.
        if tree is None or directory not in tree:
            return None
        entry = tree[directory]
        tree = _as_tree(repository, entry) if entry.filemode == FileMode.TREE else None
    return tree[name] if tree is not None and name in tree else None


def document(
    repository: Repository, tree: Tree | None, path: str, sizes: Sizes
) -> Blob | str | None:
    """The document at a path, None where there is none, or why what is there is none.

    A directory is none. Raises KeyError, pygit2.GitError where the clone has holes.
    """
    entry = find(repository, tree, path)
    if entry is None or entry.filemode == FileMode.TREE:
        return None
    if reason := _why_not(repository, entry, sizes):
        return reason
    content = data(repository, entry.id)
    return Blob(content, Entry(Revision(str(entry.id)), len(content), 0))


def _why_not(repository: Repository, entry: Object, sizes: Sizes) -> str:
    """Why an entry that is no tree can be no document, empty if it can."""
    if entry.filemode == FileMode.LINK:
        return "it is a symbolic link"
    if entry.filemode == FileMode.COMMIT:
        return "it is a submodule"
    if sizes.of(repository, entry.id) < 0:
        return "it is a Git LFS pointer, whose content is not in the repository; git lfs migrate"
    return ""


def listing(
    repository: Repository, tree: Tree | None, sizes: Sizes, report: Callable[[str, str], None]
) -> dict[str, tuple[str, int]]:
    """Blob id and size of every document. `report` is told path and reason of what is left out.

    Raises Corrupt when `config` or `auths` is no directory: every document would look deleted.
    """
    found: dict[str, tuple[str, int]] = {}
    used: set[bytes] = set()

    def visit(directory: str, below: Tree) -> None:
        for entry in below:
            name = (entry.raw_name or b"").decode("utf-8", "surrogateescape")
            path = f"{directory}/{name}"
            is_tree = entry.filemode == FileMode.TREE
            if not paths.may_be_shared(f"{path}/x" if is_tree else path):
                continue
            try:
                paths.check_path(path)
            except paths.InvalidPath as error:
                report(path, str(error))
                continue
            if is_tree:
                visit(path, _as_tree(repository, entry))
            elif reason := _why_not(repository, entry, sizes):
                report(path, reason)
            else:
                used.add(entry.id.raw)
                found[path] = str(entry.id), sizes.of(repository, entry.id)

    for top in paths.SHARED:
        if (entry := find(repository, tree, top)) is not None:
            if entry.filemode != FileMode.TREE:
                raise Corrupt(top, "is no directory in the repository; make it one")
            visit(top, _as_tree(repository, entry))
    sizes.keep(used)
    return found


def build(repository: Repository, tree: Tree | None, changes: Mapping[str, Oid | None]) -> Oid:
    """The tree after `changes` (None: removed). Everything else stays as it is, modes included.

    Raises Invalid when something that is no document lies in the way.
    """
    return _built(repository, tree, "", changes).write()


def _built(
    repository: Repository, tree: Tree | None, above: str, changes: Mapping[str, Oid | None]
) -> pygit2.TreeBuilder:
    builder = repository.TreeBuilder(tree) if tree is not None else repository.TreeBuilder()
    below: dict[str, dict[str, Oid | None]] = {}
    for path, oid in changes.items():
        name, deeper, rest = path.partition("/")
        if deeper:
            below.setdefault(name, {})[rest] = oid
        elif oid is None and _mode(builder, name) in _FILES:
            builder.remove(name)
    for name, inner in below.items():
        _descend(repository, builder, f"{above}{name}/", inner)
    for path, oid in changes.items():
        if oid is not None and "/" not in path:
            mode = _mode(builder, path)
            if mode is not None and mode not in _FILES:
                raise Invalid(above + path, "in the repository something else has this name")
            builder.insert(path, oid, mode or FileMode.BLOB)
    return builder


def _descend(
    repository: Repository,
    builder: pygit2.TreeBuilder,
    directory: str,
    changes: Mapping[str, Oid | None],
) -> None:
    name = directory.rstrip("/").rpartition("/")[2]
    entry = builder.get(name)
    if entry is not None and entry.filemode != FileMode.TREE:
        if any(changes.values()):
            raise Invalid(directory.rstrip("/"), "is a file in the repository, not a directory")
        return
    old = _as_tree(repository, entry) if entry is not None else None
    inner = _built(repository, old, directory, changes)
    if len(inner):
        builder.insert(name, inner.write(), FileMode.TREE)
    elif entry is not None:
        builder.remove(name)


def _mode(builder: pygit2.TreeBuilder, name: str) -> FileMode | None:
    entry = builder.get(name)
    return None if entry is None else FileMode(entry.filemode)


def _as_tree(repository: Repository, entry: Object) -> Tree:
    tree = repository[entry.id]
    assert isinstance(tree, pygit2.Tree)
    return tree


def initial(repository: Repository) -> Oid:
    """The tree with which the proxy's own store begins."""
    empty = repository.create_blob(b"")
    return build(repository, None, dict.fromkeys(KEPT, empty))


def is_complete(repository: Repository, oid: Oid) -> bool:
    """Whether a commit is here with all its trees and blobs; contents are not looked at."""
    commit = repository.get(oid)
    return isinstance(commit, pygit2.Commit) and _has_all(repository, commit.tree_id)


def _has_all(repository: Repository, oid: Oid) -> bool:
    tree = repository.get(oid)
    if not isinstance(tree, pygit2.Tree):
        return False
    for entry in tree:
        if entry.filemode == FileMode.TREE:
            if not _has_all(repository, entry.id):
                return False
        elif entry.filemode != FileMode.COMMIT and not repository.odb.exists(entry.id):
            return False
    return True
