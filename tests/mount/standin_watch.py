"""The stand-in's watcher: the proxy's two watches and what it makes of them. Writes nothing.

Three threads share a Belief under its one condition: the event loop (serial, with the proxy's own
50 ms pauses), the debounced reload of the config, and the caller's. No lock is held in a file call.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from inotify_simple import (  # type: ignore[import-untyped, unused-ignore]
    INotify,
    flags,
    parse_events,
)

from tests.mount.standin_belief import completeness, digest, document_of, loads_as_config
from tests.mount.standin_files import read_file

if TYPE_CHECKING:
    from inotify_simple import Event

    from tests.mount.standin_belief import Belief

MASK = (
    flags.MODIFY
    | flags.ATTRIB
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.CREATE
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
)
_GONE = flags.DELETE | flags.MOVED_FROM
_CHANGED = flags.CREATE | flags.MOVED_TO | flags.MODIFY
_CONFIG_CHANGED = _CHANGED | flags.MOVED_FROM | flags.MOVE_SELF
_BUFFER = 65536
_REPLACE_CHECK = 0.05
_REMOVE_WINDOW = 1.0
_CONFIG_DEBOUNCE = 0.15


class Watcher:
    """Loads everything once, then believes what events tell it to read again, and nothing else."""

    def __init__(self, config: str, auths: str, belief: Belief) -> None:
        self._config, self._auths, self._belief = config, auths, belief
        self._inotify = INotify()
        self._watches: dict[int, str] = {}
        self._labels: dict[int, str] = {}
        # Of what the watcher read, not of what the proxy wrote: its own save may differ from both.
        self._hashes: dict[str, str] = {}
        self._config_hash = ""
        self._met: set[str] = set()
        self._removed: dict[str, float] = {}
        self._due: float | None = None
        self._busy = self._reloading = False

    def start(self) -> None:
        """As the proxy starts: config, all of auths, both watches, then the top level once more."""
        data = read_file(self._config)
        if not loads_as_config(data):
            raise OSError(errno.EINVAL, "the config does not parse")
        with self._belief.change():
            self._belief.config = data
        self._load_tree()
        for label, path in (("config", self._config), ("auths", self._auths)):
            wd = self._inotify.add_watch(path, MASK)
            self._watches[wd] = self._labels[wd] = label
            with self._belief.change():
                self._belief.alive[label] = True
        self._scan()
        for loop in (self._event_loop, self._reload_loop):
            threading.Thread(target=loop, daemon=True).start()

    def settle(self, timeout: float) -> bool:
        """Waits until no event is queued, none in work and no reload due; False if it never is."""
        with self._belief.condition:
            return self._belief.condition.wait_for(self._idle, timeout)

    def _idle(self) -> bool:
        queued = fcntl.ioctl(self._inotify.fileno(), termios.FIONREAD, bytes(4))
        working = self._busy or self._reloading or self._due is not None
        return not working and struct.unpack("i", queued) == (0,)

    def _load_tree(self) -> None:
        for root, directories, files in os.walk(self._auths):
            directories.sort()
            for file in sorted(files):
                if file.lower().endswith(".json"):
                    self._load(os.path.relpath(os.path.join(root, file), self._auths))

    def _scan(self) -> None:
        with os.scandir(self._auths) as entries:
            found = sorted(e.name for e in entries if not e.is_dir(follow_symlinks=False))
        for name in found:
            if name.lower().endswith(".json") and (data := self._load(name)):
                self._hashes[name] = digest(data)

    def _load(self, name: str) -> bytes | None:
        data = self._read(name)
        if data and (document := document_of(data)) is not None:
            with self._belief.change():
                self._belief.credentials[name] = (digest(data), document)
        return data

    def _event_loop(self) -> None:
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        while True:
            poll.poll()
            with self._belief.condition:
                events = parse_events(os.read(self._inotify.fileno(), _BUFFER))
                self._busy = True
            for event in events:
                self._handle(event)
            with self._belief.change():
                self._busy = False

    def _handle(self, event: Event) -> None:
        """One event, to its end; only then it is counted."""
        outcome = self._outcome(event)
        label = self._labels.get(event.wd, "queue")
        with self._belief.change():
            for flag in flags.from_mask(event.mask & ~flags.ISDIR):
                self._belief.counts[f"{label}.{flag.name}"] += 1
            if outcome:
                self._belief.outcomes[outcome] += 1
            if event.mask & flags.Q_OVERFLOW:
                self._belief.overflows += 1
            self._belief.alive = {w: w in self._watches.values() for w in self._belief.alive}

    def _outcome(self, event: Event) -> str:
        label = self._watches.get(event.wd)
        if event.mask & (flags.IGNORED | flags.UNMOUNT | flags.DELETE_SELF | flags.MOVE_SELF):
            self._watches.pop(event.wd, None)  # for ever: the proxy never watches again
            if label and event.mask & flags.MOVE_SELF:
                with suppress(OSError):
                    self._inotify.rm_watch(event.wd)
        if label == "config" and event.mask & _CONFIG_CHANGED:
            with self._belief.change():
                self._due = time.monotonic() + _CONFIG_DEBOUNCE
        elif label == "auths" and event.name.endswith(".json"):
            if event.mask & _GONE:
                return self._gone(event.name)
            if event.mask & _CHANGED:
                return self._changed(event.name)
        return ""

    def _gone(self, name: str) -> str:
        now = time.monotonic()
        if now - self._removed.get(name, -_REMOVE_WINDOW) < _REMOVE_WINDOW:
            return "debounced"
        self._removed[name] = now
        time.sleep(_REPLACE_CHECK)
        if os.path.exists(os.path.join(self._auths, name)):
            return self._changed(name)
        self._met.discard(name)
        if self._hashes.pop(name, None) is None:
            return "unknown"
        with self._belief.change():
            self._belief.credentials.pop(name, None)
        return "removed"

    def _changed(self, name: str) -> str:
        """Read to compare, read again to load; each read is judged, the second one believed."""
        data = self._read(name)
        if data is not None and name not in self._hashes and name not in self._met:
            self._met.add(name)
            with self._belief.change():
                self._belief.first_reads[name] = completeness(data)
        if data and self._hashes.get(name) == digest(data):
            return "unchanged"
        data = self._read(name)
        if not data:
            return "unreadable" if data is None else "empty"
        document = document_of(data)
        if document is None:
            return "refused"
        if self._hashes.get(name) == digest(data):
            return "unchanged"
        self._hashes[name] = digest(data)
        with self._belief.change():
            self._belief.credentials[name] = (digest(data), document)
        return "updated"

    def _read(self, name: str) -> bytes | None:
        try:
            data = read_file(os.path.join(self._auths, name))
        except OSError as error:
            self._note(error)
            return None
        if completeness(data) == "torn":
            with self._belief.change():
                self._belief.incomplete += 1
        return data

    def _note(self, error: OSError) -> None:
        with self._belief.change():
            self._belief.errors[errno.errorcode.get(error.errno or 0, str(error))] += 1

    def _reload_loop(self) -> None:
        condition = self._belief.condition
        while True:
            with condition:
                condition.wait_for(lambda: self._due is not None)
                while self._due is not None and (left := self._due - time.monotonic()) > 0:
                    condition.wait(left)
                self._due, self._reloading = None, True
            outcome = self._reload()
            with self._belief.change():
                self._reloading = False
                self._belief.outcomes[f"config.{outcome}"] += 1

    def _reload(self) -> str:
        """Read to compare, read again to load, as `_changed` does."""
        try:
            data = read_file(self._config)
            if not data:
                return "empty"
            if self._config_hash == digest(data):
                return "unchanged"
            data = read_file(self._config)
        except OSError as error:
            self._note(error)
            return "unreadable"
        if not data:
            # Its own save, between truncate and write: on any file system the proxy would believe
            # in an empty config now, and save that. No test is about it.
            return "empty"
        if not loads_as_config(data):
            return "refused"
        self._config_hash = digest(data)
        with self._belief.change():
            self._belief.config = data
        return "updated"
