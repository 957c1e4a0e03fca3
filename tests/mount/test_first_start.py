"""The first start of a root: files taken in, or found; the first config; two machines at once."""

from __future__ import annotations

import stat
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.mount.harness import storefs, until
from tests.mount.processes import launched, put, token, tree_of
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mount.conftest import Mounts
    from tests.mount.harness import Mount

pytestmark = pytest.mark.user

CONFIG = "config/config.yaml"
NATIVE = b"port: 8317\nauth-dir: /root/native/auths\n"


def test_migration_by_restarting(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    put(machine.root, CONFIG, NATIVE)
    put(machine.root, "auths/team/a.json", token(1))
    put(machine.root, "auths/broken.json", b'{"half')
    put(machine.root, "auths/notes.txt", b"local")
    with machine:
        assert tree_of(machine.store) == {CONFIG: NATIVE, "auths/team/a.json": token(1)}
        assert (machine.auths / "team/a.json").read_bytes() == token(1)
        assert (machine.auths / "notes.txt").read_bytes() == b"local"
        assert [*machine.kept("found").values()] == [b'{"half']
        assert storefs(machine.home, "status", str(machine.path)).returncode == 7


def test_files_of_a_new_root_are_not_mixed_into_a_store_in_use(
    mounts: Mounts, tmp_path: Path
) -> None:
    put(tmp_path / "store", CONFIG, b"port: 1\n")
    put(tmp_path / "store", "auths/same.json", token("same"))
    before = tree_of(tmp_path / "store")
    machine = mounts("a", start=False)
    put(machine.root, CONFIG, NATIVE)
    put(machine.root, "auths/same.json", token("same"))
    put(machine.root, "auths/old.json", token("old"))
    with machine:
        assert tree_of(machine.store) == before
        assert machine.commits() == []
        assert {*machine.kept("found").values()} == {NATIVE, token("old")}
        assert {file.name for file in machine.auths.iterdir()} == {"same.json"}


def test_a_root_that_served_once_is_never_taken_in(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    with machine:
        (machine.auths / "a.json").write_bytes(token(1))
    put(machine.root, "auths/later.json", token(2))
    for file in tree_of(machine.store):
        (machine.store / file).unlink()
    with machine:
        assert tree_of(machine.store) == {}
        assert [*machine.kept("found").values()] == [token(2)]
        assert (machine.auths / "a.json").read_bytes() == token(1)


def test_the_first_start_may_fail_and_be_tried_again(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    put(machine.root, "auths/a.json", token(1))
    fault = machine.fault("snapshot.fail-before")
    with launched(machine) as process:
        assert process.wait(60) == 4
    fault.unlink()
    with machine:
        assert (machine.store / "auths/a.json").read_bytes() == token(1)
        assert machine.kept("found") == {}


def test_a_read_only_mount_takes_nothing_in_and_makes_no_config(mounts: Mounts) -> None:
    machine = mounts("a", "--read-only", start=False)
    put(machine.root, "auths/a.json", token(1))
    with machine:
        assert tree_of(machine.store) == {}
        assert machine.commits() == []
        assert tree_of(machine.path) == {}
        assert [*machine.kept("found").values()] == [token(1)]
        assert "read-only" in storefs(machine.home, "status", str(machine.path)).stdout


def test_the_first_config_is_the_example_of_the_working_directory(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    example = b"# of the admin\r\nport: 99\r\napi-keys: [k]\r\n"
    put(machine.home, "config.example.yaml", example)
    with machine:
        assert (machine.store / CONFIG).read_bytes() == example
        assert machine.config.read_bytes().startswith(example)


def test_without_an_example_the_first_config_is_safe(mounts: Mounts) -> None:
    machine = mounts("a")
    config = yaml.safe_load((machine.store / CONFIG).read_text())
    assert config["host"] == "127.0.0.1"
    assert len(config["api-keys"][0]) > 30
    assert stat.S_IMODE((machine.store / CONFIG).stat().st_mode) == 0o600


def test_an_example_that_is_no_config_refuses_the_start(mounts: Mounts) -> None:
    machine = mounts("a", start=False)
    example = put(machine.home, "config.example.yaml", b"- s3cr3t\n- list\n")
    with launched(machine) as process:
        assert process.wait(60) == 3
    assert str(example) in machine.log()
    assert "s3cr3t" not in machine.log()
    assert tree_of(machine.store) == {}
    example.unlink()
    with machine:
        assert (machine.store / CONFIG).exists()


def test_the_example_never_replaces_a_config(mounts: Mounts, tmp_path: Path) -> None:
    put(tmp_path / "store", CONFIG, b"port: 1\n")
    machine = mounts("a", start=False)
    put(machine.home, "config.example.yaml", b"port: 2\n")
    with machine:
        assert (machine.store / CONFIG).read_bytes() == b"port: 1\n"


def test_tokens_alone_need_no_config(mounts: Mounts) -> None:
    machine = mounts("a", "--subdir", "auths")
    assert tree_of(machine.store) == {}
    put(machine.path, "a.json", token(1))
    assert tree_of(machine.store) == {"auths/a.json": token(1)}


@pytest.mark.parametrize("turn", range(scaled(20, 2)))
def test_two_machines_that_start_at_once_end_with_one_tree(mounts: Mounts, turn: int) -> None:
    machines = two_old_machines(mounts)
    with launched(machines[0]), launched(machines[1]):
        check_both(machines)


def test_two_machines_that_take_in_the_same_file_at_one_moment(mounts: Mounts) -> None:
    machines = two_old_machines(mounts)
    with into_one_commit(machines, "auths/common.json"):
        check_both(machines)


def test_two_machines_that_make_the_first_config_at_one_moment(mounts: Mounts) -> None:
    machines = [mounts(name, start=False) for name in "ab"]
    with into_one_commit(machines, CONFIG):
        for machine in machines:
            until(partial(agrees_on_the_config, machine), f"one config\n{machine.log()}", 60)
        keys = {machine.config.read_text().partition("api-keys:")[2][:40] for machine in machines}
        assert len(keys) == 1
        assert [machine.kept("found") for machine in machines] == [{}, {}]
        assert [machine.stop() for machine in machines] == [0, 0]


def two_old_machines(mounts: Mounts) -> list[Mount]:
    """Both hold files of a native store, of which one differs."""
    machines = [mounts(name, start=False) for name in "ab"]
    for machine in machines:
        put(machine.root, "auths/common.json", token(1))
        put(machine.root, "auths/other.json", token(f"of {machine.base.name}"))
    return machines


@contextmanager
def into_one_commit(machines: list[Mount], path: str) -> Iterator[None]:
    """Both have decided to put `path` before either of them is let."""
    hangs = [machine.fault("commit.hang") for machine in machines]
    with launched(machines[0]), launched(machines[1]):
        for machine in machines:
            until(partial(wants_to_put, machine, path), f"{path} is to be made", 60)
        for hang in hangs:
            hang.unlink()
        yield


def check_both(machines: list[Mount]) -> None:
    """Both are mounted over one tree; what lost lies in found/."""
    for machine in machines:
        until(partial(agrees_on_the_config, machine), f"it is mounted\n{machine.log()}", 60)
    stored = tree_of(machines[0].store)
    assert stored.keys() == {CONFIG, "auths/common.json", "auths/other.json"}
    for machine in machines:
        until(partial(holds, machine, stored), "the mirror is the store")
        other = machine.auths / "other.json"
        until(other.exists, "the name is raised, if it came after the mount was made")
        assert other.read_bytes() == stored["auths/other.json"]
    found = [data for machine in machines for data in machine.kept("found").values()]
    assert {*found, stored["auths/other.json"]} == {token("of a"), token("of b")}
    assert [machine.stop() for machine in machines] == [0, 0]


def agrees_on_the_config(machine: Mount) -> bool:
    """Whether it is mounted, and its mirror holds the config that the store holds."""
    try:
        stored = (machine.store / CONFIG).read_bytes()
        return machine.config.exists() and (machine.root / CONFIG).read_bytes() == stored
    except FileNotFoundError:  # the store has none yet; the mirror's writer follows the mount
        return False


def holds(machine: Mount, stored: dict[str, bytes]) -> bool:
    try:
        return tree_of(machine.root) == stored
    except FileNotFoundError:  # the mirror's writer is at work
        return False


def wants_to_put(machine: Mount, path: str) -> bool:
    return machine.commits() == [[["put", path]]]
