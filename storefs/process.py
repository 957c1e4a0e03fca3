"""The composition root: what a mount stands on, made in order, and undone in the reverse one."""

from __future__ import annotations

import faulthandler
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from storefs import logs
from storefs.backends import connect_or_wait
from storefs.errors import Exit, Quit, StoreError
from storefs.index import Index
from storefs.mirror import Mirror
from storefs.mount import Mount
from storefs.movein import move_in
from storefs.root import open_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Backend
    from storefs.root import Root
    from storefs.settings import Settings


def serve(settings: Settings, ready: Callable[[str], None]) -> Exit:
    """Mount, serve until unmounted or told to stop, and leave everything on disk.

    Calls `ready` once, after the kernel mount was made over a complete tree. Raises Quit when
    it cannot start.
    """
    try:
        backend = connect_or_wait(settings)
    except StoreError as error:
        raise Quit(Exit.UNREACHABLE, f"{settings.backend}: {error}") from None
    return serve_backend(settings, backend, ready)


def serve_backend(settings: Settings, backend: Backend, ready: Callable[[str], None]) -> Exit:
    """`serve` over a backend that is open already; closes it."""
    with ExitStack() as undo:
        undo.callback(backend.close)
        faulthandler.register(signal.SIGUSR1)
        root = open_root(settings, backend.identity)
        undo.callback(root.close)
        logs.open_log(root.path)
        moved = _moved_in(settings, backend, root)
        index = Index(root.path / ".storefs" / "index.sqlite", expected=not root.fresh)
        mirror = Mirror(root.dir_fd, index, settings.cache_size)
        undo.callback(mirror.close)
        mount = Mount(settings, backend, root, index, mirror)
        undo.callback(mount.stack.committer.kept.close)
        undo.callback(mount.stack.documents.pending.close)
        mount.serve(lambda text: ready(f"{text}\n{moved}" if moved else text))
    return Exit.DONE


def _moved_in(settings: Settings, backend: Backend, root: Root) -> str:
    """What `move_in` says. Raises Quit; then the root is as if it had not been opened."""
    if not settings.move_in:
        return ""
    try:
        return move_in(settings, backend, root)
    except Quit:
        root.abandon()
        raise
