"""What a command was told: every option, its default and where it may come from.

Command line > environment (`STOREFS_SOME_OPTION` for `--some-option`) > env files > defaults.
No option takes a secret; messages name options and variables, never their values.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from storefs import envfile, natives, values
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOUNTPOINT = "~/.cli-proxy-api"
LOCAL_STORE = "~/.local/share/storefs"
BACKENDS = ("local", "memory", "postgres", "s3", "git")
_DEADLINES = {"s3": 10.0, "git": 20.0}
_DIR_WAITS = {"git": 10.0}
_POLL_INTERVALS = {"postgres": 5.0, "s3": 5.0, "git": 10.0}
"""What a backend needs by itself, where it differs from the defaults below; seconds."""

_PREFIX = "STOREFS_"
_TEST_PREFIX = "STOREFS_TEST_"
"""The test suite's own switches, no settings."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of a mount. Paths are absolute and may hold links."""

    mountpoint: Path
    directory: Path = Path("/")
    """The working directory of the command: an example config may lie there."""
    foreground: bool = False
    subdir: str = ""
    """"auths" or "config" to mount that part alone, empty for the whole tree."""
    read_only: bool = False
    allow_other: bool = False
    owner: tuple[int, int] | None = None
    """User and group id shown as the owner of every file; None: who mounts."""
    auth_dir: str = ""
    """Shown as `auth-dir`: empty for <mountpoint>/auths, "keep" for what is stored, or a path."""
    backend: str = "local"
    chosen: str = ""
    """One sentence: which backend was chosen by what, and what was ignored."""
    ignored: tuple[str, ...] = ()
    """The variables that name other backends."""
    mirror: Path | None = None
    """The root, if it was named."""
    local_store: Path
    """Where the local backend keeps its documents."""
    cache_size: int = 64 << 20
    """Bytes of document contents kept in memory."""
    max_file_size: int = 16 << 20
    """Bytes of the longest document."""
    deadline: float = 5.0
    """Seconds a call waits for the backend."""
    dir_wait: float = 2.0
    """Seconds `unlink` and `rename` wait for the backend."""
    offline: str = "keep"
    """What a change meets while the backend cannot be reached: it is kept here, or refused."""
    commit: str = "sync"
    """Whether calls return when the backend has the change, or behind: when this disk has it."""
    wait: float = 0.0
    """Seconds to wait at the start for a backend that cannot be reached."""
    stop_timeout: float = 10.0
    """Seconds for sending what is pending when the mount ends."""
    snapshot_interval: float = 60.0
    """Seconds between full snapshots of a backend that sends hints."""
    poll_interval: float = 5.0
    """Seconds between polls of a backend that sends no hints."""
    spin: int = 50
    """Microseconds to look for the next request before sleeping; 0: none."""
    log_level: str = "info"
    config_template: Path | None = None
    """Filled with variables it becomes the first config of an empty backend."""
    config_refresh: bool = False
    """Whether each start commits the filled template when it has changed."""
    move_in: bool = True
    """Whether documents under the mount point are taken in; else they refuse the mount."""
    keep_originals: bool = False
    """Whether what was taken in stays where it was, under the mount."""
    restart_on_config_replace: bool = False
    """Of `run`: whether a rename onto the config, which makes watchers deaf, restarts COMMAND."""
    env_files: tuple[Path, ...] = ()
    """The files that were read."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The merged environment, for backends. Holds secrets: never log or show it."""


def load(argv_options: Mapping[str, object], environ: Mapping[str, str], cwd: Path) -> Settings:
    """Settings from the options given (text or bool, None = not given), environment and files.

    Raises Quit: usage for a bad option, settings for everything else.
    """
    check_names(environ, "the environment")
    files = _env_files(argv_options.get("env_file"), environ, cwd)
    env = dict(environ)
    for found in files.values():
        env = {**found, **env}
    given = {
        name: value
        for name, parse in _parsers(env, cwd).items()
        if (value := _read(name, argv_options, env, parse)) is not None
    }
    backend, chosen, ignored = natives.choose(given.get("backend"), env)
    if given.get("owner") is not None:
        given["allow_other"] = True
    given.setdefault("local_store", locate(LOCAL_STORE, env, cwd))
    for name, own in (
        ("deadline", _DEADLINES), ("dir_wait", _DIR_WAITS), ("poll_interval", _POLL_INTERVALS),
    ):  # fmt: skip
        if backend in own:
            given.setdefault(name, own[backend])
    if given.get("config_refresh") and "config_template" not in given:
        raise Quit(Exit.SETTINGS, "--config-refresh needs --config-template FILE to refresh from")
    given.update(backend=backend, chosen=chosen, ignored=tuple(ignored))
    given.update(env_files=tuple(files), env=MappingProxyType(env))
    mountpoint = locate(argv_options.get("mountpoint"), env, cwd)
    return Settings(mountpoint=mountpoint, directory=cwd, **given)


