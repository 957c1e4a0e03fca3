"""Settings: where each value comes from, which backend is chosen, and what stays unsaid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storefs import envfile
from storefs.errors import Exit, Quit
from storefs.settings import Settings, load, locate, stop_timeout

CWD = Path("/nowhere")
HOME = {"HOME": "/home/u"}
SECRET = "hunter2"


def quit_of(argv: dict[str, object], environ: dict[str, str], cwd: Path = CWD) -> tuple[Exit, str]:
    with pytest.raises(Quit) as caught:
        load(argv, {**HOME, **environ}, cwd)
    return caught.value.code, str(caught.value)


def test_defaults() -> None:
    settings = load({}, HOME, CWD)
    assert settings.mountpoint == Path("/home/u/.cli-proxy-api")
    assert settings.local_store == Path("/home/u/.local/share/storefs")
    assert (settings.backend, settings.mirror, settings.owner) == ("local", None, None)
    assert (settings.cache_size, settings.max_file_size) == (64 * 1024**2, 16 * 1024**2)
    assert (settings.deadline, settings.dir_wait, settings.stop_timeout) == (5.0, 2.0, 10.0)
    assert settings.env_files == ()


def test_command_line_beats_environment_beats_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "STOREFS_DEADLINE=1\nSTOREFS_DIR_WAIT=1\nSTOREFS_STOP_TIMEOUT=1\n"
    )
    environ = {**HOME, "STOREFS_DEADLINE": "2", "STOREFS_DIR_WAIT": "2"}
    settings = load({"deadline": "3"}, environ, tmp_path)
    assert (settings.deadline, settings.dir_wait, settings.stop_timeout) == (3.0, 2.0, 1.0)
    assert settings.env_files == (tmp_path / ".env",)


def test_an_option_that_was_not_given_decides_nothing() -> None:
    environ = {**HOME, "STOREFS_READ_ONLY": "1", "STOREFS_FOREGROUND": "yes"}
    settings = load({"read_only": None, "foreground": False}, environ, CWD)
    assert (settings.read_only, settings.foreground) == (True, False)


def test_named_env_files_replace_the_default_one_and_the_first_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STOREFS_SUBDIR=config\n")
    (tmp_path / "a").write_text("STOREFS_DEADLINE=1\n")
    (tmp_path / "b").write_text("STOREFS_DEADLINE=2\nSTOREFS_DIR_WAIT=2\n")
    settings = load({"env_file": ["a", "b"]}, HOME, tmp_path)
    assert (settings.deadline, settings.dir_wait, settings.subdir) == (1.0, 2.0, "")
    by_variable = load({}, {**HOME, "STOREFS_ENV_FILE": "b:a"}, tmp_path)
    assert (by_variable.deadline, by_variable.dir_wait) == (2.0, 2.0)


def test_an_env_file_never_overrides_a_variable_that_is_set_even_blank(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PGSTORE_DSN=postgres://db/x\n")
    assert load({}, {**HOME, "PGSTORE_DSN": ""}, tmp_path).backend == "local"


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_named_env_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    code, message = quit_of({"env_file": [name]}, {}, tmp_path)
    assert code is Exit.SETTINGS
    assert str(tmp_path) in message


def test_an_env_file_may_not_name_others(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STOREFS_ENV_FILE=other\n")
    assert quit_of({}, {}, tmp_path)[0] is Exit.SETTINGS


def test_an_unknown_variable_is_an_error_with_advice() -> None:
    code, message = quit_of({}, {"STOREFS_CACHESIZE": SECRET})
    assert code is Exit.SETTINGS
    assert "STOREFS_CACHESIZE" in message
    assert "STOREFS_CACHE_SIZE" in message
    assert SECRET not in message


def test_an_unknown_variable_in_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STOREFS_QQQ=1\n")
    assert str(tmp_path / ".env") in quit_of({}, {}, tmp_path)[1]


def test_the_test_suites_own_variables_are_no_settings() -> None:
    load({}, {**HOME, "STOREFS_TEST_ANYTHING": "1"}, CWD)


@pytest.mark.parametrize(
    ("variable", "backend"),
    [("PGSTORE_DSN", "postgres"), ("OBJECTSTORE_ENDPOINT", "s3"), ("GITSTORE_GIT_URL", "git")],
)
@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_a_native_variable_chooses_its_backend(variable: str, backend: str, spell: object) -> None:
    assert callable(spell)
    settings = load({}, {**HOME, spell(variable): f"scheme://u:{SECRET}@h/d"}, CWD)
    assert settings.backend == backend
    assert settings.chosen == f"backend {backend}: {variable} is set"


def test_the_strongest_native_variable_wins_and_the_others_are_named() -> None:
    settings = load({}, {**HOME, "GITSTORE_GIT_URL": "g", "OBJECTSTORE_ENDPOINT": "o"}, CWD)
    assert settings.backend == "s3"
    assert settings.ignored == ("GITSTORE_GIT_URL",)
    assert settings.chosen.endswith("ignored: GITSTORE_GIT_URL")


def test_a_backend_has_its_own_defaults_and_what_is_given_beats_them() -> None:
    environ = {**HOME, "GITSTORE_GIT_URL": "https://h/r.git"}
    git = load({"backend": "git"}, environ, CWD)
    assert (git.deadline, git.dir_wait, git.poll_interval) == (20.0, 10.0, 10.0)
    given = load({"backend": "git", "deadline": "3", "poll_interval": "1"}, environ, CWD)
    assert (given.deadline, given.dir_wait, given.poll_interval) == (3.0, 10.0, 1.0)
    local = load({}, HOME, CWD)
    assert (local.deadline, local.dir_wait) == (5.0, 2.0)


def test_blank_native_variables_are_unset() -> None:
    settings = load({}, {**HOME, "PGSTORE_DSN": "  ", "gitstore_git_url": ""}, CWD)
    assert settings.backend == "local"
    assert "ignored" not in settings.chosen


def test_a_backend_by_name_ignores_the_native_variables_and_says_so() -> None:
    environ = {**HOME, "PGSTORE_DSN": f"postgres://u:{SECRET}@h/d"}
    settings = load({"backend": "local"}, environ, CWD)
    assert settings.backend == "local"
    assert "ignored: PGSTORE_DSN" in settings.chosen
    assert SECRET not in settings.chosen


def test_repr_hides_the_environment_that_backends_get() -> None:
    settings = load({"backend": "local"}, {**HOME, "PGSTORE_DSN": SECRET}, CWD)
    assert settings.env["PGSTORE_DSN"] == SECRET
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("4096", 4096), ("64M", 64 << 20), ("1G", 1 << 30), ("2k", 2048), ("3MiB", 3 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert load({"cache_size": text}, HOME, CWD).cache_size == size


@pytest.mark.parametrize(("text", "spin"), [("0", 0), ("50", 50), ("999999", 999_999)])
def test_microseconds(text: str, spin: int) -> None:
    assert load({}, {**HOME, "STOREFS_SPIN": text}, CWD).spin == spin


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spin", "-1"),
        ("spin", "1.5"),
        ("spin", "1000000"),
        ("cache_size", "0"),
        ("cache_size", "-1"),
        ("cache_size", "1.5G"),
        ("max_file_size", "big"),
        ("deadline", "0"),
        ("deadline", "nan"),
        ("deadline", "inf"),
        ("dir_wait", "soon"),
        ("subdir", "secret"),
        ("backend", "oracle"),
        ("log_level", "loud"),
        ("auth_dir", "a\nb"),
        ("mirror", ""),
    ],
)
def test_a_bad_value_is_usage_on_the_command_line(name: str, text: str) -> None:
    assert quit_of({name: text}, {})[0] is Exit.USAGE


def test_a_bad_value_in_the_environment_is_not_repeated() -> None:
    code, message = quit_of({}, {"STOREFS_BACKEND": f"postgres://u:{SECRET}@h/d"})
    assert code is Exit.SETTINGS
    assert "STOREFS_BACKEND" in message
    assert SECRET not in message


def test_owner_is_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert quit_of({"owner": "1:1"}, {})[0] is Exit.SETTINGS


@pytest.mark.parametrize(("text", "ids"), [("12:34", (12, 34)), ("root", (0, 0)), ("0", (0, 0))])
def test_owner_implies_allow_other(
    monkeypatch: pytest.MonkeyPatch, text: str, ids: tuple[int, int]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = load({"owner": text}, HOME, CWD)
    assert (settings.owner, settings.allow_other) == (ids, True)


@pytest.mark.parametrize("text", ["nobody-of-that-name", "4000000000", "0:no-such-group", ""])
def test_an_owner_nobody_knows(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert quit_of({"owner": text}, {})[0] is Exit.USAGE


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (None, "/home/u/.cli-proxy-api"),
        ("~/x", "/home/u/x"),
        ("~", "/home/u"),
        (".", "/nowhere"),
        ("a/../b/", "/nowhere/b"),
        ("/abs", "/abs"),
        ("//abs", "/abs"),
    ],
)
def test_paths_become_absolute_and_follow_no_link(text: str | None, path: str) -> None:
    assert locate(text, HOME, CWD) == Path(path)


def test_an_empty_path_is_never_taken_for_the_default() -> None:
    assert quit_of({"mountpoint": ""}, {})[0] is Exit.USAGE


def test_umount_reads_its_time_out_from_the_same_places() -> None:
    assert stop_timeout({}, {}) == Settings.stop_timeout
    assert stop_timeout({}, {"STOREFS_STOP_TIMEOUT": "3"}) == 3.0
    assert stop_timeout({"stop_timeout": "4"}, {"STOREFS_STOP_TIMEOUT": "3"}) == 4.0


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("export A=1\r\n\r\n  # c\r\nB = x y \r\n", {"A": "1", "B": "x y"}),
        ("A=v # comment\nB=a#b", {"A": "v", "B": "a#b"}),
        ('A=\'a # $x \\n\'\nB="a # \\"q\\"\\nz" # c', {"A": "a # $x \\n", "B": 'a # "q"\nz'}),
        ("A='two\nlines'\nB=", {"A": "two\nlines", "B": ""}),
        ("A= # c\nA_1=http://h/?a=b", {"A": "", "A_1": "http://h/?a=b"}),
        ("A=1\nA=2", {"A": "2"}),
        ("", {}),
    ],
)
def test_env_file_syntax(text: str, values: dict[str, str]) -> None:
    assert envfile.parse(text) == values


@pytest.mark.parametrize(
    "line", [SECRET, f"A='{SECRET}", f'A="{SECRET}', f"A='x' {SECRET}", "1A=x"]
)
def test_a_bad_line_is_named_by_number_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "e").write_text(f"OK=1\n\n{line}\n")
    with pytest.raises(Quit) as caught:
        envfile.read(tmp_path / "e")
    assert "line 3" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_env_file_must_be_text(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"A=\xff\n")
    with pytest.raises(Quit, match="UTF-8"):
        envfile.read(tmp_path / "e")


def test_a_byte_order_mark_belongs_to_no_name(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"\xef\xbb\xbfA=1\n")
    assert envfile.read(tmp_path / "e") == {"A": "1"}


@pytest.mark.parametrize(
    ("backend", "variable"), [("postgres", "PGSTORE_DSN"), ("s3", "OBJECTSTORE_ENDPOINT")]
)
def test_a_named_backend_must_have_a_place(backend: str, variable: str) -> None:
    assert quit_of({"backend": backend}, {}) == (
        Exit.SETTINGS,
        f"{variable} must be set for the backend {backend}",
    )
