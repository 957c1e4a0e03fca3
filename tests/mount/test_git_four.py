"""Four writers at one branch: two mounts, the proxy's own store, and a person with a clone."""

from __future__ import annotations

import errno
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import until
from tests.mount.remote import LONG, tree
from tests.mount.test_git import machines, repository
from tests.scale import SEED, scaled
from tests.servers.git_others import Native, Person

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.harness import Mount
    from tests.mount.test_git import Machines
    from tests.servers.git import Repository
    from tests.servers.git_others import Clone

__all__ = ("machines", "repository")  # fixtures

pytestmark = pytest.mark.user

SHARED = "auths/shared.json"
_OWN = 6
"""Documents of each writer that nobody else changes."""


@dataclass
class Writer:
    """Changes its own documents, and its own key of the shared one, and remembers what is true.

    Every value is written once only, so that an old one that came back would be seen.
    """

    name: str
    chance: random.Random
    own: dict[str, bytes] = field(default_factory=dict)
    """What its documents hold, after all that it did."""
    counter: int = 0
    serial: int = 0

    def one(self) -> None:
        """One random change, which is in the branch when this returns."""
        path = f"auths/{self.name}/{self.chance.randrange(_OWN)}.json"
        kind = self.chance.choices(["write", "delete", "count"], [50, 20, 30])[0]
        self.serial += 1
        if kind == "count":
            self.count()
        elif kind == "delete" and path in self.own:
            self.delete(path)
            del self.own[path]
        else:
            data = b'{"by": "%s", "serial": %d}' % (self.name.encode(), self.serial)
            self.write(path, data)
            self.own[path] = data

    def counted(self, data: bytes) -> bytes:
        """The shared document with this writer's key one higher; the others' as they are."""
        document = json.loads(data)
        document[self.name] = self.counter
        return json.dumps(document, indent=1).encode()

    def count(self) -> None:
        raise NotImplementedError

    def write(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    def delete(self, path: str) -> None:
        raise NotImplementedError


@dataclass
class Program(Writer):
    """Through a mount."""

    mount: Mount | None = None

    def count(self) -> None:
        file = self._file(SHARED)
        self.counter += 1
        end = time.monotonic() + LONG
        while True:
            try:
                file.write_bytes(self.counted(file.read_bytes()))
            except OSError as error:
                if error.errno != errno.ESTALE or time.monotonic() > end:
                    raise
            else:
                return

    def write(self, path: str, data: bytes) -> None:
        self._file(path).parent.mkdir(exist_ok=True)
        self._file(path).write_bytes(data)

    def delete(self, path: str) -> None:
        self._file(path).unlink()

    def _file(self, path: str) -> Path:
        assert self.mount is not None
        return self.mount.path / path


@dataclass
class Outsider(Writer):
    """Straight at the branch, with the git program."""

    clone: Clone | None = None

    def count(self) -> None:
        self.counter += 1
        self._change(SHARED, lambda file: file.write_bytes(self.counted(file.read_bytes())))

    def write(self, path: str, data: bytes) -> None:
        def edit(file: Path) -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

        self._change(path, edit)

    def delete(self, path: str) -> None:
        self._change(path, lambda file: file.unlink())

    def _change(self, path: str, edit: Callable[[Path], object]) -> None:
        assert self.clone is not None
        clone = self.clone

        def change() -> None:
            edit(clone.work / path)

        clone.change(change)


def test_random_changes_by_all_of_them(
    machines: Machines, repository: Repository, tmp_path: Path
) -> None:
    mounts = [machines("here"), machines("there")]
    branch = "master"
    (mounts[0].path / SHARED).write_bytes(b'{"begun": true}')
    until(lambda: (mounts[1].path / SHARED).exists(), "the shared document is there", LONG)
    writers: list[Writer] = [
        *(Program(m.base.name, random.Random(SEED + n), mount=m) for n, m in enumerate(mounts)),
        Outsider("native", random.Random(SEED + 2), clone=Native(repository, tmp_path / "native")),
        Outsider("person", random.Random(SEED + 3), clone=Person(repository, tmp_path / "person")),
    ]
    print(f"seed {SEED}")
    turns, failed = scaled(200), threading.Event()

    def act(writer: Writer) -> None:
        try:
            for _ in range(turns):
                if failed.is_set():
                    return
                writer.one()
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(writers)) as pool:
        for task in [pool.submit(act, writer) for writer in writers]:
            task.result()
    own = {path: data for writer in writers for path, data in writer.own.items()}
    counters = {w.name: w.counter for w in writers if w.counter}
    for mount in mounts:
        until(partial(_shows, mount, own, counters), f"{mount.base.name} shows all", LONG)
        assert mount.status()["pending"] == 0
    held = {path for path in repository.files(branch) if path.endswith(".json")}
    assert held == {*own, SHARED}
    assert {path: repository.content(path, branch) for path in own} == own
    shared = json.loads(repository.content(SHARED, branch))
    assert shared == {"begun": True, **counters}
    assert repository.git("fsck", "--strict") is not None


def _shows(mount: Mount, own: dict[str, bytes], counters: dict[str, int]) -> bool:
    try:
        found = tree(mount.auths)
    except FileNotFoundError:  # it changed while this looked
        return False
    shared = json.loads(found.pop("shared.json"))
    return shared == {"begun": True, **counters} and own == {
        f"auths/{path}": data for path, data in found.items()
    }
