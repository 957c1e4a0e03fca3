"""Random changes made elsewhere: whatever their order and distance, what is believed is true."""

from __future__ import annotations

import errno
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Mount, Watch
from tests.mount.remote import CONFIG, LONG, Remote, believed, credential, settled
from tests.mount.standin_client import StandIn
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

NAMES = tuple(f"claude-{number}@example.com.json" for number in range(40))
OTHERS = tuple(f"team/{number}.json" for number in range(40))


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    remote = Remote(tmp_path / "store")
    remote.seed(*NAMES[::2], *OTHERS[::2])
    return remote


@dataclass
class Changes:
    """Random changes of one kind: in the store itself, or through a mount."""

    remote: Remote
    mount: Mount | None
    chance: random.Random
    serial: int = 1000
    done: list[str] = field(default_factory=list)

    def one(self) -> None:
        """One change of a document that is there, or of one that is not."""
        kind = self.chance.choices(
            ["write", "replace", "delete", "rename", "config"], [40, 35, 12, 8, 5]
        )[0]
        path = f"auths/{self.chance.choice(NAMES + OTHERS)}"
        other = f"auths/{self.chance.choice(NAMES + OTHERS)}"
        self.serial += 1
        self.done.append(f"{kind} {path} {other} {self.serial}")
        try:
            self._do(kind, path, other)
        except FileNotFoundError:
            pass  # nothing there to delete or to rename
        except OSError as error:
            # Somebody else was faster, and this machine has not heard of it yet.
            if self.mount is None or error.errno not in (errno.EBUSY, errno.ESTALE):
                raise

    def _do(self, kind: str, path: str, other: str) -> None:
        top = Remote(self.mount.path) if self.mount else self.remote
        data = credential(self.serial, size=self.chance.randrange(3000))
        if kind == "config":
            top.write("config/config.yaml", CONFIG + b"turn: %d\n" % self.serial)
        elif kind == "write":
            top.write(path, data)
        elif kind == "replace":
            top.replace(path, data)
        elif kind == "delete":
            top.delete(path)
        else:
            top.rename(path, other)


@pytest.mark.parametrize("ways", ["store", "mount", "both"])
def test_mixed_changes(mounts: Mounts, remote: Remote, ways: str) -> None:
    here, there = mounts("here"), mounts("there")
    chance = random.Random(SEED)
    actors = [
        Changes(remote, None, chance) if way == "store" else Changes(remote, there, chance, 500_000)
        for way in (["store", "mount"] if ways == "both" else [ways])
    ]
    inode = here.config.stat().st_ino
    with StandIn(here.config, here.auths) as standin:
        for _ in range(scaled(1000)):
            chance.choice(actors).one()
            time.sleep(chance.random() * 0.1)  # the changes' own rhythm
        print(f"seed {SEED}:", *[line for actor in actors for line in actor.done], sep="\n")
        belief = believed(standin, here)
        settled(here)
        settled(there)
        belief = believed(standin, here)
    assert belief.incomplete == 0
    assert set(belief.first_reads.values()) <= {"complete", "empty"}
    assert belief.outcomes.get("debounced", 0) == 0
    assert here.config.stat().st_ino == inode
    assert here.commits() == []
    assert (there.commits() == []) == (ways == "store")


@pytest.mark.parametrize("way", ["store", "mount"])
def test_names_deleted_and_recreated_at_random_distances(
    mounts: Mounts, remote: Remote, way: str
) -> None:
    """Up to 1.5 s: before and after a deletion is believed, and during its event."""
    here, there = mounts("here"), mounts("there")
    top = remote if way == "store" else Remote(there.path)
    chance = random.Random(SEED)
    names = [f"auths/{name}" for name in NAMES[:12:2]]
    due = {name: chance.random() * 1.5 for name in names}
    began, serial = time.monotonic(), 2000
    with StandIn(here.config, here.auths) as standin:
        for serial in range(2000, 2000 + scaled(500)):
            name = min(due, key=lambda name: due[name])
            time.sleep(max(0.0, began + due[name] - time.monotonic()))
            if remote.has(name):
                top.delete(name)
            else:
                top.replace(name, credential(serial))
            due[name] += chance.random() * 1.5
        print(f"seed {SEED}")
        believed(standin, here)
        settled(here)
        settled(there)
        belief = believed(standin, here)
    assert belief.incomplete == 0
    assert belief.outcomes.get("debounced", 0) == 0
    assert here.commits() == []


def test_every_distance_between_delete_and_create(mounts: Mounts, remote: Remote) -> None:
    """One name after the other, 0 to 1.5 s in small steps, and the same bytes every other time."""
    here = mounts("here")
    steps = scaled(150)
    with StandIn(here.config, here.auths) as standin, Watch(here.auths) as watch:
        for step in range(steps):
            name = NAMES[2 * (step % 20)]
            before = (remote.store / "auths" / name).read_bytes()
            remote.delete(f"auths/{name}")
            time.sleep(1.5 * step / steps)
            remote.replace(f"auths/{name}", before if step % 2 else credential(3000 + step))
        believed(standin, here)
        remote.write("auths/last.json", credential(9000))
        watch.expect("CREATE", "last.json", LONG)
        settled(here)
        belief = believed(standin, here)
    assert belief.outcomes.get("debounced", 0) == 0
    assert here.commits() == []
