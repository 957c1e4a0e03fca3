"""What the stand-in believes: its credentials, its config, and what its watcher has been through.

One condition guards it all; `version` grows with every change. No file is touched here.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from tests.mount.standin_files import parse

if TYPE_CHECKING:
    from collections.abc import Iterator


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def loads_as_config(data: bytes) -> bool:
    """Whether the proxy would accept it: YAML that is a mapping, or nothing but comments."""
    try:
        node = yaml.compose(data.decode("utf-8", "replace"), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return False
    return node is None or isinstance(node, yaml.MappingNode)


def document_of(data: bytes) -> dict[str, Any] | None:
    """The JSON object in it, None where the proxy would drop it."""
    try:
        value = parse(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def completeness(data: bytes) -> str:
    try:
        parse(data)
    except ValueError:
        return "torn" if data else "empty"
    return "complete"


class Belief:
    """The proxy's memory: credentials, config, and what the watcher has been through."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.version = 0
        self.credentials: dict[str, tuple[str, Any]] = {}
        self.config = b""
        self.counts: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.first_reads: dict[str, str] = {}
        self.incomplete = self.overflows = 0
        self.alive = {"config": False, "auths": False}

    @contextmanager
    def change(self) -> Iterator[None]:
        """Around every change: whoever waits for a newer version looks again."""
        with self.condition:
            yield
            self.version += 1
            self.condition.notify_all()

    def report(self) -> dict[str, Any]:
        with self.condition:
            return {
                "version": self.version,
                "credentials": dict(self.credentials),
                "config_sha256": digest(self.config),
                "config_text": self.config.decode("utf-8", "backslashreplace"),
                "counts": dict(self.counts),
                "outcomes": dict(self.outcomes),
                "errors": dict(self.errors),
                "first_reads": dict(self.first_reads),
                "incomplete": self.incomplete,
                "overflows": self.overflows,
                "config_watch_alive": self.alive["config"],
                "auth_watch_alive": self.alive["auths"],
            }
