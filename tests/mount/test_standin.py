"""The stand-in writes as the proxy writes; on a plain directory."""

from __future__ import annotations

import errno
import json
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.standin_client import StandIn, StandInFailed
from tests.mount.standin_files import marshal, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = "port: 8317\nrequest-retry: 7\n"
OLD = {"type": "claude", "access_token": "old", "disabled": False}
NEW = {"type": "claude", "access_token": "new", "disabled": False}


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


def change_unseen(path: Path, old: bytes, new: bytes) -> None:
    """Changes bytes in place through a mapping, which raises no event."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        at = memory.find(old)
        memory[at : at + len(old)] = new


def test_save_truncates_in_place(standin: StandIn, auths: Path) -> None:
    before = (auths / "a.json").stat()
    standin.save_from_memory("a.json", access_token="new")
    after = (auths / "a.json").stat()
    assert after.st_ino == before.st_ino
    assert (auths / "a.json").read_bytes() == marshal(NEW)
    assert standin.settle().counts.keys() == {"auths.MODIFY"}


def test_save_of_an_equal_value_writes_nothing(standin: StandIn, auths: Path, config: Path) -> None:
    spaced = json.dumps(NEW, indent=2).encode()
    (auths / "a.json").write_bytes(spaced)
    events = standin.settle().counts
    standin.save_token("a.json", NEW)
    assert (auths / "a.json").read_bytes() == spaced
    assert standin.settle().counts == events
    assert standin.agrees_with(auths, config) == ""


def test_save_of_a_new_token_creates_it_canonically(standin: StandIn, auths: Path) -> None:
    standin.save_token("n@x.io.json", {"type": "codex", "note": "<&>"})
    path = auths / "n@x.io.json"
    assert path.read_bytes() == rb'{"disabled":false,"note":"\u003c\u0026\u003e","type":"codex"}'
    assert path.stat().st_mode & 0o777 == 0o600
    assert standin.settle().first_reads.keys() == {"n@x.io.json"}


def test_a_disabled_token_whose_file_is_gone_is_not_saved(standin: StandIn, auths: Path) -> None:
    standin.save_token("gone.json", {"type": "codex", "disabled": True})
    assert not (auths / "gone.json").exists()


def test_a_stale_save_overwrites_what_nobody_announced(standin: StandIn, auths: Path) -> None:
    change_unseen(auths / "a.json", b'"old"', b'"new"')
    standin.save_from_memory("a.json", note="mine")
    assert parse((auths / "a.json").read_bytes()) == {**OLD, "note": "mine"}


def test_login_is_readable_by_others_and_keeps_extra_fields(
    standin: StandIn, auths: Path, config: Path
) -> None:
    (auths / "l.json").write_text('{"note":"kept","access_token":"old"}')
    (auths / "l.json").chmod(0o644)
    standin.login("l.json", {"type": "claude", "access_token": "new"})
    standin.login("fresh.json", {"type": "claude"})
    assert (
        auths / "l.json"
    ).read_text() == '{"type":"claude","access_token":"new","note":"kept"}\n'
    assert (auths / "fresh.json").stat().st_mode & 0o777 == 0o644
    standin.settle()
    assert standin.agrees_with(auths, config) == ""


def test_upload_is_written_twice(standin: StandIn, auths: Path, config: Path) -> None:
    assert standin.upload("u.json", b'{ "type": "kimi" }\n')
    assert (auths / "u.json").read_bytes() == b'{"disabled":false,"type":"kimi"}'
    standin.settle()
    assert standin.agrees_with(auths, config) == ""
    assert not standin.upload("bad.json", b"[1]")
    assert (auths / "bad.json").read_bytes() == b"[1]"
    assert "bad.json" not in standin.settle().credentials


def test_delete_is_believed_after_its_event(standin: StandIn, auths: Path, config: Path) -> None:
    standin.delete("a.json")
    belief = standin.wait_until(lambda b: "a.json" not in b.credentials)
    assert belief.outcomes == {"removed": 1}
    assert standin.agrees_with(auths, config) == ""
    with pytest.raises(FileNotFoundError):
        standin.delete("a.json")


def test_put_config_leaves_no_temporary_file(standin: StandIn, config: Path, auths: Path) -> None:
    inode = config.stat().st_ino
    standin.put_config("port: 3\n")
    with pytest.raises(OSError, match="does not parse") as failed:
        standin.put_config("a: [\n")
    assert failed.value.errno == errno.EINVAL
    assert os.listdir(config.parent) == ["config.yaml"]
    assert (config.read_text(), config.stat().st_ino) == ("port: 3\n", inode)
    standin.settle()
    assert standin.agrees_with(auths, config) == ""


def test_other_files_come_and_go(standin: StandIn, auths: Path) -> None:
    assert standin.oauth("codex", "s1", '{"code":"c"}') == '{"code":"c"}'
    assert standin.cooldown("claude-z@x.io.json", {"status": 429}) == "claude-z_x.io.cds"
    assert standin.cooldown("claude-z@x.io.json", {"status": 0}) == "claude-z_x.io.cds"
    standin.append_log("one\n", "two\n")
    standin.append_log("three\n")
    backup = standin.rotate_log()
    assert standin.read("claude-z_x.io.cds") == b'{"status":0}'
    assert (auths / "logs" / backup).read_text() == "one\ntwo\nthree\n"
    assert (auths / "logs" / "main.log").read_bytes() == b""
    assert {path.name for path in auths.iterdir()} == {
        "a.json",
        "team",
        "logs",
        "claude-z_x.io.cds",
    }
    assert standin.settle().outcomes == {}


def test_a_large_file_is_read_whole(standin: StandIn, auths: Path) -> None:
    data = os.urandom(200_000)
    (auths / "large.bin").write_bytes(data)
    assert standin.read("large.bin") == data


def test_a_killed_one_is_noticed(standin: StandIn) -> None:
    standin.kill()
    with pytest.raises(StandInFailed, match="died"):
        standin.belief()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody")
def test_it_runs_as_whom_it_is_told(config: Path, auths: Path) -> None:
    with StandIn(config, auths, user=(os.getuid(), os.getgid())) as standin:
        standin.save_from_memory("a.json", access_token="new")
    assert parse((auths / "a.json").read_bytes()) == NEW
