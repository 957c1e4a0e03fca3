"""`storefs prune` on a real mount: what counts as old, and what stays."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storefs.tokens import last_good
from tests.mount.processes import Place, put, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.user

SAMPLES = Path(__file__).parents[3] / "shared/samples/auths"
DAY = 86400.0


def ago(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * DAY))


OLD = {
    "claude-old.json": {"expired": ago(100), "last_refresh": ago(101), "refresh_token": "r"},
    "team/antigravity.json": {"expired": ago(91), "timestamp": int(time.time() - 91 * DAY) * 1000},
    "gemini.json": {"token": {"expiry": ago(200), "access_token": "t"}},
}
YOUNG = {
    "claude-young.json": {"expired": ago(89), "last_refresh": ago(100)},
    "refreshed.json": {"expired": ago(100), "last_refresh": ago(2)},
    "vertex.json": {"service_account": {"expires": ago(900)}, "project_id": "p"},
    "never.json": {"expired": "0001-01-01T00:00:00Z", "last_refresh": ago(900)},
    "plain.json": {"api_key": "k", "expires_in": 1},
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "one") as place:
        for name, value in {**OLD, **YOUNG}.items():
            put(place.store, f"auths/{name}", json.dumps(value).encode())
        yield place


def test_prune_lists_and_removes_only_what_expired_long_ago(place: Place) -> None:
    assert place.mount().returncode == 0
    (place.mnt / "auths/claude.json.bak").write_text(json.dumps(OLD["claude-old.json"]))
    listed = place.storefs("prune", place.mnt, "--older-than", "90d")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == sorted(OLD)
    assert "--yes removes them" in listed.stderr
    assert tree_of(place.store).keys() >= {f"auths/{name}" for name in {**OLD, **YOUNG}}
    rows = json.loads(place.storefs("prune", place.mnt, "--json").stdout)
    assert [row["path"] for row in rows] == sorted(OLD)
    done = place.storefs("prune", place.mnt, "--older-than", "90d", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    left = {path for path in tree_of(place.store) if path.startswith("auths/")}
    assert left == {f"auths/{name}" for name in YOUNG}
    assert (place.mnt / "auths/claude.json.bak").exists()


def test_prune_works_on_a_part_and_refuses_what_holds_no_tokens(place: Place) -> None:
    assert place.storefs("prune", place.mnt).returncode == 8
    assert place.mount("--subdir", "auths").returncode == 0
    listed = place.storefs("prune", place.mnt, "--older-than", "150d")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["gemini.json"]
    assert place.storefs("prune", place.mnt, "--older-than", "ninety").returncode == 2


def test_what_cannot_be_removed_is_told_and_stays(place: Place) -> None:
    assert place.mount("--read-only").returncode == 0
    done = place.storefs("prune", place.mnt, "--yes")
    assert done.returncode == 5
    assert "Read-only file system" in done.stderr
    assert len(tree_of(place.store)) == len(OLD) + len(YOUNG)


def test_the_samples_are_good_until_they_expire_or_name_no_expiry() -> None:
    if not SAMPLES.is_dir():
        pytest.skip(f"no samples at {SAMPLES}")
    good = {file.name: last_good(file.read_bytes()) for file in SAMPLES.glob("*.json")}
    expiry = 2082758400.0  # 2036-01-01
    assert good.pop("vertex-example-project.json") is None
    assert set(good.values()) == {expiry}
