"""How tests drive the stand-in for the proxy: a process, its commands, its belief. No FUSE here.

A command whose file call failed raises the OSError with that errno, although the proxy itself would
swallow it. Methods may be called from several threads; they take turns.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.mount.standin_belief import document_of
from tests.mount.standin_files import same_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]
ANSWER_WITHIN = 60.0
"""Seconds until a stand-in that does not answer counts as hung (in a file call, most likely)."""

_LOOK_AGAIN = 0.25


class StandInFailed(Exception):
    """The stand-in died, hung or did not understand; the message holds its stderr."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One remembered credential: the digest of the bytes it came from, and its JSON."""

    sha256: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Belief:
    """What the stand-in believed at one moment; every handled event makes a new version."""

    version: int
    credentials: Mapping[str, Credential]
    config_sha256: str
    config_text: str
    config_watch_alive: bool
    auth_watch_alive: bool
    counts: Mapping[str, int]
    """Events handled, by `auths.CREATE`, `config.MODIFY`, …"""
    outcomes: Mapping[str, int]
    """What became of them: updated, unchanged, empty, refused, unreadable, removed, debounced,
    unknown; the config's as `config.updated`, …"""
    errors: Mapping[str, int]
    """Failed reads of the watcher, by errno name."""
    first_reads: Mapping[str, str]
    """Of each name new to the watcher: complete, empty or torn."""
    incomplete: int
    overflows: int


