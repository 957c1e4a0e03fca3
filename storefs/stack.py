"""The parts of one mount, put together: who knows whom, without a task or a kernel.

`mount` runs it over the kernel; the tests that need no kernel drive its parts themselves.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from storefs import fuse
from storefs.admission import Admission
from storefs.arrivals import Arrivals
from storefs.commit import Committer
from storefs.control import Control
from storefs.documents import ConfigView, Documents
from storefs.firstconfig import first_config
from storefs.firstsync import FirstSync
from storefs.generations import Generations
from storefs.handles import Handles
from storefs.inodes import Inodes
from storefs.inspection import Inspection
from storefs.kept import Kept, Place
from storefs.localfiles import LocalFiles
from storefs.locks import PathLocks
from storefs.marks import Marks
from storefs.names import Names
from storefs.outgoing import Outgoing
from storefs.pending import PendingChanges
from storefs.raising import Raiser
from storefs.reconcile import Reconcile
from storefs.recovery import Recovery
from storefs.refresh import Refresh
from storefs.removals import Removals
from storefs.rename import Renames
from storefs.report import Report
from storefs.scratch import Scratch
from storefs.sending import Sending
from storefs.settling import Settling
from storefs.store import Store
from storefs.template import Template
from storefs.versions import Versions
from storefs.vfs import Vfs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from storefs.backends.contract import Backend
    from storefs.inodes import Inode
    from storefs.mirror import Mirror
    from storefs.root import Root
    from storefs.settings import Settings


class Stack:
    """Everything between the backend and the kernel. What is public is driven from outside."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        root: Root,
        mirror: Mirror,
        commit_later: Callable[[Inode, float], None],
        raiser: Raiser | None = None,
    ) -> None:
        """`commit_later` has an inode's bytes committed in the background, after some seconds;
        `raiser` stands in for the one that makes calls on a kernel mount."""
        self._settings, self._root = settings, root
        self.store = Store(backend, settings.deadline)
        self.raiser = raiser or Raiser(settings.mountpoint, settings.subdir, self._invalidate)
        self._read_only = settings.read_only or self.store.read_only
        file = settings.config_template
        self._template = Template(file, settings.env) if file else None
        self._inodes, self._local = Inodes(settings.subdir), LocalFiles(root.dir_fd)
        self.documents = self._documents(mirror)
        self.store.on_late = self.documents.marks.mark
        self.store.on_loss = self.documents.marks.mark_everything
        outgoing = Outgoing(
            self.store, self.documents,
            refuse=settings.offline == "refuse", behind=settings.commit == "behind",
        )  # fmt: skip
        self.committer = Committer(outgoing, self.documents, Kept(root.dir_fd))
        self.sending = Sending(self.committer, settings.deadline)
        outgoing.wake = self.store.on_return = self.sending.wake
        self.renames = Renames(self.committer, self._local)
        self.reconcile = self._reconcile()
        self.scratch = Scratch(self.documents, self.committer, commit_later, settings.deadline)
        self.vfs = self._vfs(self._control())

    def _invalidate(self, ino: int) -> None:
        """For the raiser: from here on nobody may read, and the kernel cache, what stood before."""
        self.documents.former.pop(ino, None)
        fuse.invalidate(ino)

    def _documents(self, mirror: Mirror) -> Documents:
        settings = self._settings
        shown = settings.auth_dir or str(settings.mountpoint / "auths")
        return Documents(
            mirror, self._inodes, Handles(), Generations(), Marks(), PathLocks(),
            ConfigView(None if settings.auth_dir == "keep" else shown),
            PendingChanges(self._root.dir_fd), settings.max_file_size, Settling(mirror.supersede),
        )  # fmt: skip

    def _reconcile(self) -> Reconcile:
        settings = self._settings
        admission = Admission(settings.subdir, settings.max_file_size)
        removals = Removals(self.store, self.documents, self.raiser)
        arrivals = Arrivals(
            self.documents, self.committer.kept, admission, self.raiser, removals, self._local
        )
        interval = settings.snapshot_interval if self.store.watched else settings.poll_interval
        return Reconcile(self.store, self.documents, admission, removals, arrivals, interval)

    def _control(self) -> Control:
        settings = self._settings
        report = Report(
            settings, self._root.path, self.store, self.committer, self.renames, self.reconcile,
            self._inodes, self.documents.handles,
        )  # fmt: skip
        recovery = Recovery(self.committer, self.raiser, settings.deadline, self._read_only)
        orders: dict[str, Callable[[str, str], Awaitable[None]]] = {
            "take": recovery.take,
            "take-trash": partial(recovery.take, place=Place.TRASH),
            "adopt": recovery.adopt,
        }
        versions = Versions(self.store, self._inodes, recovery)
        answers = {
            "log": versions.log,
            "restore": versions.restore,
            "only-in-backup": versions.only_in_backup,
            "backend": Inspection(self.store).backend,
        }
        return Control(self._inodes, self._root.dir_fd, report.status, self._sync, orders, answers)

    def _vfs(self, control: Control) -> Vfs:
        settings = self._settings
        names = Names(
            self._inodes, self.documents, self.committer, self.renames, self._local, control,
            self.raiser, self._read_only, min(settings.dir_wait, settings.deadline),
        )  # fmt: skip
        return Vfs(
            self._inodes, self.documents.handles, self.documents, self.committer, self.sending,
            self._local, control, names, self.scratch, settings.deadline,
        )  # fmt: skip

    def first_sync(self) -> FirstSync:
        """What brings mirror, index and tree to the backend's state before the mount is made."""
        settings = self._settings
        makes_config = settings.subdir != "auths" and not self._read_only
        return FirstSync(
            self.store, self.documents, self.committer, self.reconcile.admission,
            self.reconcile.removals.vanishing, self._root.dir_fd,
            self._root.fresh and not self._read_only,
            partial(first_config, settings.directory, self._template) if makes_config else None,
        )  # fmt: skip

    async def refresh_config(self, deadline: float) -> None:
        """Commit the config template where its filled text has changed, if that is wanted.

        After the first synchronisation. `deadline` is a trio time. Raises Quit.
        """
        settings = self._settings
        if self._template is None or settings.subdir == "auths" or self._read_only:
            return
        refresh = Refresh(
            self._template, settings.config_refresh, self.store, self.documents,
            self.committer.kept, self._root.dir_fd,
        )  # fmt: skip
        await refresh.run(deadline)

    async def _sync(self, accept_deletions: bool) -> None:
        """What a person asks for by `storefs sync`: what was refused is tried again as well."""
        self.documents.pending.retry()
        self.sending.wake()
        await self.reconcile.sync(accept_deletions)
