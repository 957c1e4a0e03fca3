"""One mount: its tasks, and the order of start and stop."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
from typing import TYPE_CHECKING

import trio

from storefs import fuse
from storefs.errors import Exit, FileError, Quit, StoreError, Unavailable
from storefs.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from storefs.backends.contract import Backend
    from storefs.index import Index
    from storefs.inodes import Inode
    from storefs.mirror import Mirror
    from storefs.raising import Raiser
    from storefs.root import Root
    from storefs.settings import Settings

log = logging.getLogger(__name__)

_TICK = 0.5
"""Seconds between looks at what expires: scratch, deletes held back."""

_GIVE_UP = 2.0
"""Seconds for handlers to end once they are cancelled; only the local disk can hold them."""

_HANDLERS = 1000
"""Requests served at once; most of them only wait for the backend."""


class Mount:
    """One mount: the tasks that run its parts, from the first synchronisation to the end."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        root: Root,
        index: Index,
        mirror: Mirror,
        raiser: Raiser | None = None,
    ) -> None:
        """`raiser` stands in for the one that makes calls on a kernel mount."""
        self._settings, self._root, self._index = settings, root, index
        self._ended = trio.Event()
        self._told = trio.Event()
        self._due = trio.Event()
        """Something in the documents is shown for a limited time."""
        self._starting = trio.CancelScope()
        self._serving = trio.CancelScope()
        self.stack = Stack(settings, backend, root, mirror, self._commit_later, raiser)
        self.stack.documents.on_due = self._look_later

    def _look_later(self) -> None:
        self._due.set()

    def _commit_later(self, inode: Inode, seconds: float) -> None:
        self._nursery.start_soon(self._attempt, self.stack.scratch.commit_later, inode, seconds)

    def serve(self, ready: Callable[[str], None]) -> None:
        """Mount, serve until unmounted or told to stop. Raises Quit when it cannot start."""
        try:
            trio.run(self.run, ready)
        except ExceptionGroup as group:
            raise _only_quit(group) from None

    async def run(self, ready: Callable[[str], None]) -> None:
        """Everything from the first synchronisation to the last write."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._obey)
            await nursery.start(self.stack.store.run)
            gc.disable()  # it would look again and again at 100,000 objects that all stay
            try:
                await self.synchronise()
            finally:
                gc.enable()
            _tidy()
            self._mount()
            try:
                nursery.start_soon(self._serve_kernel)
                await trio.to_thread.run_sync(self.stack.raiser.start)
                outside = trio.CancelScope()
                nursery.start_soon(self._follow_outside, outside)
                nursery.start_soon(self._persist, self._expire)
                nursery.start_soon(self._persist, self.stack.sending.run)
                ready(self._announcement())
                await self._told.wait()
                outside.cancel()
                await self._stop()
            finally:
                fuse.unmount()
            nursery.cancel_scope.cancel()

    async def synchronise(self) -> None:
        """The first synchronisation; `store.run` must be running. Raises Quit."""
        first = self.stack.first_sync()
        try:
            with self._starting:
                self.stack.documents.pending.load()
                self.stack.documents.settling.load(self._index.superseded())
                await self._await_backend()
                await first.run(self._index.rows(), trio.current_time)
                await self.stack.refresh_config(trio.current_time() + self._settings.deadline)
        except StoreError as error:
            self._root.abandon()
            identity = self.stack.store.backend.identity
            raise Quit(Exit.UNREACHABLE, f"{identity} cannot be read: {error}") from None
        if self._starting.cancelled_caught:
            self._root.abandon()
            raise Quit(Exit.FAILED, "told to end before the mount was made")

    async def _await_backend(self) -> None:
        """Let a backend that starts with this machine come up, for as long as `--wait` says."""
        until = trio.current_time() + self._settings.wait
        while trio.current_time() < until:
            try:
                await self.stack.store.snapshot()
            except Unavailable as error:
                log.info("%s: waiting for it: %s", self.stack.store.backend.identity, error)
                await trio.sleep(min(_TICK, until - trio.current_time()))
            else:
                return

    def _mount(self) -> None:
        settings = self._settings
        uid, gid = settings.owner or (os.getuid(), os.getgid())
        operations = fuse.Operations(self.stack.vfs, uid, gid)
        try:
            fuse.mount(operations, settings.mountpoint, allow_other=settings.allow_other)
        except RuntimeError as error:
            raise Quit(
                Exit.MOUNT_POINT, f"{settings.mountpoint}: the kernel mount failed: {error}"
            ) from None

    def _announcement(self) -> str:
        settings = self._settings
        return (
            f"{self.stack.store.backend.identity} is mounted at {settings.mountpoint}\n"
            f"mirror and log of this machine: {self._root.path}"
        )

    async def _serve_kernel(self) -> None:
        try:
            with self._serving:
                store = self.stack.store
                await fuse.serve(_HANDLERS, self._settings.spin / 1e6, lambda: store.busy)
        except* ConnectionAbortedError:  # instead of a clean end, where a message was on its way
            log.info("the kernel mount was taken away")
        finally:
            self._ended.set()
            self._told.set()

    async def _follow_outside(self, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._persist, self.stack.reconcile.run)
                nursery.start_soon(self._persist, self.stack.reconcile.show)
                if self.stack.store.watched:
                    nursery.start_soon(self._persist, self.stack.reconcile.watch)

    async def _persist(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever: a fault in it is logged, and must not end the mount."""
        while True:
            try:
                await task()
            except Exception:
                log.exception("an unexpected fault; it is tried again")
                self.stack.documents.marks.mark_everything()
                await trio.sleep(_TICK)

    async def _attempt(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task once: what it did not expect is logged, and must not end the mount."""
        try:
            await task(*args)
        except Exception:
            log.exception("an unexpected fault in the background")

    async def _expire(self) -> None:
        """Scratch that nobody made valid, and deletes whose name did not return."""
        documents = self.stack.documents
        while True:
            await self._due.wait()
            self._due = trio.Event()
            while documents.scratch or documents.held_back:
                await trio.sleep(_TICK)
                await self.stack.scratch.expire()
                for path in self.stack.renames.due():
                    seconds = self._settings.deadline
                    self._nursery.start_soon(
                        self._attempt, self.stack.renames.let_go, path, seconds
                    )

    async def _obey(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Signals, from before the first synchronisation to the last write.

        One that nobody awaits kills: before the mount serves, and while it stops.
        """
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self.stack.documents.marks.mark_everything()
                else:
                    log.info("%s: ending the mount", signal.Signals(number).name)
                    self._told.set()
                    self._starting.cancel()

    async def _stop(self) -> None:
        """Nothing new is raised; what programs wrote goes out; then the kernel mount ends."""
        deadline = self._settings.deadline
        await trio.to_thread.run_sync(self.stack.raiser.stop, deadline + 1, abandon_on_cancel=True)
        with trio.move_on_after(self._settings.stop_timeout) as sending:
            await self.send_changes()
        if sending.cancelled_caught:
            await self._keep_changes()
        if left := len(self.stack.documents.pending):
            log.warning("%d changes are not sent: the next start of this mount sends them", left)
        fuse.terminate()
        with trio.move_on_after(deadline + 1):
            await self._ended.wait()
        # Whoever still waits is given up before the session is destroyed: an answer after that
        # would go to freed memory.
        self._serving.cancel()
        with trio.move_on_after(_GIVE_UP):
            await self._ended.wait()

    async def send_changes(self) -> None:
        """What programs wrote goes out, or becomes a conflict copy."""
        for inode in self.stack.documents.inodes.edited():
            deadline = trio.current_time() + self._settings.deadline
            try:
                await self.stack.committer.flush(inode, deadline)
            except (FileError, OSError) as error:
                log.warning("%s", error)
            await self.stack.scratch.give_up(inode)
        for path in list(self.stack.documents.held_back):
            await self.stack.renames.let_go(path, self._settings.deadline)
        await self.stack.sending.drain()

    async def _keep_changes(self) -> None:
        """What could not be sent in time becomes a conflict copy."""
        for inode in self.stack.documents.inodes.edited():
            await self.stack.scratch.give_up(inode)


def _tidy() -> None:
    """Once, between the first synchronisation and the mount: what was begun stays.

    The collector need not look at 100,000 documents again each time, and the C library gives
    back what it keeps for more of the same (measured: a sixth of the whole).
    """
    gc.collect()
    gc.freeze()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc has it
        trim(0)


def _only_quit(group: ExceptionGroup) -> Exception:
    """The one Quit of a nursery; anything else comes as it is.

    Not by `except*`: what is raised in there becomes a group again.
    """
    leaf: Exception = group
    while isinstance(leaf, ExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    return leaf if isinstance(leaf, Quit) else group
