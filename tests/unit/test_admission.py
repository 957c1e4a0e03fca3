"""Which documents a mount shows, and that each one it cannot is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.admission import Admission
from storefs.backends.contract import Entry, Revision

if TYPE_CHECKING:
    from collections.abc import Iterable


def entries(paths: Iterable[str], size: int = 10) -> dict[str, Entry]:
    return {path: Entry(Revision(path), size, 0) for path in paths}


@pytest.mark.parametrize(
    ("top", "shown"),
    [
        ("", {"config/config.yaml", "auths/a.json", "auths/odd"}),
        ("auths", {"auths/a.json", "auths/odd"}),
        ("config", {"config/config.yaml"}),
    ],
)
def test_the_mounted_part_is_shown(top: str, shown: set[str]) -> None:
    there = ["config/config.yaml", "auths/a.json", "auths/odd", "auths/.gitkeep", "else/x.json"]
    there += ["auths/logs/a.json", "config/static/a.json"]
    assert Admission(top, 100).select(entries(there)).keys() == shown


def test_a_name_no_file_system_can_show_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission("", 100)
    bad = "auths/" + "x" * 300 + ".json"
    for _ in range(3):
        assert not admission.select(entries([bad]))
    assert len(caplog.records) == 1
    assert list(admission.skipped) == [bad]


def test_what_is_too_long_is_told_once_and_shown_when_it_shrinks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admission = Admission("", 100)
    for _ in range(3):
        assert not admission.admits("auths/a.json", 101)
    assert len(caplog.records) == 1
    assert admission.too_large == {"auths/a.json"}
    assert admission.admits("auths/a.json", 100)
    assert not admission.too_large


def test_what_left_the_backend_is_not_left_out_any_more() -> None:
    admission = Admission("", 100)
    admission.select(entries(["auths/a.json"], size=101))
    admission.skip("auths/b.json", "in the way")
    admission.select({})
    assert not admission.too_large
    assert not admission.skipped
