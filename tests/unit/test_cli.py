"""The command line: usage, help, and how `mount` is started. A stand-in serves the mount."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import storefs
from storefs import cli, device, mountinfo
from storefs.cli import line
from storefs.errors import Exit, Quit
from storefs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# See test_mountpoint.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def call(*argv: object) -> int:
    return cli.main([str(word) for word in argv])


@pytest.mark.parametrize("argv", [[], ["frob"], ["mount", "--back", "local"], ["status", "a", "b"]])
def test_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert "usage: storefs" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "mount", "umount", "status", "sync"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown or "exit codes:" in shown


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"storefs {storefs.__version__}\n"


def test_every_option_of_mount_is_a_setting() -> None:
    args = vars(line.parser().parse_args(["mount"]))
    names = set(args) - {"run", "env_file"}
    assert names <= set(Settings.__dataclass_fields__)
    assert all(args[name] is None for name in names)


def test_other_commands_load_no_heavy_module() -> None:
    program = (
        "import sys; from storefs.cli import main; code = main(['status', '/nowhere/at/all']); "
        "print(code, sorted({'trio', 'pyfuse3', 'storefs.mount', 'logging'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(storefs.__file__).parent.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "8 []\n"


def test_the_version_is_told_before_anything_is_loaded() -> None:
    program = (
        "import sys; from storefs.cli import main; code = main(['--version']); "
        "print(code, sorted({'argparse', 'storefs.settings', 'pathlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(storefs.__file__).parent.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"storefs {storefs.__version__}\n0 []\n"


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "storefs", "status", "/nowhere/at/all"],
        env={**os.environ, "PYTHONPATH": str(Path(storefs.__file__).parent.parent)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == Exit.NOT_MOUNTED
    assert done.stderr.startswith("storefs: no storefs is mounted at /nowhere/at/all")


class Served:
    """Stands for storefs.mount."""

    def __init__(self, answer: Callable[[], Exit]) -> None:
        self.answer = answer
        self.settings: list[Settings] = []
        self.cwd = ""

    def serve(self, settings: Settings, ready: Callable[[str], None]) -> Exit:
        self.settings.append(settings)
        self.cwd = os.getcwd()
        ready("root: /r")
        return self.answer()


@pytest.fixture
def restored() -> Iterator[None]:
    """`mount` changes what belongs to the process, which is to be its own."""
    log = logging.getLogger()
    before, level = list(log.handlers), log.level
    umask, modules = os.umask(0o022), list(sys.path)
    yield
    os.umask(umask)
    sys.path[:] = modules
    log.setLevel(level)
    for handler in [handler for handler in log.handlers if handler not in before]:
        log.removeHandler(handler)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: None) -> Path:
    for owner, name in (
        (mountinfo, "_MOUNTINFO"),
        (device, "_DEVICE"),
        (device, "_FUSE_CONF"),
    ):
        (tmp_path / name).touch()
        monkeypatch.setattr(owner, name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/fusermount3").touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith(("STOREFS_", "PGSTORE_", "OBJECTSTORE_", "GITSTORE_")):
            monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_mount_in_the_foreground(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = Served(lambda: Exit.DONE)
    monkeypatch.setattr(storefs, "process", served, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    assert call("mount", ".", "--foreground", "--cache-size", "1M", "--read-only") == 0
    assert capsys.readouterr().out == "root: /r\n"
    (settings,) = served.settings
    assert settings.mountpoint == place
    assert (settings.cache_size, settings.read_only, settings.foreground) == (1 << 20, True, True)
    # Nothing of the process may depend on what it mounts.
    assert served.cwd == "/"
    assert str(place) not in sys.path
    assert os.umask(0) == 0o077


@pytest.mark.parametrize("error", [Quit(Exit.UNREACHABLE, "no backend"), KeyboardInterrupt()])
def test_mount_ends_without_a_traceback(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    def fail() -> Exit:
        raise error

    monkeypatch.setattr(storefs, "process", Served(fail), raising=False)
    code = call("mount", "--foreground")
    assert code == (Exit.UNREACHABLE if isinstance(error, Quit) else 130)
    assert capsys.readouterr().err == ("storefs: no backend\n" if isinstance(error, Quit) else "")


def test_mount_looks_at_the_mount_point_before_anything_else(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STOREFS_NO_SUCH_THING", "1")
    (place.parent / "_MOUNTINFO").write_text(f"1 2 0:39 / {place} rw - fuse.storefs storefs rw\n")
    assert call("mount", ".") == Exit.MOUNT_POINT
    assert "a storefs mount already" in capsys.readouterr().err


def test_mount_with_bad_settings_makes_nothing(place: Path) -> None:
    assert call("mount", "new", "--backend", "s3") == Exit.SETTINGS
    assert not (place / "new").exists()
