"""Log lines reach the root's own file, which nobody else can read."""

from __future__ import annotations

import logging
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from storefs import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    log = logging.getLogger()
    before, level = list(log.handlers), log.level
    yield
    for handler in [handler for handler in log.handlers if handler not in before]:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)


def test_the_log_file_is_private_from_the_start(tmp_path: Path) -> None:
    (tmp_path / ".storefs").mkdir()
    logs.start("info", foreground=True)
    logs.open_log(tmp_path)
    logging.getLogger("storefs.x").info("hello %d", 1)
    file = tmp_path / logs.LOG
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "INFO storefs.x: hello 1" in file.read_text()


def test_the_log_is_rotated_and_what_is_rotated_stays_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_BYTES", 200)
    (tmp_path / ".storefs").mkdir()
    logs.open_log(tmp_path)
    for number in range(20):
        logging.getLogger("storefs.x").warning("line %d of a log that grows", number)
    files = sorted((tmp_path / ".storefs").iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_below_the_level_nothing_is_logged(tmp_path: Path) -> None:
    (tmp_path / ".storefs").mkdir()
    logs.start("warning", foreground=True)
    logs.open_log(tmp_path)
    logging.getLogger("storefs.x").info("quiet")
    assert (tmp_path / logs.LOG).read_text() == ""


def test_a_daemon_shows_warnings_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_SYSLOG", tmp_path / "no-syslog")
    logs.start("info", foreground=False)
    logging.getLogger("storefs.x").info("quiet")
    logging.getLogger("storefs.x").warning("loud")
    shown = capsys.readouterr().err
    assert "loud" in shown
    assert "quiet" not in shown


def test_a_daemon_logs_to_syslog_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_SYSLOG", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        logs.start("info", foreground=False)
        logging.getLogger("storefs.x").info("hello")
        record = receiver.recv(1000).decode()
    assert f"storefs[{os.getpid()}]: INFO storefs.x: hello" in record
