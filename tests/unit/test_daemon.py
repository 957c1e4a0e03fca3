"""The parent of a daemon returns when it is ready, or with what went wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from storefs import daemon

SOURCE = Path(daemon.__file__).parent.parent

PROGRAM = """
import os, signal, sys
from storefs.daemon import detach
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from storefs.errors import Exit, Quit

def serve(ready):
    {body}

sys.exit(detach(serve, "see the log"))
"""


def run(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """A program whose daemon does `body`; ends when every holder of its output has ended."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OUT": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_parent_prints_what_the_daemon_says_when_it_is_ready(tmp_path: Path) -> None:
    done = run(tmp_path, 'ready("root: /r\\nall is well"); return Exit.DONE')
    assert (done.returncode, done.stdout, done.stderr) == (0, "root: /r\nall is well\n", "")


def test_the_daemon_goes_on_without_the_terminal(tmp_path: Path) -> None:
    """It waits for a pipe that is written after its parent ended and its output was closed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    body = """
    facts = os.environ["OUT"] + "/facts"
    ready("up")
    order = open(os.environ["OUT"] + "/pipe").read()
    print("lost"); print("lost", file=sys.stderr)
    umask = os.umask(0)
    streams = {os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)}
    session = os.getsid(0) != os.getpid()
    with open(facts, "w") as file:
        print(order, os.getcwd(), oct(umask), streams, session, file=file)
    os.rename(facts, facts + ".done")
    open(os.environ["OUT"] + "/pipe", "w").write("done")
    return Exit.DONE
"""
    done = run(tmp_path, body.strip())
    assert (done.returncode, done.stdout) == (0, "up\n")
    pipe.write_text("go")
    assert pipe.read_text() == "done"
    facts = (tmp_path / "facts.done").read_text().strip()
    assert facts == "go / 0o77 {'/dev/null'} True"


def test_a_quit_before_ready_is_the_parents_answer(tmp_path: Path) -> None:
    done = run(tmp_path, 'raise Quit(Exit.UNREACHABLE, "no backend: look\\nthere")')
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "storefs: no backend: look\nthere\n"


@pytest.mark.parametrize(
    "body", ["os.kill(os.getpid(), 9)", "return Exit.DONE", "raise SystemExit(3)"]
)
def test_a_daemon_that_dies_without_a_word_is_a_failure_that_names_the_log(
    tmp_path: Path, body: str
) -> None:
    done = run(tmp_path, body)
    assert (done.returncode, done.stdout) == (1, "")
    assert "see the log" in done.stderr


def test_an_unexpected_exception_shows_its_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, 'raise RuntimeError("oops")')
    assert done.returncode == 1
    assert "RuntimeError: oops" in done.stderr


def test_a_person_who_gives_up_leaves_no_daemon_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    body = """
    import signal
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with open(os.environ["OUT"] + "/pipe", "w") as pipe:
        pipe.write("up")
    signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body.strip())],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OUT": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert (tmp_path / "pipe").read_text() == "up"
        program.send_signal(signal.SIGINT)
        # End of file: the daemon, which holds this output too, has ended.
        assert program.communicate(timeout=60)[0] == b""
    assert program.returncode == -signal.SIGINT


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"storefs-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}" if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        daemon.notify("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    daemon.notify("READY=1")
    assert not caplog.records


def test_a_deaf_systemd_is_a_warning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    daemon.notify("READY=1")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
