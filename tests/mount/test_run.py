"""`storefs run` by real processes: its command's life, its mount's, and what a terminal sends."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import environment, until
from tests.mount.processes import Place, ended, mounted, put, token
from tests.mount.terminal import as_a_login
from tests.servers.postgres import own_cluster  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster

pytestmark = pytest.mark.user


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "one") as place:
        put(place.store, "config/config.yaml", b"port: 1\n")
        put(place.store, "auths/a.json", token(1))
        yield place


def words(place: Place, *more: str) -> list[str]:
    """`storefs run` with this machine's places."""
    places = ["--mount", place.mnt, "--local-store", place.store, "--mirror", place.root]
    return [sys.executable, "-m", "storefs", "run", *map(str, places), *more]


def run(place: Place, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(place, *more), env=environment(place.home, **env), cwd=place.home,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


class Running:
    """`storefs run` under way, its command in a shell that says when it is up."""

    def __init__(self, place: Place, script: str, *options: str) -> None:
        self.place = place
        command = [*words(place, *options), "--", "sh", "-c", f"{script}"]
        with open(place.base / "said", "wb") as said:
            self.process = subprocess.Popen(
                command, env=environment(place.home), cwd=place.home,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return (self.place.base / "said").read_text()

    def expect(self, text: str, count: int = 1) -> None:
        until(lambda: self.said().count(text) >= count, f"{text!r} said, but {self.said()!r}", 60)


UP = "echo up $$; "
WAIT = "while :; do sleep 0.05; done"


def pid_said(text: str) -> int:
    return int(text.split("up ")[1].split()[0])


def test_the_command_sees_the_whole_tree_and_the_mount_ends_with_it(place: Place) -> None:
    script = "cat {config} {auths}/a.json; ls {mount}; printf '{\"b\": 2}' > {auths}/b.json"
    done = run(place, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f'port: 1\nauth-dir: "{place.mnt}/auths"\n' + token(1).decode() + "auths\nconfig\n"
    )
    assert (place.store / "auths/b.json").read_bytes() == b'{"b": 2}'
    assert not mounted(place.mnt)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -USR1 $$"], 128 + signal.SIGUSR1),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_exit_code_is_the_commands_as_in_a_shell(
    place: Place, command: list[str], code: int
) -> None:
    done = run(place, "--", *command)
    assert done.returncode == code
    if code in (126, 127):
        assert f"storefs: {command[0]}: " in done.stderr
    assert not mounted(place.mnt)


def test_without_a_command_nothing_is_mounted(place: Place) -> None:
    done = run(place)
    assert done.returncode == 2
    assert "name the command" in done.stderr
    assert not place.root.exists()


def test_a_store_that_is_down_starts_no_command(place: Place) -> None:
    done = run(
        place, "--", "touch", "started", PGSTORE_DSN="postgresql://u:secretword@127.0.0.1:9/x"
    )
    assert done.returncode == 4
    assert "secretword" not in done.stderr
    assert not (place.home / "started").exists()
    assert not mounted(place.mnt)


def test_a_store_that_went_down_is_worked_without(
    place: Place,
    own_cluster: Cluster,  # noqa: F811 - a fixture
) -> None:
    database = own_cluster.database()
    first = run(place, "--", "sh", "-c", "echo '{}' > {auths}/a.json", **database.env())
    assert (first.returncode, first.stderr) == (0, "")
    own_cluster.stop()
    script = "cat {auths}/a.json; echo '{\"b\": 2}' > {auths}/b.json"
    options = "--deadline", "2", "--stop-timeout", "1"
    second = run(place, *options, "--", "sh", "-c", script, **database.env())
    assert (second.returncode, second.stdout) == (0, "{}\n")
    assert "1 changes are not sent: the next start of this mount sends them" in second.stderr
    own_cluster.start()
    assert run(place, "--", "true", **database.env()).returncode == 0
    assert database.run("SELECT id FROM auth_store ORDER BY 1") == [("a.json",), ("b.json",)]


def test_the_env_file_reaches_the_command_and_the_stores_variables_do_not(place: Place) -> None:
    (place.home / ".env").write_text("MANAGEMENT_PASSWORD=opensesame\nGITSTORE_GIT_URL=\n")
    more = {"OBJECTSTORE_BUCKET": "b1", "pgstore_schema": "s1"}
    done = run(place, "--backend", "local", "--", "env", **more)
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert shown["MANAGEMENT_PASSWORD"] == "opensesame"
    for name in ("PGSTORE_DSN", "OBJECTSTORE_SECRET_KEY", "GITSTORE_GIT_TOKEN", "GITSTORE_GIT_URL"):
        assert shown[name] == ""
        assert shown[name.lower()] == ""
    assert (shown["OBJECTSTORE_BUCKET"], shown["pgstore_schema"]) == ("", "")


def test_a_live_mount_is_used_and_left(place: Place) -> None:
    assert place.mount("--subdir", "auths").returncode == 0
    daemon = place.daemon()
    done = run(place, "--", "sh", "-c", "cat {auths}/a.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, token(1).decode(), "")
    assert place.daemon() == daemon
    assert mounted(place.mnt)
    refused = run(place, "--", "cat", "{config}")
    assert refused.returncode == 2
    assert "shows auths/ alone" in refused.stderr


def test_signals_are_passed_on_once(place: Place) -> None:
    script = "n=0; trap 'n=$((n+1)); echo got $n' TERM; trap 'exit 5' USR1; " + UP + WAIT
    with Running(place, script) as running:
        running.expect("up")
        running.process.send_signal(signal.SIGTERM)
        running.expect("got 1")
        assert mounted(place.mnt)  # a command that goes on keeps its mount
        running.process.send_signal(signal.SIGUSR1)
        assert running.process.wait(30) == 5
        assert running.said().count("got") == 1
    assert not mounted(place.mnt)


def test_what_a_command_leaves_in_the_background_is_not_waited_for(place: Place) -> None:
    with Running(place, "sleep 1000 & echo up $!; exit 3") as running:
        assert running.process.wait(60) == 3
        left = pid_said(running.said())
        os.kill(left, signal.SIGKILL)
    assert not mounted(place.mnt)


@pytest.mark.parametrize("live", [False, True])
def test_a_mount_that_dies_takes_its_command_with_it(place: Place, live: bool) -> None:
    """One that ignores SIGTERM too; the supervisor sees a failure."""
    if live:
        assert place.mount().returncode == 0
    script = "trap '' TERM; " + UP + WAIT
    with Running(place, script, "--stop-timeout", "1") as running:
        running.expect("up")
        command = pid_said(running.said())
        os.kill(place.daemon(), signal.SIGKILL)
        assert running.process.wait(60) == 1
        assert ended(command, 0)
        assert "the mount is gone" in running.said()
    again = run(place, "--", "cat", "{auths}/a.json")
    assert (again.returncode, again.stdout) == (0, token(1).decode())


def test_an_unmount_stops_the_command(place: Place) -> None:
    with Running(place, "trap 'echo bye; exit 0' TERM; " + UP + WAIT) as running:
        running.expect("up")
        assert place.storefs("umount", place.mnt).returncode == 0
        assert running.process.wait(60) == 1
        assert "bye" in running.said()


def test_a_killed_run_leaves_neither_mount_nor_command(place: Place) -> None:
    with Running(place, UP + WAIT) as running:
        running.expect("up")
        command, daemon = pid_said(running.said()), place.daemon()
        running.process.kill()
        assert ended(command, 30)
        assert ended(daemon, 30)
    assert not mounted(place.mnt)


def test_a_rename_onto_the_config_restarts_the_command(place: Place) -> None:
    with Running(place, UP + WAIT, "--restart-on-config-replace") as running:
        running.expect("up")
        for count in (2, 3):
            new = place.mnt / "config/new"
            new.write_bytes(b"port: %d\n" % count)
            new.rename(place.mnt / "config/config.yaml")
            running.expect("up", count)
        (place.mnt / "config/config.yaml").write_bytes(b"port: 9\n")
        running.process.terminate()
        assert running.process.wait(60) == 128 + signal.SIGTERM
        assert running.said().count("up") == 3
    assert (place.store / "config/config.yaml").read_bytes() == b"port: 9\n"


def test_no_secret_is_in_a_process_list(place: Place) -> None:
    (place.home / ".env").write_text("MANAGEMENT_PASSWORD=opensesame\n")
    with Running(place, UP + WAIT) as running:
        running.expect("up")
        pids = running.process.pid, place.daemon(), pid_said(running.said())
        for pid in pids:
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                assert b"opensesame" not in line.read()
        running.process.terminate()
        running.process.wait(60)


class OnTerminal:
    """A program that leads a session on a terminal of its own, as in a person's shell."""

    def __init__(self, command: list[str], place: Place) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            as_a_login()
            os.chdir(place.home)
            os.execve(command[0], command, environment(place.home, TERM="vt100"))
        self.shown = b""

    def expect(self, text: bytes) -> None:
        def met() -> bool:
            if text not in self.shown and select.select([self.fd], [], [], 0.1)[0]:
                self.shown += os.read(self.fd, 4096)
            return text in self.shown

        until(met, f"{text!r} shown", 60)

    def send(self, keys: bytes) -> None:
        self.shown = b""
        os.write(self.fd, keys)

    def end(self) -> int:
        """The exit code, when everything it said is read."""
        try:
            while data := os.read(self.fd, 4096):
                self.shown += data
        except OSError:  # EIO: nobody has the terminal any more
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


LOGIN = r"""
import os, sys
assert os.getpgrp() == os.tcgetpgrp(0)
print("code:", flush=True)
code = sys.stdin.readline().strip()
open(sys.argv[1] + "/new.json", "w").write('{"type": "claude", "access_token": "%s"}' % code)
"""


def test_a_login_has_the_terminal_and_its_token_is_in_the_store(place: Place) -> None:
    terminal = OnTerminal(words(place, "--", sys.executable, "-c", LOGIN, "{auths}"), place)
    terminal.expect(b"code:")
    terminal.send(b"c0de\n")
    assert terminal.end() == 0
    assert b"Traceback" not in terminal.shown
    stored = (place.store / "auths/new.json").read_bytes()
    assert stored == b'{"type": "claude", "access_token": "c0de"}'
    assert not mounted(place.mnt)


COUNTS = r"""
import os, signal, sys
seen = []
def say(*words):  # not print: a handler may come while another is under way
    os.write(1, " ".join(map(str, words)).encode() + b"\n")
def note(*_):
    seen.append(1)
    say("int", len(seen))
signal.signal(signal.SIGINT, note)
say("up")
for line in sys.stdin:
    say("seen", len(seen))
    if line == "end\n":
        open(sys.argv[1] + "/last.json", "w").write("{}")
        sys.exit(9)
"""


def test_ctrl_c_twice_reaches_the_command_once_each_and_the_mount_lives_on(place: Place) -> None:
    terminal = OnTerminal(words(place, "--", sys.executable, "-c", COUNTS, "{auths}"), place)
    terminal.expect(b"up")
    for count in (b"1", b"2"):
        terminal.send(b"\x03")
        terminal.expect(b"int " + count)
        terminal.send(b"\n")
        terminal.expect(b"seen " + count)
    terminal.send(b"end\n")
    assert terminal.end() == 9
    assert b"Traceback" not in terminal.shown
    assert (place.store / "auths/last.json").read_bytes() == b"{}"
    assert not mounted(place.mnt)


def test_ctrl_c_twice_ends_a_command_that_lets_it(place: Place) -> None:
    terminal = OnTerminal(words(place, "--", "sh", "-c", UP + WAIT), place)
    terminal.expect(b"up")
    terminal.send(b"\x03\x03")
    assert terminal.end() == 128 + signal.SIGINT
    assert b"Traceback" not in terminal.shown
    assert not mounted(place.mnt)


def test_another_mount_in_the_place_of_the_used_one_is_noticed(place: Place) -> None:
    assert place.mount().returncode == 0
    with Running(place, UP + WAIT) as running:
        running.expect("up")
        running.process.send_signal(signal.SIGSTOP)  # it sees nothing of what happens now
        assert place.storefs("umount", place.mnt).returncode == 0
        assert place.mount().returncode == 0
        running.process.send_signal(signal.SIGCONT)
        assert running.process.wait(60) == 1
        assert "the mount is gone" in running.said()
    assert mounted(place.mnt)
