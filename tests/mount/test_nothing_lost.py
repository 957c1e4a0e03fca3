"""Nothing a program wrote is lost, on every backend: outages, races, kill -9."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from storefs.errors import Exit
from tests.mount.calls import shows, write
from tests.mount.fleet import (  # noqa: F401 - a fixture too
    agree,
    cut,
    fleet,
    heal,
    mend,
    needs_conditions,
    tokens,
)
from tests.mount.harness import Watch, until
from tests.mount.remote import LONG
from tests.scale import SEED, scaled
from tests.servers.postgres import cluster, database  # noqa: F401 - fixtures
from tests.servers.s3 import moto_url, rclone_url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mount.fleet import Fleet
    from tests.mount.harness import Mount

    Save = Callable[[Mount, int], None]

pytestmark = pytest.mark.user

STALE = (16, 116)
"""EBUSY, ESTALE: the document changed elsewhere, and this version is a conflict copy."""


def token(serial: int, **more: object) -> bytes:
    """A credential of which each serial is a refresh of the one before."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_790_000_000 + serial))
    group = {"access_token": f"token-{serial}", "last_refresh": moment, "expired": moment}
    return json.dumps({"type": "claude", **group, **more}).encode()


def value(file: Path) -> dict[str, Any]:
    """What the document says. A read that overlaps a change may see parts of both: again then."""
    end = time.monotonic() + LONG
    while True:
        try:
            found: dict[str, Any] = json.loads(file.read_bytes())
        except ValueError:
            assert time.monotonic() < end
        else:
            return found


def test_an_outage_of_many_rewrites(fleet: Fleet) -> None:  # noqa: F811
    """What waits does not grow; only final versions are sent, in order, each with its event."""
    one, other = fleet("one"), fleet("other")
    names = [f"token-{number:02}.json" for number in range(50)]
    for name in names:
        write(one.auths / name, token(0))
    agree(one, other)
    cut(one)
    order = random.Random(SEED).sample(names, len(names))
    for serial in range(scaled(1000, 100)):
        write(one.auths / order[serial % len(order)], token(serial + 1))
    last = tokens(one)
    assert one.status()["pending"] == len(names)
    waiting = [*(one.root / ".storefs/pending").iterdir()]
    assert len(waiting) == len(names)
    assert sum(file.stat().st_size for file in waiting) < len(names) * 2000
    before = len(one.commits())
    with Watch(other.auths) as watch:
        heal(one)
        agree(one, other)
        modified: set[str] = set()
        for kind, name in watch.events(LONG):
            modified |= {name} if kind == "MODIFY" else set()
            if modified == set(names):
                break
    assert tokens(other) == last
    assert modified == set(names)
    sent = [path for batch in one.commits()[before:] for _, path in batch]
    assert sorted(sent) == sorted(f"auths/{name}" for name in order)
    if one.status()["backend"] == "git":  # the others take several calls at once
        assert sent == [f"auths/{name}" for name in order]


def at_once(machines: list[Mount], save: Save) -> list[str]:
    """Each machine saves in a thread of its own, again and again; returns unexpected errors."""
    failures: list[str] = []

    def run(mount: Mount) -> None:
        for serial in range(scaled(500)):
            try:
                save(mount, serial)
            except OSError as error:
                if error.errno not in STALE:
                    failures.append(f"{mount.base.name}: {serial}: {error}")

    threads = [threading.Thread(target=run, args=(mount,)) for mount in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_one_token_with_disjoint_fields(fleet: Fleet) -> None:  # noqa: F811
    """Two machines save it at once, again and again: each one's field is what it wrote last."""
    one, other = fleet("one"), fleet("other")
    needs_conditions(one)
    name = "token.json"
    write(one.auths / name, token(0, one=-1, other=-1))
    agree(one, other)

    def save(mount: Mount, serial: int) -> None:
        file = mount.auths / name
        data = json.dumps({**value(file), mount.base.name: serial}).encode()
        for _ in range(20):
            try:
                write(file, data, os.O_TRUNC)
            except OSError as error:
                if error.errno not in STALE:
                    raise
                data = json.dumps({**value(file), mount.base.name: serial}).encode()
            else:
                return
        raise AssertionError(f"{mount.base.name}: {serial} is never taken")

    assert at_once([one, other], save) == []
    agree(one, other)
    found = value(one.auths / name)
    assert (found["one"], found["other"]) == (scaled(500) - 1, scaled(500) - 1)


def test_one_token_with_the_same_field(fleet: Fleet) -> None:  # noqa: F811
    """Of each version the writer is told that it stands, or it is kept as a conflict copy."""
    one, other = fleet("one"), fleet("other")
    name = "token.json"
    write(one.auths / name, token(0, note="start"))
    agree(one, other)
    lost: list[str] = []
    written: set[str] = set()

    def save(mount: Mount, serial: int) -> None:
        note = f"{mount.base.name} {serial}"
        data = token(0, note=note)
        try:
            write(mount.auths / name, data, os.O_TRUNC)
        except OSError:
            if data not in mount.kept("conflicts").values():
                lost.append(note)
            raise
        written.add(note)

    assert at_once([one, other], save) == []
    assert lost == []
    agree(one, other)
    assert value(one.auths / name)["note"] in written


def test_both_hash_the_same_secret(fleet: Fleet) -> None:  # noqa: F811
    """Two machines start at once and put another random hash into the config: one wins, the
    other follows, and nobody is refused."""
    one, other = fleet("one"), fleet("other")
    plain = "port: 8317\nremote-management:\n  secret-key: 'plain {0}'\nretries: {0}\n"
    for turn in range(scaled(50, 3)):
        one.config.write_text(plain.format(turn))
        expected = f"'plain {turn}'"
        until(lambda expected=expected: expected in other.config.read_text(), "it arrives", LONG)  # type: ignore[misc]
        failures = _hashed(expected, [one, other], turn)
        assert failures == []
        until(
            lambda: _secret(one).startswith("'$2a$") and _secret(one) == _secret(other),
            "both show one hash",
            LONG,
        )
        assert f"retries: {turn}" in one.config.read_text()


def _hashed(plain: str, machines: list[Mount], turn: int) -> list[OSError]:
    """Both replace the plain text at the same moment."""
    gate = threading.Barrier(len(machines))
    failures: list[OSError] = []

    def save(mount: Mount) -> None:
        hashed = f"'$2a$10${turn:02}{mount.base.name:.<51}'"
        text = mount.config.read_text().replace(plain, hashed)
        gate.wait()
        try:
            write(mount.config, text.encode(), os.O_TRUNC)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(mount,)) for mount in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def _secret(mount: Mount) -> str:
    rows = mount.config.read_text().splitlines()
    found = [row.partition(": ")[2] for row in rows if "secret-key" in row]
    return found[0] if found else ""


