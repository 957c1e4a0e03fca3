"""The stand-in believes and misses what the proxy does; on a plain directory."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.standin_client import StandIn
from tests.mount.standin_files import marshal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = "port: 8317\nrequest-retry: 7\n"
OLD = {"type": "claude", "access_token": "old", "disabled": False}
NEW = {"type": "claude", "access_token": "new", "disabled": False}
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "config.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


@pytest.fixture
def auths(tmp_path: Path) -> Path:
    path = tmp_path / "auths"
    (path / "team").mkdir(parents=True)
    (path / "a.json").write_bytes(marshal(OLD))
    (path / "team" / "deep.json").write_bytes(marshal(OLD))
    return path


@pytest.fixture
def standin(config: Path, auths: Path) -> Iterator[StandIn]:
    with StandIn(config, auths) as running:
        yield running


def poke(path: Path) -> None:
    """`touch -m`: sets the modification time only, which no call of Python's can."""
    libc = ctypes.CDLL(None, use_errno=True)
    times = (ctypes.c_long * 4)(0, UTIME_OMIT, 0, UTIME_NOW)
    assert libc.utimensat(-100, os.fsencode(path), times, 0) == 0


def exchange(one: Path, other: Path) -> None:
    """Renames both at once (RENAME_EXCHANGE), so that neither name is ever absent."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


def change_unseen(path: Path, old: bytes, new: bytes) -> None:
    """Changes bytes in place through a mapping, which raises no event."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        at = memory.find(old)
        memory[at : at + len(old)] = new


def test_everything_is_loaded_at_start(standin: StandIn, auths: Path, config: Path) -> None:
    belief = standin.belief()
    assert set(belief.credentials) == {"a.json", "team/deep.json"}
    assert belief.config_text == CONFIG
    assert belief.config_watch_alive
    assert belief.auth_watch_alive
    assert standin.agrees_with(auths, config) == ""


def test_subdirectories_are_loaded_at_start_only(standin: StandIn, auths: Path) -> None:
    (auths / "team" / "deep.json").write_bytes(marshal(NEW))
    (auths / "team" / "late.json").write_bytes(marshal(NEW))
    (auths / "UPPER.JSON").write_bytes(marshal(NEW))
    belief = standin.settle()
    assert set(belief.credentials) == {"a.json", "team/deep.json"}
    assert belief.credentials["team/deep.json"].document == OLD


def test_it_does_not_start_without_a_config(tmp_path: Path, auths: Path) -> None:
    with pytest.raises(FileNotFoundError), StandIn(tmp_path / "absent.yaml", auths):
        pass


def test_an_empty_file_is_ignored_until_it_is_written(standin: StandIn, auths: Path) -> None:
    (auths / "n.json").touch()
    belief = standin.wait_until(lambda b: b.outcomes.get("empty", 0) > 0)
    assert "n.json" not in belief.credentials
    assert belief.first_reads == {"n.json": "empty"}
    (auths / "n.json").write_bytes(marshal(NEW))
    belief = standin.wait_until(lambda b: "n.json" in b.credentials)
    assert belief.credentials["n.json"].document == NEW


def test_emptying_a_known_file_changes_nothing(standin: StandIn, auths: Path) -> None:
    os.truncate(auths / "a.json", 0)
    belief = standin.wait_until(lambda b: b.outcomes.get("empty", 0) > 0)
    assert belief.credentials["a.json"].document == OLD


def test_torn_json_is_dropped_until_the_next_event(standin: StandIn, auths: Path) -> None:
    with (auths / "t.json").open("wb", buffering=0) as file:
        file.write(marshal(NEW)[:10])
        belief = standin.wait_until(lambda b: b.outcomes.get("refused", 0) > 0)
        assert "t.json" not in belief.credentials
        assert belief.first_reads["t.json"] in ("torn", "empty")  # CREATE may be read before
        assert belief.incomplete > 0
        file.write(marshal(NEW)[10:])
    standin.wait_until(lambda b: "t.json" in b.credentials)


def test_a_file_moved_in_is_complete_at_its_first_read(standin: StandIn, auths: Path) -> None:
    (auths / "n.tmp").write_bytes(marshal(NEW))
    (auths / "n.tmp").rename(auths / "n.json")
    belief = standin.wait_until(lambda b: "n.json" in b.credentials)
    assert belief.first_reads == {"n.json": "complete"}


def test_a_value_that_is_no_object_is_not_believed(
    standin: StandIn, auths: Path, config: Path
) -> None:
    (auths / "list.json").write_bytes(b"[1,2]")
    belief = standin.wait_until(lambda b: b.outcomes.get("refused", 0) > 0)
    assert "list.json" not in belief.credentials
    assert belief.incomplete == 0
    assert standin.agrees_with(auths, config) == ""


