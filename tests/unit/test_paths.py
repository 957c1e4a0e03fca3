"""Which paths exist, and which are documents."""

from __future__ import annotations

import pytest

from storefs import paths

LONGEST = "n" * paths.NAME_MAX
LONGEST_PATH = "/".join([LONGEST] * 16)
"""4095 bytes: the kernel's PATH_MAX counts the closing NUL."""


@pytest.mark.parametrize(
    "name", ["a", ".a", "...", "a b", "%2F@+", "\u00e9\U0001f511", LONGEST + "n"]
)
def test_names(name: str) -> None:
    paths.check_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "\0", "a\nb", "\x1f", "\x7f", "\udcff"]
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(paths.InvalidPath):
        paths.check_name(name)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "auths/a.json",
        f"auths/{LONGEST}",
        "auths/" + "\u00e9" * 127,
        LONGEST_PATH,
    ],
)
def test_paths(path: str) -> None:
    paths.check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/auths",
        "auths/",
        "auths//a",
        "auths/../a",
        f"auths/{LONGEST}n",
        "auths/" + "\u00e9" * 128,
        f"{LONGEST_PATH[:-1]}/n",
    ],
)
def test_paths_that_cannot_be(path: str) -> None:
    with pytest.raises(paths.InvalidPath):
        paths.check_path(path)


def test_the_reason_is_printable_and_short() -> None:
    with pytest.raises(paths.InvalidPath) as raised:
        paths.check_path("auths/" + "n" * 5000)
    assert len(str(raised.value)) < 100
    with pytest.raises(paths.InvalidPath, match="not UTF-8") as raised:
        paths.check_path("auths/\udcff")
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("path", "shared", "document"),
    [
        ("config/config.yaml", True, True),
        ("config/models.yaml", True, False),
        ("config/a.json", True, False),
        ("config/static/panel.html", False, False),
        ("config/statics", True, False),
        ("auths/a.json", True, True),
        ("auths/team/deep/a.json", True, True),
        ("auths/a.json.tmp", True, False),
        ("auths/notes", True, False),
        ("auths/.a.json", False, False),
        ("auths/.team/a.json", False, False),
        ("auths/team/.a.json", False, False),
        ("auths/logs/a.json", False, False),
        ("auths/team/logs/a.json", True, True),
        ("auths", False, False),
        ("config", False, False),
        ("config.yaml", False, False),
        ("other/a.json", False, False),
        (".storefs/a.json", False, False),
    ],
)
def test_what_is_shared_and_what_a_document(path: str, shared: bool, document: bool) -> None:
    assert paths.may_be_shared(path) is shared
    assert paths.is_document(path) is document


def test_above() -> None:
    assert paths.parent("auths/team/a.json") == "auths/team"
    assert paths.parent("auths") == ""
    assert paths.ancestors("auths/team/a.json") == ["auths", "auths/team"]
    assert paths.ancestors("auths") == []