def test_a_person_edits_on_two_machines_in_turn(fleet: Fleet) -> None:  # noqa: F811
    """As fast as the events arrive: never refused, and no edit is lost."""
    one, other = fleet("one"), fleet("other")
    files = [mount.auths / "token.json" for mount in (one, other)]
    fields: dict[str, int] = {}
    write(files[0], token(0))
    shows(files[1], token(0))
    for turn in range(scaled(200, 20)):
        here, there = files[turn % 2], files[1 - turn % 2]
        fields[f"edit-{turn % 7}"] = turn
        with Watch(there.parent) as watch:
            write(here, token(0, **fields), os.O_TRUNC)
            while value(there) != json.loads(token(0, **fields)):
                watch.expect("MODIFY", there.name, LONG)
    agree(one, other)


def test_edited_or_deleted_on_both_sides(fleet: Fleet) -> None:  # noqa: F811
    """An edit here stands against a delete there, a refresh of tokens does not; a change there
    stands against a delete here."""
    one, other = fleet("one"), fleet("other")
    for number in range(16):  # so that four deletes are not held back
        write(one.auths / f"more-{number}.json", token(number))
    for name in ("edited", "refreshed", "deleted", "both"):
        write(one.auths / f"{name}.json", token(1, note=1))
    agree(one, other)
    cut(one)
    write(one.auths / "edited.json", token(1, note=2), os.O_TRUNC)
    write(one.auths / "refreshed.json", token(2, note=1), os.O_TRUNC)
    (one.auths / "deleted.json").unlink()
    (one.auths / "both.json").unlink()
    for name in ("edited", "refreshed", "both"):
        (other.auths / f"{name}.json").unlink()
    write(other.auths / "deleted.json", token(1, note=3), os.O_TRUNC)
    heal(one)
    expected = {f"more-{number}.json": token(number) for number in range(16)}
    expected |= {"edited.json": token(1, note=2), "deleted.json": token(1, note=3)}
    for mount in (one, other):
        until(lambda mount=mount: tokens(mount) == expected, "the rules decided", LONG)  # type: ignore[misc]
    assert list(one.kept("conflicts").values()) == [token(2, note=1)]


def test_killed_while_it_sends(fleet: Fleet) -> None:  # noqa: F811
    """kill -9 at random moments of an outage and of sending what waited: every document is what
    was acknowledged last."""
    one, chance = fleet("one", start=False), random.Random(SEED)
    one.start()
    acknowledged: dict[str, bytes] = {}
    for serial in range(scaled(100, 6)):
        cut(one)
        for _ in range(chance.randint(1, 12)):
            name = f"token-{chance.randint(0, 5)}.json"
            if chance.random() < 0.2 and name in acknowledged:
                (one.auths / name).unlink()
                del acknowledged[name]
            else:
                data = token(serial, note=chance.random())
                write(one.auths / name, data)
                acknowledged[name] = data
        mend(one)
        time.sleep(chance.uniform(0, 0.1))  # the moment of the crash
        one.kill()
        one.start()
        assert tokens(one) == acknowledged, f"seed {SEED}, round {serial}"
        heal(one)
    assert one.stop() == 0
    with fleet("other", start=False) as other:
        assert tokens(other) == acknowledged
    assert one.kept("conflicts") == {}


def test_another_store_never_gets_what_is_pending(fleet: Fleet, tmp_path: Path) -> None:  # noqa: F811
    """Another identity in the settings: the start is refused, what waits goes on waiting."""
    one = fleet("one", start=False)
    one.start()
    cut(one)
    write(one.auths / "a.json", token(1))
    mend(one)
    one.kill()
    env, store = one.env, one.store
    one.env, one.store = {}, tmp_path / "another"
    assert one.launch().wait(60) == Exit.SETTINGS
    assert "mirrors something else" in one.log()
    assert not [*(tmp_path / "another").glob("auths/*.json")]
    one.env, one.store = env, store
    one.start()
    heal(one)
    assert one.stop() == 0
    with fleet("other", start=False) as other:
        assert (other.auths / "a.json").read_bytes() == token(1)