def test_touch_does_nothing(standin: StandIn, auths: Path, config: Path) -> None:
    change_unseen(auths / "a.json", b'"old"', b'"new"')
    os.utime(auths / "a.json")
    os.utime(config)
    belief = standin.settle()
    assert belief.counts == {"auths.ATTRIB": 1, "config.ATTRIB": 1}
    assert belief.credentials["a.json"].document == OLD
    assert "other values" in standin.agrees_with(auths, config)


def test_setting_the_modification_time_alone_is_a_modification(
    standin: StandIn, auths: Path, config: Path
) -> None:
    change_unseen(auths / "a.json", b'"old"', b'"new"')
    change_unseen(config, b"7\n", b"9\n")
    poke(auths / "a.json")
    poke(config)
    belief = standin.settle()
    assert belief.counts == {"auths.MODIFY": 1, "config.MODIFY": 1}
    assert standin.agrees_with(auths, config) == ""


def test_a_removed_and_recreated_file_is_a_modification(standin: StandIn, auths: Path) -> None:
    (auths / "next.tmp").write_bytes(marshal(NEW))
    for number in range(10):  # keeps the event loop busy until a.json is there again
        (auths / f"{number}.json").touch()
        (auths / f"{number}.json").unlink()
    (auths / "a.json").unlink()
    (auths / "next.tmp").rename(auths / "a.json")
    belief = standin.settle()
    assert belief.credentials["a.json"].document == NEW
    assert "removed" not in belief.outcomes


def test_the_second_of_two_quick_deletes_is_lost(
    standin: StandIn, auths: Path, config: Path
) -> None:
    for attempt in range(5):  # again where the machine was too slow to do it within a second
        path = auths / f"g{attempt}.json"
        for _ in range(2):
            path.write_bytes(marshal(NEW))
            standin.wait_until(lambda b, name=path.name: name in b.credentials)  # type: ignore[misc]
            path.unlink()
            belief = standin.settle()
        if "debounced" in belief.outcomes:
            break
    assert path.name in belief.credentials
    assert standin.agrees_with(auths, config) == f"{path.name}: believed, but not on disk (a ghost)"
    with pytest.raises(AssertionError, match="a ghost"):
        standin.wait_until(lambda b: path.name not in b.credentials, deadline=0.1)


def test_config_is_reloaded_when_written_in_place(standin: StandIn, config: Path) -> None:
    config.write_text("port: 1\n")
    standin.wait_until(lambda b: b.config_text == "port: 1\n")
    standin.save_config("port", "2")
    standin.save_config("debug", "true")
    assert config.read_text() == "port: 2\ndebug: true\n"
    belief = standin.settle()
    assert belief.config_text == "port: 2\ndebug: true\n"
    assert belief.config_watch_alive


@pytest.mark.parametrize(("text", "outcome"), [("", "empty"), ("a: [\n", "refused")])
def test_an_empty_or_broken_config_is_ignored(
    standin: StandIn, config: Path, text: str, outcome: str
) -> None:
    config.write_text(text)
    belief = standin.wait_until(lambda b: f"config.{outcome}" in b.outcomes)
    assert belief.config_text == CONFIG


def test_rename_over_the_config_deafens_for_ever(standin: StandIn, config: Path) -> None:
    fresh = config.with_suffix(".new")
    fresh.write_text("request-retry: 10\n")
    fresh.rename(config)
    belief = standin.wait_until(lambda b: not b.config_watch_alive)
    assert belief.counts["config.DELETE_SELF"] == 1
    config.write_text("request-retry: 11\n")
    assert standin.settle().config_text == CONFIG
    standin.save_config_from_memory("port", "1")
    assert config.read_text() == "port: 1\nrequest-retry: 7\n"


def test_a_config_moved_away_is_read_once_more(standin: StandIn, config: Path) -> None:
    fresh = config.with_suffix(".new")
    fresh.write_text("port: 5\n")
    exchange(config, fresh)
    belief = standin.settle()
    assert (belief.config_text, belief.config_watch_alive) == ("port: 5\n", False)


def test_the_loss_of_the_directory_is_reported(standin: StandIn, auths: Path) -> None:
    auths.rename(auths.with_name("elsewhere"))
    assert not standin.settle().auth_watch_alive
    with pytest.raises(FileNotFoundError) as failed:
        standin.read("a.json")
    assert failed.value.filename == "read"