class StandIn:
    """A running stand-in; enter to start it, which returns when both watches are in place."""

    def __init__(self, config: Path, auth_dir: Path, user: tuple[int, int] | None = None) -> None:
        """`user` is the uid and gid to run as, without other groups."""
        self.config, self.auth_dir = config, auth_dir
        self._user = user
        self._turn = threading.Lock()
        self._unread = b""

    def __enter__(self) -> Self:
        uid, gid = self._user or (None, None)
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mount.standin", self.config, self.auth_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            user=uid,
            group=gid,
            extra_groups=None if self._user is None else [],
            umask=0o022,
        )
        try:
            _checked("start", self._answer())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process.poll() is None:
                self._ask("quit")
            elif self._process.returncode != -signal.SIGKILL:
                raise StandInFailed(f"died\n{self._complaints()}")
        finally:
            self._stop()

    def kill(self) -> None:
        """SIGKILL, as a crash of the proxy."""
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def belief(self) -> Belief:
        return _belief(self._ask("belief"))

    def wait_until(self, predicate: Callable[[Belief], bool], deadline: float = 10.0) -> Belief:
        """The first belief seen that fulfils it; AssertionError with a comparison if none does."""
        end = time.monotonic() + deadline
        belief = self.belief()
        while not predicate(belief):
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(self._explain(belief, deadline))
            pause = min(left, _LOOK_AGAIN)  # what is on disk may change without an event
            belief = _belief(self._ask("wait", version=belief.version, timeout=pause))
        return belief

    def settle(self, deadline: float = 10.0) -> Belief:
        """Waits until every event that has been raised is handled, the config's reload included."""
        if not self._ask("settle", timeout=deadline)["idle"]:
            raise AssertionError(f"events without end\n{self._explain(self.belief(), deadline)}")
        return self.belief()

    def agrees_with(self, auth_dir: Path, config: Path) -> str:
        """Every difference between the belief and these files, '' if there is none."""
        return differences(self.belief(), auth_dir, config)

    def save_token(self, name: str, metadata: Mapping[str, Any]) -> None:
        self._ask("save_token", name=name, metadata=metadata)

    def save_from_memory(self, name: str, **change: Any) -> None:
        self._ask("save_from_memory", name=name, change=change)

    def login(self, name: str, metadata: Mapping[str, Any]) -> None:
        self._ask("login", name=name, metadata=metadata)

    def upload(self, name: str, data: bytes) -> bool:
        """Whether the bytes were a JSON object, and so saved a second time, canonically."""
        reply = self._ask("upload", name=name, data=base64.b64encode(data).decode())
        return bool(reply["registered"])

    def delete(self, name: str) -> None:
        self._ask("delete", name=name)

    def save_config(self, field: str, value: str) -> None:
        self._ask("save_config", field=field, value=value)

    def save_config_from_memory(self, field: str | None = None, value: str = "") -> None:
        self._ask("save_config_from_memory", field=field, value=value)

    def put_config(self, text: str) -> None:
        self._ask("put_config", text=text)

    def cooldown(self, name: str, record: Mapping[str, Any]) -> str:
        """The name of the `.cds` file."""
        return str(self._ask("cooldown", name=name, record=record)["name"])

    def oauth(self, provider: str, state: str, payload: str) -> str:
        """What the poller read, if all is well `payload`."""
        reply = self._ask("oauth", provider=provider, state=state, payload=payload)
        return str(reply["payload"])

    def append_log(self, *lines: str) -> None:
        self._ask("append_log", lines=lines)

    def rotate_log(self) -> str:
        """The name that the old log has now."""
        return str(self._ask("rotate_log")["backup"])

    def read(self, path: str | Path) -> bytes:
        """One read as Go reads; a relative path lies below the auth directory."""
        return base64.b64decode(self._ask("read", path=str(path))["data"])

    def _explain(self, belief: Belief, deadline: float) -> str:
        found = differences(belief, self.auth_dir, self.config) or "belief and disk agree"
        events = f"events {dict(belief.counts)}, outcomes {dict(belief.outcomes)}"
        reads = f"errors {dict(belief.errors)}, first reads {dict(belief.first_reads)}"
        return f"not within {deadline} s:\n{found}\n{events}\n{reads}"

    def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        with self._turn:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            except BrokenPipeError as gone:
                raise StandInFailed(f"died\n{self._complaints()}") from gone
            return _checked(f"{do} {arguments.get('name', '')}".strip(), self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        end = time.monotonic() + ANSWER_WITHIN
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                self._process.kill()
                raise StandInFailed(f"hung\n{self._complaints()}")
            part = os.read(pipe, 65536)
            if not part:
                raise StandInFailed(f"died\n{self._complaints()}")
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _complaints(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def _stop(self) -> None:
        with self._stderr, self._process:  # closes the pipes, then waits
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(ANSWER_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()


def differences(belief: Belief, auth_dir: Path, config: Path) -> str:
    """One line for each disagreement over a top-level `*.json` or the config, '' for none.

    A file that is not a JSON object is nobody's business: the proxy keeps what it believed before.
    """
    lines = []
    on_disk = {path.name: path.read_bytes() for path in auth_dir.glob("*.json") if path.is_file()}
    believed = {n: c for n, c in belief.credentials.items() if "/" not in n and n.endswith(".json")}
    for name in sorted(on_disk.keys() | believed.keys()):
        data, credential = on_disk.get(name), believed.get(name)
        if data is None:
            lines.append(f"{name}: believed, but not on disk (a ghost)")
        elif (document := document_of(data)) is None:
            continue
        elif credential is None:
            lines.append(f"{name}: on disk, but not believed")
        elif credential.sha256 != hashlib.sha256(data).hexdigest():
            same = "the same value" if same_value(document, credential.document) else "other values"
            lines.append(f"{name}: {same}: believed {credential.document}, on disk {data!r}")
    text = config.read_bytes()
    if belief.config_sha256 != hashlib.sha256(text).hexdigest():
        lines.append(f"config: believed {belief.config_text!r}, on disk {text!r}")
    return "\n".join(lines)


def _belief(reply: dict[str, Any]) -> Belief:
    fields = {key: value for key, value in reply.items() if key in Belief.__dataclass_fields__}
    known = {name: Credential(*pair) for name, pair in reply["credentials"].items()}
    return Belief(**{**fields, "credentials": known})


def _checked(what: str, reply: dict[str, Any]) -> dict[str, Any]:
    if reply["ok"]:
        return reply
    if reply["error"]:
        code: int = getattr(errno, reply["error"])
        raise OSError(code, reply["message"], what)
    raise StandInFailed(f"{what}: {reply['message']}")
