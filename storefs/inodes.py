"""The tree of names the kernel may know, and the inode table (lookup to forget).

An inode keeps its number from its first appearance until the kernel has forgotten it and no
handle is open; renaming moves it. A document's bytes live in the mirror; while a program
changes them they live in the inode's `edit`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

from storefs.errors import NoEntry

ROOT = 1
"""The number of the mount's root, fixed by FUSE."""


class Kind(Enum):
    """What an inode is."""

    DIRECTORY = auto()
    DOCUMENT = auto()
    LOCAL = auto()
    """A local file, or a kept copy below `.storefs/`: plain files on this machine's disk."""
    CONTROL = auto()
    """`.storefs/status`, `metrics` and `sync`."""


@dataclass(slots=True)
class Edit:
    """Bytes of a document that are shown instead of the mirror's, in shown form."""

    data: bytearray
    mtime_ns: int
    changed: bool = True
    """Not yet committed and not given up: these bytes may still go to the backend."""
    sequence: int = 0
    """Counts writes, so that a commit knows whether it sent the latest."""
    refused: int = -1
    """The sequence that a commit found empty or invalid: these bytes are scratch."""
    base: tuple[bytes, ...] = ()
    """Stored form of the version its writer knew, where that is not the present one."""
    told: bool = False
    """Whoever wrote these bytes was told by an errno that they do not stand."""
    scheduled: bool = False
    """A background commit is on its way (a truncate without a handle, a release)."""


@dataclass(slots=True, eq=False)
class Inode:
    """A file or directory. `path` is that of its name, also after the name is gone."""

    ino: int
    path: str
    kind: Kind
    children: dict[str, Inode] | None = None
    """Of a directory: name -> inode, in the order of arrival."""
    lookups: int = 0
    """References the kernel holds."""
    opens: int = 0
    """Open handles."""
    linked: bool = True
    """Whether `path` still names this inode."""
    installed: int = 0
    """The generation of the last remote change shown here."""
    edit: Edit | None = None
    fd: int = -1
    """Of a local file: its descriptor, while handles are open."""
    changed_ns: int = 0
    """Of a directory: when a name in it last came or went."""

    @property
    def name(self) -> str:
        """The last component of the path, empty for the root."""
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class Inodes:
    """The table and the tree. `top` is the path of the mount's root: empty, or a subdirectory."""

    top: str = ""
    root: Inode = field(init=False)
    _table: dict[int, Inode] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(ROOT + 1))

    def __post_init__(self) -> None:
        self.root = Inode(ROOT, self.top, Kind.DIRECTORY, {}, lookups=1)
        self._table[ROOT] = self.root

    def __len__(self) -> int:
        return len(self._table)

    def get(self, ino: int) -> Inode:
        """Raises NoEntry for a number that was forgotten."""
        try:
            return self._table[ino]
        except KeyError:
            raise NoEntry(f"inode {ino} is not known") from None

    def find(self, path: str) -> Inode | None:
        """The inode that `path` names, hidden directories included."""
        if path == self.top:
            return self.root
        rest = path.removeprefix(f"{self.top}/") if self.top else path
        inode: Inode | None = self.root
        for name in rest.split("/"):
            if inode is None or inode.children is None:
                return None
            inode = inode.children.get(name)
        return inode

    def join(self, directory: Inode, name: str) -> str:
        """The path of `name` in `directory`. `.storefs` is at the top whatever is mounted."""
        if not directory.path or (directory is self.root and name == ".storefs"):
            return name
        return f"{directory.path}/{name}"

    def add(self, directory: Inode, name: str, kind: Kind, path: str = "") -> Inode:
        """A new inode under a name that is free. `path`, if at hand, is shared and not made."""
        children: dict[str, Inode] | None = {} if kind is Kind.DIRECTORY else None
        inode = Inode(next(self._numbers), path or self.join(directory, name), kind, children)
        if children is not None:
            inode.changed_ns = time.time_ns()
        self._table[inode.ino] = inode
        assert directory.children is not None
        directory.children[name] = inode
        directory.changed_ns = time.time_ns()
        return inode

    def add_path(self, path: str, kind: Kind) -> Inode:
        """A new inode at `path`; missing directories above it are added."""
        rest = path.removeprefix(f"{self.top}/") if self.top else path
        *above, name = rest.split("/")
        directory = self.root
        for part in above:
            assert directory.children is not None
            below = directory.children.get(part)
            directory = below or self.add(directory, part, Kind.DIRECTORY)
        return self.add(directory, name, kind, path)

    def parent_of(self, inode: Inode) -> Inode:
        """The directory that holds a linked inode."""
        directory = self.find(inode.path.rpartition("/")[0] or self.top)
        if directory is None:
            raise NoEntry(f"{inode.path}: its directory is gone")
        return directory

    def unlink(self, inode: Inode) -> None:
        """Take the name away; the inode lives until it is forgotten and closed."""
        directory = self.parent_of(inode)
        assert directory.children is not None
        del directory.children[inode.name]
        directory.changed_ns = time.time_ns()
        inode.linked = False
        self.settle(inode)

    def move(self, inode: Inode, directory: Inode, name: str) -> None:
        """Give `inode` another, free name; paths below it follow."""
        source = self.parent_of(inode)
        assert source.children is not None
        assert directory.children is not None
        del source.children[inode.name]
        directory.children[name] = inode
        source.changed_ns = directory.changed_ns = time.time_ns()
        self._set_path(inode, self.join(directory, name))

    def _set_path(self, inode: Inode, path: str) -> None:
        inode.path = path
        for name, child in (inode.children or {}).items():
            self._set_path(child, f"{path}/{name}")

    def edited(self) -> list[Inode]:
        """The documents with bytes that a program wrote and nobody has sent or given up."""
        return [
            inode
            for inode in self._table.values()
            if inode.linked and inode.edit is not None and inode.edit.changed
        ]

    def forget(self, ino: int, lookups: int) -> None:
        """The kernel dropped that many references."""
        inode = self._table.get(ino)
        if inode is not None and inode is not self.root:
            inode.lookups -= lookups
            self.settle(inode)

    def settle(self, inode: Inode) -> None:
        """Drop an inode that has neither name nor references nor handles."""
        if not inode.linked and inode.lookups <= 0 and inode.opens == 0:
            self._table.pop(inode.ino, None)
            if inode.fd >= 0:
                os.close(inode.fd)
                inode.fd = -1