def locate(text: object, environ: Mapping[str, str], cwd: Path) -> Path:
    """An absolute path from what a person wrote; None: the default mount point.

    Links are not followed, so nothing on any disk is asked. Raises Quit for an empty path.
    """
    path = MOUNTPOINT if text is None else str(text)
    if not path:
        raise Quit(Exit.USAGE, "a path is empty: name one, or leave the option out")
    if path == "~" or path.startswith("~/"):
        path = f"{home(environ)}{path[1:]}"
    # POSIX keeps a leading double slash, which would make two names of one place.
    return Path("/" + os.path.normpath(cwd / path).lstrip("/"))


def home(environ: Mapping[str, str]) -> Path:
    """The home directory. Raises Quit where none is known."""
    path = environ.get("HOME") or _home_of_user()
    if not path or not path.startswith("/"):
        raise Quit(Exit.SETTINGS, "no home directory is known: set HOME to an absolute path")
    return Path(path)


def stop_timeout(argv_options: Mapping[str, object], environ: Mapping[str, str]) -> float:
    """The one setting of `umount`, which must work whatever else is set."""
    value = _read("stop_timeout", argv_options, environ, values.seconds)
    return Settings.stop_timeout if value is None else value


def check_names(found: Mapping[str, str], source: str) -> None:
    """Raises Quit when a STOREFS_* variable in `found` is none of ours."""
    known = {variable(name) for name in _parsers({}, Path("/"))} | {variable("env_file")}
    for name in sorted(found):
        if name in known or not name.startswith(_PREFIX) or name.startswith(_TEST_PREFIX):
            continue
        raise Quit(Exit.SETTINGS, f"unknown variable {name} in {source}: {_advice(name, known)}")


def variable(name: str) -> str:
    """The environment variable of an option."""
    return _PREFIX + name.upper()


def _advice(name: str, known: set[str]) -> str:
    from difflib import get_close_matches  # only an error needs it

    if close := get_close_matches(name, known, n=3, cutoff=0.8):
        return f"did you mean {' or '.join(close)}?"
    return "unset it; `storefs mount --help` lists the options"


def _home_of_user() -> str:
    import pwd  # rarely needed: HOME is set almost everywhere

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def _env_files(
    named: object, environ: Mapping[str, str], cwd: Path
) -> dict[Path, Mapping[str, str]]:
    """The variables of each env file, in order: the first that sets a name wins."""
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, list | tuple) or not named:
        named = [part for part in environ.get(variable("env_file"), "").split(os.pathsep) if part]
    paths = [locate(name, environ, cwd) for name in named]
    if not paths and os.path.isfile(cwd / ".env"):
        paths = [cwd / ".env"]
    return {path: _env_file(path) for path in paths}


def _env_file(path: Path) -> Mapping[str, str]:
    try:
        found = envfile.read(path)
    except OSError as error:
        raise Quit(Exit.SETTINGS, f"cannot read {path}: {error.strerror}") from None
    check_names(found, str(path))
    if variable("env_file") in found:
        raise Quit(Exit.SETTINGS, f"{path} names further env files: use --env-file for each")
    return found


def _read(
    name: str,
    argv: Mapping[str, object],
    env: Mapping[str, str],
    parse: Callable[[str], Any],
) -> Any:
    """One option's value: command line, else environment, else None. Blank means unset."""
    value = argv.get(name)
    if value is None:
        source, code = variable(name), Exit.SETTINGS
        value = env.get(source, "").strip() or None
    else:
        source, code = "--" + name.replace("_", "-"), Exit.USAGE
    if value is None or isinstance(value, bool):
        return value
    try:
        return parse(str(value))
    except ValueError as error:
        raise Quit(code, f"{source}: {error}") from None


def _parsers(env: Mapping[str, str], cwd: Path) -> dict[str, Callable[[str], Any]]:
    """Every option that is a variable too, with what turns its text into a value."""

    def path(text: str) -> Path:
        return locate(text, env, cwd)

    return {
        "foreground": values.flag,
        "subdir": values.one_of("auths", "config"),
        "read_only": values.flag,
        "allow_other": values.flag,
        "owner": values.owner,
        "auth_dir": values.one_line,
        "backend": values.one_of(*BACKENDS),
        "mirror": path,
        "local_store": path,
        "cache_size": values.size,
        "max_file_size": values.size,
        "deadline": values.seconds,
        "dir_wait": values.seconds,
        "offline": values.one_of("keep", "refuse"),
        "commit": values.one_of("sync", "behind"),
        "wait": values.seconds,
        "stop_timeout": values.seconds,
        "snapshot_interval": values.seconds,
        "poll_interval": values.seconds,
        "spin": values.microseconds,
        "config_template": path,
        "config_refresh": values.flag,
        "move_in": values.flag,
        "keep_originals": values.flag,
        "restart_on_config_replace": values.flag,
        "log_level": values.one_of("debug", "info", "warning", "error"),
    }
