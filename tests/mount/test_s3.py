"""Real mounts over object storage: the main job, foreign writers, two machines at once."""

from __future__ import annotations

import errno
import json
import os
import random
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.mount.harness import Mount, Watch, storefs, until
from tests.mount.remote import CONFIG, LONG, credential, same_but_auth_dir, tree
from tests.scale import SEED, scaled
from tests.servers.s3 import (  # noqa: F401 - fixtures
    SECRET,
    Bucket,
    moto_url,
    rclone_url,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.user

NAMES = [f"auths/claude-{number}@example.com+%41 ü.json" for number in range(8)]


class Machines(Protocol):
    def __call__(self, bucket: Bucket, name: str, *options: str) -> Mount: ...


@pytest.fixture(params=["moto_url", "rclone_url"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A bucket of each server, made already."""
    return Bucket(request.getfixturevalue(request.param)).make()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Mounts a machine over a bucket, polled every half second; all end with exit code 0."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with ExitStack() as stack:

        def make(bucket: Bucket, name: str, *options: str) -> Mount:
            env = {**bucket.env(), "STOREFS_POLL_INTERVAL": "0.5"}
            mount = Mount(tmp_path / name, tmp_path / "unused", options, env)
            return stack.enter_context(mount)

        yield make


def test_the_main_job(machines: Machines, bucket: Bucket) -> None:
    """What is written here is in the bucket when `close` returns, and soon there."""
    here, there = machines(bucket, "here"), machines(bucket, "there")
    with Watch(there.auths) as watch:
        here.config.write_bytes(CONFIG)
        stored = bucket.get("config/config.yaml")
        assert stored is not None
        assert same_but_auth_dir(stored, CONFIG)
        for serial, path in enumerate(NAMES):
            (here.path / path).write_bytes(credential(serial))
            assert bucket.get(path) == credential(serial)
            watch.expect("CREATE", path.removeprefix("auths/"))
        (here.path / NAMES[0]).rename(here.path / "auths/renamed.json")
        (here.path / NAMES[1]).unlink()
        expected = {path: credential(serial) for serial, path in enumerate(NAMES[2:], 2)}
        expected["auths/renamed.json"] = credential(0)
        assert {k: v for k, v in bucket.content().items() if k[0] == "a"} == expected
        watch.expect("DELETE", NAMES[1].removeprefix("auths/"), LONG)
    shown = {f"auths/{name}": data for name, data in tree(there.auths).items()}
    assert shown == expected
    status = json.dumps(here.status())
    assert here.status()["backend"] == "s3"
    assert SECRET not in status + here.log() + there.log()


def test_a_foreign_writer_is_seen(machines: Machines, bucket: Bucket) -> None:
    bucket.put("config/config.yaml", CONFIG)
    bucket.put("auths/a.json", credential(1))
    mount = machines(bucket, "here")
    assert (mount.auths / "a.json").read_bytes() == credential(1)
    inode = mount.config.stat().st_ino
    with Watch(mount.auths) as watch, Watch(mount.config) as config:
        bucket.put("auths/a.json", credential(2))
        watch.expect("MODIFY", "a.json")
        assert (mount.auths / "a.json").read_bytes() == credential(2)
        bucket.put("auths/new/b.json", credential(3))
        watch.expect("CREATE", "new")
        bucket.put("config/config.yaml", CONFIG + b"more: 1\n")
        config.expect("MODIFY")
        bucket.delete("auths/a.json")
        watch.expect("DELETE", "a.json", LONG)
    assert b"more: 1" in mount.config.read_bytes()
    assert mount.config.stat().st_ino == inode


def test_a_warm_mirror_is_not_read_again(machines: Machines, bucket: Bucket) -> None:
    for serial, path in enumerate(NAMES):
        bucket.put(path, credential(serial))
    first = machines(bucket, "here")
    shown = tree(first.auths)
    assert len(shown) == len(NAMES)
    assert first.stop() == 0
    first.start()
    assert tree(first.auths) == shown


def test_a_wrong_key_ends_the_start_with_one_line(tmp_path: Path, rclone_url: str) -> None:  # noqa: F811
    place = Bucket(rclone_url, more={"OBJECTSTORE_SECRET_KEY": "wrong-secret"})
    mount = Mount(tmp_path / "a", tmp_path / "unused", (), place.env())
    assert mount.launch().wait(60) == 4
    mount.process = None
    (line,) = mount.log().strip().splitlines()[-1:]
    assert "check OBJECTSTORE_SECRET_KEY" in line
    assert "wrong-secret" not in mount.log()
    assert "Traceback" not in mount.log()


def test_two_machines_at_random(machines: Machines, bucket: Bucket) -> None:
    """Each name is changed by one machine after the other has seen it, or by both at once.

    Where the server ignores conditions two writers of one name at the same moment are in the
    window of docs/backends/s3.md: there the machines have names of their own.
    """
    pair = [machines(bucket, "here"), machines(bucket, "there")]
    blind = pair[0].status()["traits"]["writes"] == "last-writer-wins"
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    for serial in range(scaled(400)):
        turn = chance.randrange(2)
        names = NAMES[turn::2] if blind else NAMES
        _change(pair[turn], chance.choice(names), serial, chance)
    for mount in pair:
        until(lambda mount=mount: _same(mount, bucket), f"{mount.base.name} shows the store", LONG)  # type: ignore[misc]


def _change(mount: Mount, path: str, serial: int, chance: random.Random) -> None:
    file = mount.path / path
    try:
        if chance.random() < 0.2:
            file.unlink()
        else:
            file.write_bytes(credential(serial, chance.randrange(3000)))
    except FileNotFoundError:
        pass  # nothing there to remove
    except OSError as error:  # the other machine was faster, and this one has not heard of it yet
        if error.errno not in (errno.EBUSY, errno.ESTALE):
            raise


def _same(mount: Mount, bucket: Bucket) -> bool:
    held = {key: data for key, data in bucket.content().items() if key.startswith("auths/")}
    try:
        shown = tree(mount.auths)
    except FileNotFoundError:  # it went away while this looked
        return False
    return {f"auths/{name}": data for name, data in shown.items()} == held


def test_what_vanished_is_brought_back_from_the_backup(machines: Machines, bucket: Bucket) -> None:
    """One by its path, the others without one; each event elsewhere, nothing sound touched."""
    place = replace(bucket, more={"OBJECTSTORE_BACKUP_PREFIX": "backup"})
    here, there = machines(place, "here"), machines(place, "there")
    here.config.write_bytes(CONFIG)
    stored = bucket.get("config/config.yaml")
    for serial, path in enumerate(NAMES):
        (here.path / path).write_bytes(credential(serial))
    until(lambda: len([key for key in bucket.keys() if key[0] == "b"]) == 9, "copies", LONG)  # noqa: SIM118
    lost = ["config/config.yaml", *NAMES[:2]]
    until(lambda: len(tree(there.auths)) == len(NAMES), "the other machine has them", LONG)
    with Watch(there.auths) as watch:
        for path in lost:
            bucket.delete(path)
        until(lambda: here.status()["only_in_backup"] == sorted(lost), "status lists them", LONG)
        watch.expect("DELETE", NAMES[0].removeprefix("auths/"), LONG)
        watch.expect("DELETE", NAMES[1].removeprefix("auths/"), LONG)
        screen = storefs(here.home, "status", str(here.path))
        assert f"only in backup {NAMES[0]}" in screen.stdout

        done = storefs(here.home, "restore", str(here.path / NAMES[0]))
        assert (done.returncode, done.stdout) == (0, f"{NAMES[0]}\n"), done.stderr
        watch.expect("CREATE", NAMES[0].removeprefix("auths/"))
        done = storefs(here.home, "restore", "--mount", str(here.path))
        assert (done.returncode, done.stdout) == (0, f"{NAMES[1]}\nconfig/config.yaml\n")
        watch.expect("CREATE", NAMES[1].removeprefix("auths/"))
    assert bucket.get("config/config.yaml") == stored
    for serial, path in enumerate(NAMES):
        assert bucket.get(path) == credential(serial)
        assert (here.path / path).read_bytes() == credential(serial)
    until(lambda: here.status()["only_in_backup"] == [], "nothing is left", LONG)

    for path, reason in ((NAMES[2], "the store has it"), ("auths/no.json", "has no copy")):
        bucket.put(NAMES[2], credential(99))
        done = storefs(here.home, "restore", path, "--mount", str(here.path))
        assert done.returncode == 1
        assert reason in done.stderr
    assert bucket.get(NAMES[2]) == credential(99)


def test_without_a_backup_prefix_restore_says_so(machines: Machines, bucket: Bucket) -> None:
    mount = machines(bucket, "here")
    for words in ([], ["auths/a.json"]):
        done = storefs(mount.home, "restore", *words, "--mount", str(mount.path))
        assert done.returncode == 1
        assert "OBJECTSTORE_BACKUP_PREFIX" in done.stderr
