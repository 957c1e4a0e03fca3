"""The outside world of a mount: changes made in the store behind it, and what is true there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.mount.harness import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.harness import Mount
    from tests.mount.standin_client import Belief, StandIn

LONG = 90.0
"""Seconds for what may lie behind held deletions (30 s) on a busy machine."""

CONFIG = b'# made up\nport: 8317\nauth-dir: "/elsewhere/auths"\nrequest-retry: 3\n'


def credential(serial: int, size: int = 0) -> bytes:
    """A made-up auth document; no two serials give the same bytes."""
    document = {"type": "claude", "access_token": f"token-{serial}", "filler": "x" * size}
    return json.dumps(document).encode()


@dataclass(frozen=True, slots=True)
class Remote:
    """The store directory, changed by plain file calls as any other program would."""

    store: Path

    def seed(self, *names: str) -> None:
        """A config, and a credential under each name, before any mount."""
        self.write("config/config.yaml", CONFIG)
        for serial, name in enumerate(names):
            self.write(f"auths/{name}", credential(serial))

    def write(self, path: str, data: bytes) -> None:
        """In place: truncate, write, close."""
        file = self.store / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def replace(self, path: str, data: bytes) -> None:
        """By a temporary file and a rename."""
        file = self.store / path
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_bytes(data)
        temporary.rename(file)

    def delete(self, path: str) -> None:
        (self.store / path).unlink()

    def rename(self, old: str, new: str) -> None:
        (self.store / old).rename(self.store / new)

    def has(self, path: str) -> bool:
        return (self.store / path).exists()


def tree(top: Path) -> dict[str, bytes]:
    """Every file below `top` that is no hidden one, by its path."""
    found = {}
    for directory, below, names in os.walk(top):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = file.read()
    return found


def stored_form(mount: Mount) -> dict[str, bytes]:
    """The tree of a mount; the config as it is in the store if it shows this mount's auth-dir."""
    found, truth = tree(mount.path), (mount.store / "config/config.yaml").read_bytes()
    here = f'auth-dir: "{mount.auths}"'.encode()
    assert here in found["config/config.yaml"].splitlines()
    if same_but_auth_dir(found["config/config.yaml"], truth):
        found["config/config.yaml"] = truth
    return found


def same_but_auth_dir(one: bytes, other: bytes) -> bool:
    """Whether two configs are the same, byte for byte, outside the `auth-dir` line."""
    pairs = (one.splitlines(keepends=True), other.splitlines(keepends=True))
    kept = [[line for line in lines if not line.startswith(b"auth-dir:")] for lines in pairs]
    return kept[0] == kept[1] and len(pairs[0]) == len(pairs[1])


def settled(mount: Mount, deadline: float = LONG) -> None:
    """Wait until the mount shows exactly what the store holds."""

    def equal() -> bool:
        try:
            return stored_form(mount) == tree(mount.store)
        except FileNotFoundError:  # it changed while this looked
            return False

    try:
        until(equal, "the mount shows what the store holds", deadline)
    except AssertionError as error:
        shown, held = stored_form(mount), tree(mount.store)
        wrong = {path for path in shown | held if shown.get(path) != held.get(path)}
        status = mount.status()
        raise AssertionError(f"{error}: {sorted(wrong)[:20]} differ; {status}") from None


def believed(standin: StandIn, mount: Mount, deadline: float = LONG) -> Belief:
    """Wait until the stand-in believes the truth: the store's tokens, and the config shown.

    Then it must be healthy too: watches alive, no queue overflow.
    """

    def agrees(_: Belief) -> bool:
        return standin.agrees_with(mount.store / "auths", mount.config) == ""

    standin.wait_until(agrees, deadline)
    standin.settle(deadline)
    belief = standin.wait_until(agrees, 1)
    assert belief.auth_watch_alive
    assert belief.config_watch_alive
    assert belief.overflows == 0
    return belief
