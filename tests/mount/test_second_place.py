"""A second place with the same tokens: one working directory, one `.env`, two mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Watch, until
from tests.mount.processes import Place
from tests.mount.remote import LONG, credential

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.user


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path) as place:
        yield place


def test_a_token_written_in_either_raises_an_event_in_the_other(place: Place) -> None:
    work = place.base / "work"
    work.mkdir()
    (work / ".env").write_text(f"STOREFS_LOCAL_STORE={place.store}\n")
    first, second = place.home / ".cli-proxy-api", place.home / ".ccs/cliproxy/auth"
    for words in ([first], [second, "--subdir", "auths"]):
        done = place.storefs("mount", *words, cwd=work)
        assert done.returncode == 0, done.stderr
    with Watch(first / "auths") as one, Watch(second) as other:
        (first / "auths/a.json").write_bytes(credential(1))
        other.expect("CREATE", "a.json", LONG)
        assert (second / "a.json").read_bytes() == credential(1)
        (second / "b.json").write_bytes(credential(2))  # by a program that knows only that place
        one.expect("CREATE", "b.json", LONG)
        (second / "a.json").write_bytes(credential(3))
        one.expect("MODIFY", "a.json", LONG)
        assert (first / "auths/a.json").read_bytes() == credential(3)
        (first / "auths/b.json").unlink()
        other.expect("DELETE", "b.json", LONG)
    until(lambda: [file.name for file in second.iterdir()] == ["a.json"], "the same in both")
    for mountpoint in (second, first):
        done = place.storefs("umount", mountpoint)
        assert done.returncode == 0, done.stderr
