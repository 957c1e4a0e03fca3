"""Programs save what they have in memory: no change that came meanwhile is taken back, whatever
the backend."""

from __future__ import annotations

import json
import os
import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.mount.calls import shows, write
from tests.mount.fleet import agree, fleet  # noqa: F401 - a fixture
from tests.mount.harness import until
from tests.mount.remote import LONG
from tests.mount.standin_client import StandIn
from tests.mount.test_nothing_lost import token, value
from tests.scale import SEED, scaled
from tests.servers.postgres import cluster, database  # noqa: F401 - fixtures
from tests.servers.s3 import moto_url, rclone_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.fleet import Fleet
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

NAMES = [f"token-{number}.json" for number in range(5)]
KINDS = ("token", "field", "config")
STALE = (16, 116)


@dataclass
class Truth:
    """What somebody changed at `there`, and so must be shown in the end."""

    there: Mount
    serials: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    notes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    retry: int = 0

    def data(self, name: str) -> bytes:
        return token(self.serials[name], note=self.notes[name], kept="x")

    def change(self, kind: str, name: str) -> None:
        """One change, by a person who has read what is there."""
        if kind == "config":
            self.retry += 1
            text = _whole(self.there.config)
            changed = re.sub("request-retry: [0-9]+", f"request-retry: {self.retry}", text)
            write(self.there.config, changed.encode(), os.O_TRUNC)
            return
        counts = self.serials if kind == "token" else self.notes
        counts[name] += 1
        file = self.there.auths / name
        data = json.dumps({**value(file), **json.loads(self.data(name))}).encode()
        write(file, data, os.O_TRUNC)

    def holds(self, mount: Mount) -> bool:
        text = mount.config.read_text()
        return f"request-retry: {self.retry}\n" in text and all(
            (found := value(mount.auths / name))["access_token"] == f"token-{self.serials[name]}"
            and found["note"] == self.notes[name]
            for name in NAMES
        )


def _whole(file: Path) -> str:
    """The text, read at rest: a read that overlaps a change may see parts of both."""
    text, again = file.read_text(), ""
    while text != again:
        text, again = file.read_text(), text
    return text


def _save(standin: StandIn, kind: str, name: str, number: int) -> None:
    """What the proxy would write now; it ignores that it may be refused."""
    try:
        if kind == "config":
            standin.save_config_from_memory("debug", str(number % 2 == 0).lower())
        else:
            standin.save_from_memory(name, websockets=number)
    except OSError as error:
        assert error.errno in STALE  # noqa: PT017


def _queue_removes(there: Mount, here: Mount, count: int, number: int) -> None:
    gone = [f"gone-{number}-{serial}.json" for serial in range(count)]
    for name in gone:
        write(there.auths / name, token(0))
    until(lambda: all((here.auths / name).exists() for name in gone), "they arrive", LONG)
    for name in gone:
        (there.auths / name).unlink()


@pytest.mark.parametrize("queued", [0, 20], ids=["at once", "behind removes"])
def test_stale_saves(fleet: Fleet, queued: int) -> None:  # noqa: F811
    """0 to 500 ms after each delivery: no newer token group, and no field that somebody changed,
    is ever taken back."""
    here, there = fleet("here"), fleet("there")
    chance, truth = random.Random(SEED + queued), Truth(there)
    there.config.write_text("port: 8317\nrequest-retry: 0\ndebug: false\n")
    for number in range(max(queued, 1) * 6):  # so that the removes are not held back
        write(there.auths / f"more-{number}.json", token(number))
    for name in NAMES:
        write(there.auths / name, truth.data(name))
    shows(here.auths / NAMES[-1], truth.data(NAMES[-1]))
    agree(here, there)
    until(lambda: "request-retry: 0" in here.config.read_text(), "the config arrives", LONG)
    rounds = scaled(1000, 60) // len(NAMES) // (4 if queued else 1)
    with StandIn(here.config, here.auths) as standin:
        for number in range(rounds):
            if queued:
                _queue_removes(there, here, queued, number)
            for name in NAMES:
                kind = chance.choice(KINDS)
                truth.change(kind, name)
                # When the proxy saves: a stimulus, nothing waits for it.
                time.sleep(0 if queued else chance.uniform(0, 0.5))
                _save(standin, kind, name, number)
            for mount in (here, there):
                try:
                    until(lambda mount=mount: truth.holds(mount), "every change stands", 30)  # type: ignore[misc]
                except AssertionError:
                    print(number, truth.serials, truth.notes, truth.retry)
                    for name in NAMES:
                        print(name, value(mount.auths / name))
                    print(mount.base.name, mount.config.read_text())
                    raise
