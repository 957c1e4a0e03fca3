"""`storefs status --backend` through a mount."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Plain, storefs
from tests.mount.processes import Place, token
from tests.servers.postgres import cluster, database, own_cluster  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster, Database

pytestmark = pytest.mark.user


def test_the_screen_and_the_json_hold_what_the_store_says(
    database: Database,  # noqa: F811 - a fixture
    tmp_path: Path,
) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with Plain(tmp_path / "a", tmp_path / "unused", (), database.env()) as mount:
        (mount.auths / "a.json").write_bytes(token("hush"))
        shown = storefs(mount.home, "status", str(mount.path), "--backend")
        assert shown.returncode == 0, shown.stderr
        assert "active, of" in shown.stdout
        assert "auths/a.json, " in shown.stdout
        assert "hush" not in shown.stdout
        both = json.loads(
            storefs(mount.home, "status", str(mount.path), "--backend", "--json").stdout
        )
        assert both["online"] is True
        assert both["store"]["latest"][0]["path"] == "auths/a.json"


def test_a_store_that_is_down_is_told_after_the_screen(
    own_cluster: Cluster,  # noqa: F811 - a fixture
    tmp_path: Path,
) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    place = own_cluster.database()
    options = "--deadline", "2"
    with Plain(tmp_path / "a", tmp_path / "unused", options, place.env()) as mount:
        own_cluster.stop()
        shown = storefs(mount.home, "status", str(mount.path), "--backend")
        assert shown.returncode == 4
        assert "backend" in shown.stdout
        assert shown.stderr.startswith("storefs: ")
        own_cluster.start()


def test_a_directory_has_no_more_to_say(tmp_path: Path) -> None:
    with Place(tmp_path / "one") as place:
        assert place.mount().returncode == 0
        done = place.storefs("status", place.mnt, "--backend")
        assert done.returncode == 1
        assert "says nothing more about itself" in done.stderr
