"""Real mounts over PostgreSQL: the main job, native writers, two machines, a server that stops."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.mount.harness import Mount, Plain, Watch, environment, until
from tests.mount.remote import CONFIG, LONG, credential, same_but_auth_dir, tree
from tests.mount.standin_client import StandIn
from tests.scale import SEED, scaled
from tests.servers.postgres import cluster, database, own_cluster  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster, Database

pytestmark = pytest.mark.user

NAMES = [f"claude-{number}@example.com+%41 \u00fc.json" for number in range(8)]
UPSERT = (
    "INSERT INTO {0} (id, content, created_at, updated_at) VALUES (%s, %s, NOW(), NOW())"
    " ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content, updated_at = NOW()"
)
"""What the native store sends."""

SEED_ROLE = "GRANT SELECT, INSERT, UPDATE ON auth_store, config_store TO {}"


class Machines(Protocol):
    def __call__(self, place: Database, name: str, *options: str, **env: str) -> Mount: ...


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Mounts a machine over a database; all end with exit code 0."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with ExitStack() as stack:

        def make(place: Database, name: str, *options: str, **env: str) -> Mount:
            variables = place.env(**env)
            mount = Plain(tmp_path / name, tmp_path / "unused", options, variables)
            return stack.enter_context(mount)

        yield make


def upsert(database: Database, name: str, data: bytes) -> None:  # noqa: F811
    table, key = ("config_store", "config") if name == "config" else ("auth_store", name)
    database.run(UPSERT.format(table), key, data.decode())


def shown(mount: Mount) -> dict[str, bytes]:
    """The documents of a mount; none while they are changing."""
    try:
        return tree(mount.auths)
    except FileNotFoundError:
        return {}


def values(found: dict[str, bytes]) -> dict[str, object]:
    """What they say; nothing while a read overlaps a change, and has parts of both."""
    try:
        return {name: json.loads(data) for name, data in found.items()}
    except ValueError:
        return {}


def test_the_main_job(machines: Machines, database: Database) -> None:  # noqa: F811
    """What is written here is a row when `close` returns, and soon a file with events there."""
    here, there = machines(database, "here"), machines(database, "there")
    with Watch(there.auths) as watch:
        here.config.write_bytes(CONFIG)
        ((stored,),) = database.run("SELECT content FROM config_store WHERE id = 'config'")
        assert same_but_auth_dir(stored.encode(), CONFIG)
        for serial, name in enumerate(NAMES):
            (here.auths / name).write_bytes(credential(serial) + b" \n")
            ((row,),) = database.run("SELECT content FROM auth_store WHERE id = %s", name)
            assert row == json.loads(credential(serial))
            watch.expect("CREATE", name)
        (here.auths / NAMES[0]).rename(here.auths / "renamed.json")
        (here.auths / NAMES[1]).unlink()
        watch.expect("DELETE", NAMES[1], LONG)
    expected = {name: credential(serial) + b" \n" for serial, name in enumerate(NAMES[2:], 2)}
    expected["renamed.json"] = credential(0) + b" \n"
    until(lambda: tree(there.auths) == expected, "the same bytes there", LONG)
    assert {name for (name,) in database.run("SELECT id FROM auth_store")} == set(expected)
    status = here.status()
    assert status["traits"]["bytes"] == "exact"
    assert status["traits"]["changes"] == "pushed"
    assert database.cluster.password not in json.dumps(status) + here.log() + there.log()


def test_native_writers_and_psql(machines: Machines, database: Database) -> None:  # noqa: F811
    with database.session():
        first = machines(database, "first")  # makes the tables
    first.stop()
    upsert(database, "config", CONFIG)
    for name in ("a.json", "/abs.json", "../x", "a//b", "n" * 300, "plain", "UP.JSON"):
        upsert(database, name, credential(1))
    mount = machines(database, "here")
    assert set(tree(mount.auths)) == {"a.json", "plain", "UP.JSON"}
    inode = mount.config.stat().st_ino
    with Watch(mount.auths) as watch, Watch(mount.config) as config:
        upsert(database, "a.json", credential(2))
        watch.expect("MODIFY", "a.json")
        assert json.loads((mount.auths / "a.json").read_bytes()) == json.loads(credential(2))
        for _ in range(3):
            upsert(database, "a.json", credential(2))  # as the native store does
        upsert(database, "team/b.json", credential(3))
        watch.expect("CREATE", "team")
        assert ("MODIFY", "a.json") not in watch.drain()
        upsert(database, "config", CONFIG + b"more: 1\n")
        config.expect("MODIFY")
        database.run("DELETE FROM auth_store WHERE id = 'a.json'")
        watch.expect("DELETE", "a.json", LONG)
    assert b"more: 1" in mount.config.read_bytes()
    assert mount.config.stat().st_ino == inode
    assert mount.log().count("'auths//abs.json'") == 1


def test_a_truncate_is_held(machines: Machines, database: Database) -> None:  # noqa: F811
    mount = machines(database, "here")
    for serial, name in enumerate(NAMES):
        (mount.auths / name).write_bytes(credential(serial))
    database.run("TRUNCATE auth_store, config_store")
    until(lambda: mount.status()["held_deletions"], "deletions are held", LONG)
    assert set(tree(mount.auths)) == set(NAMES)
    assert mount.config.exists()


@pytest.mark.parametrize("delete", [False, True])
def test_the_seeds_role(machines: Machines, database: Database, delete: bool) -> None:  # noqa: F811
    machines(database, "owner").stop()
    database.run("DROP TABLE auth_store_storefs")
    database.run("DROP FUNCTION storefs_hint CASCADE")
    grants = [SEED_ROLE, *(["GRANT DELETE ON auth_store TO {}"] if delete else [])]
    mount = machines(database.role(*grants), "here", STOREFS_POLL_INTERVAL="0.3")
    assert mount.status()["traits"]["bytes"] == "canonical"
    assert mount.status()["traits"]["changes"] == "polled"
    file = mount.auths / "a.json"
    with Watch(mount.auths) as watch:
        file.write_bytes(b'{"z":1,"a":2}')
        upsert(database, "b.json", credential(1))
        watch.expect("CREATE", "b.json")
        assert "MODIFY" not in [kind for kind, name in watch.drain() if name == "b.json"]
    if delete:
        file.unlink()
        assert database.run("SELECT 1 FROM auth_store WHERE id = 'a.json'") == []
    else:
        with pytest.raises(PermissionError):
            file.unlink()
        assert 'GRANT DELETE ON "public"."auth_store"' in mount.log()
        assert file.exists()


def test_with_select_alone_it_is_read_only(
    machines: Machines,
    database: Database,  # noqa: F811
) -> None:
    machines(database, "owner").stop()
    upsert(database, "a.json", credential(1))
    role = database.role("GRANT SELECT ON auth_store, config_store TO {}")
    mount = machines(role, "here")
    with pytest.raises(OSError, match=r"Errno") as refusal:
        (mount.auths / "a.json").write_bytes(b"{}")
    assert refusal.value.errno == errno.EROFS
    assert mount.status()["read_only"]


def test_what_it_cannot_hold_is_refused_at_close(
    machines: Machines,
    database: Database,  # noqa: F811
) -> None:
    mount = machines(database, "here")
    file = os.open(mount.auths / "a.json", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(file, b'{"a": "\\u0000"}')
    with pytest.raises(OSError, match=r"Errno") as refusal:
        os.close(file)
    assert refusal.value.errno == errno.EINVAL
    assert "unsupported Unicode escape" in mount.log()


def test_doctor_says_what_is_lacking_and_changes_nothing(
    tmp_path: Path,
    database: Database,  # noqa: F811
) -> None:
    def doctor(*words: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "storefs", "doctor", str(tmp_path / "mnt"), *words],
            env=environment(tmp_path, **env), cwd=tmp_path, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert "a mount that may write makes it" in doctor(**database.env())
    assert database.run(tables) == []
    role = database.role()
    script = doctor("--sql", **role.env())
    with database.session() as admin:
        admin.execute(script.encode())
    said = doctor(**role.env())
    assert "bytes: exact, changes: pushed" in said
    database.run("DROP FUNCTION storefs_hint CASCADE")
    (line,) = [line for line in doctor(**role.env()).splitlines() if "changes: polled" in line]
    assert line.startswith("warn")
    assert "storefs doctor --sql" in line
    assert database.cluster.password not in said + script


def test_a_wrong_password_ends_the_start_with_one_line(
    tmp_path: Path,
    database: Database,  # noqa: F811
) -> None:
    dsn = database.dsn.replace(database.cluster.password, "wrong-secret")
    mount = Plain(tmp_path / "a", tmp_path / "unused", (), {"PGSTORE_DSN": dsn})
    assert mount.launch().wait(60) == 4
    mount.process = None
    (line,) = mount.log().strip().splitlines()
    assert "PGSTORE_DSN" in line
    assert "wrong-secret" not in line


def test_the_server_stops_and_comes_back(machines: Machines, own_cluster: Cluster) -> None:  # noqa: F811
    database = own_cluster.database()  # noqa: F811
    here, there = machines(database, "here"), machines(database, "there")
    (here.auths / "a.json").write_bytes(credential(1))
    until((there.auths / "a.json").exists, "it is there")
    own_cluster.stop()
    assert (there.auths / "a.json").read_bytes() == credential(1)
    assert set(tree(here.auths)) == {"a.json"}
    own_cluster.start()
    upsert(database, "b.json", credential(2))
    for mount in (here, there):
        until((mount.auths / "b.json").exists, "a change after the return", LONG)
    until(lambda: here.status()["online"], "online again", LONG)
    (here.auths / "a.json").write_bytes(credential(3))
    expected = credential(3)
    until(lambda: (there.auths / "a.json").read_bytes() == expected, "it goes on", LONG)


def test_two_machines_and_psql_at_random(
    machines: Machines,
    database: Database,  # noqa: F811
) -> None:
    """What three writers do to names in common: in the end all see what the rows say."""
    here, there = machines(database, "here"), machines(database, "there")
    here.config.write_bytes(CONFIG)
    until(lambda: there.config.read_bytes().count(b"request-retry"), "the config is there")
    chance = random.Random(SEED)
    last: dict[str, bytes] = {}
    with StandIn(here.config, here.auths) as one, StandIn(there.config, there.auths) as other:
        for serial in range(scaled(5000, 200)):
            name, data = chance.choice(NAMES), credential(serial, chance.randrange(2000))
            who = chance.choice([here, there, None])
            own = f"own-{'psql' if who is None else who.base.name}.json"
            try:
                if who is None:
                    _by_psql(database, chance, name, data)
                    upsert(database, own, data)
                else:
                    _by_mount(who, chance, name, data)
                    (who.auths / own).write_bytes(data)
            except OSError as error:
                # Somebody else was faster, and this machine has not heard of it yet.
                assert error.errno in (errno.EBUSY, errno.ESTALE, errno.ENOENT), (name, error)  # noqa: PT017
            else:
                last[own] = data
        print(f"seed {SEED}")

        def rows() -> dict[str, object]:
            return dict(database.run("SELECT id, content FROM auth_store"))

        until(lambda: values(shown(here)) == rows(), "here is what the rows say", LONG)
        until(lambda: shown(here) == shown(there), "the same bytes on both", LONG)
        for belief, mount in ((one, here), (other, there)):
            belief.wait_until(
                lambda _, belief=belief, mount=mount: (
                    not belief.agrees_with(  # type: ignore[misc]
                        mount.auths, mount.config
                    )
                ),
                LONG,
            )
        found = values(tree(here.auths))
        for own, data in last.items():  # no update of a document of one's own is lost
            assert found[own] == json.loads(data)


def _by_psql(database: Database, chance: random.Random, name: str, data: bytes) -> None:  # noqa: F811
    if chance.random() < 0.3:
        database.run("DELETE FROM auth_store WHERE id = %s", name)
    else:
        upsert(database, name, data)


def _by_mount(mount: Mount, chance: random.Random, name: str, data: bytes) -> None:
    kind = chance.choices(["write", "replace", "unlink", "rename"], [50, 20, 15, 15])[0]
    file, temporary = mount.auths / name, mount.auths / f".{name}.tmp"
    if kind == "write":
        file.write_bytes(data)
    elif kind == "replace":
        temporary.write_bytes(data)
        temporary.rename(file)
    elif kind == "unlink":
        file.unlink()
    else:
        file.rename(mount.auths / chance.choice(NAMES))
