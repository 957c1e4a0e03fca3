"""`--config-template` and `--config-refresh` by real mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mount.processes import Place, put
from tests.servers.postgres import own_cluster  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster

pytestmark = pytest.mark.user

TEXT = "port: ${PORT:-1}\nsecret: '${MANAGEMENT_PASSWORD}'\nauth-dir: /x\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path / "one") as place:
        (place.home / "t.yaml").write_text(TEXT)
        (place.home / ".env").write_text("MANAGEMENT_PASSWORD=opensesame\n")
        yield place


def start(place: Place, *options: str, **env: str) -> bytes:
    """One start with the template and its end; what the store holds then."""
    done = place.mount("--config-template", "t.yaml", *options, env=env)
    assert done.returncode == 0, done.stderr
    assert place.storefs("umount", place.mnt).returncode == 0
    return (place.store / "config/config.yaml").read_bytes()


def made(port: int) -> bytes:
    return f"port: {port}\nsecret: 'opensesame'\nauth-dir: /x\n".encode()


def test_an_empty_store_gets_the_filled_template(place: Place) -> None:
    assert start(place) == made(1)
    assert start(place, PORT="2") == made(1)
    assert "opensesame" not in place.log()


def test_refresh_commits_a_changed_text_once_and_keeps_what_it_replaced(place: Place) -> None:
    assert start(place, "--config-refresh") == made(1)
    edited = b"port: 7\n"
    put(place.store, "config/config.yaml", edited)
    assert start(place, "--config-refresh") == edited  # the template is as it was
    assert start(place, "--config-refresh", PORT="2") == made(2)
    kept = [file.read_bytes() for file in (place.root / ".storefs/trash").iterdir()]
    assert edited in kept
    put(place.store, "config/config.yaml", edited)
    assert start(place, "--config-refresh", PORT="2") == edited
    assert start(place, PORT="3") == edited
    assert "opensesame" not in place.log()


def test_a_refreshed_config_is_what_the_mount_shows(place: Place) -> None:
    put(place.store, "config/config.yaml", b"port: 7\n")
    options = "--config-template", "t.yaml", "--config-refresh"
    assert place.mount(*options).returncode == 0
    shown = (place.mnt / "config/config.yaml").read_bytes()
    assert shown.startswith(made(1).partition(b"auth-dir")[0])
    assert (place.store / "config/config.yaml").read_bytes() == made(1)


def test_a_store_that_is_away_is_refreshed_by_the_next_start(
    place: Place,
    own_cluster: Cluster,  # noqa: F811 - a fixture
) -> None:
    database = own_cluster.database()

    def started(port: str) -> str:
        options = "--config-template", "t.yaml", "--config-refresh", "--deadline", "2"
        done = place.mount(*options, env={**database.env(), "PORT": port})
        assert done.returncode == 0, done.stderr
        assert place.storefs("umount", place.mnt).returncode == 0
        return done.stderr

    assert started("1") == ""
    own_cluster.stop()
    assert "not refreshed, the next start tries again" in started("2")
    own_cluster.start()
    assert database.run("SELECT content FROM config_store") == [(made(1).decode(),)]
    assert started("2") == ""
    assert database.run("SELECT content FROM config_store") == [(made(2).decode(),)]


def test_a_template_that_cannot_be_filled_mounts_nothing(place: Place) -> None:
    (place.home / ".env").write_text("")
    done = place.mount("--config-template", "t.yaml")
    assert done.returncode == 3
    assert "line 2: MANAGEMENT_PASSWORD is not set" in done.stderr
    assert not (place.store / "config/config.yaml").exists()


def test_a_template_below_the_mount_point_is_refused(place: Place) -> None:
    done = place.mount("--config-template", str(place.mnt / "config/t.yaml"))
    assert done.returncode == 3
    assert "the config template" in done.stderr


def test_refresh_without_a_template_is_refused(place: Place) -> None:
    done = place.mount("--config-refresh")
    assert done.returncode == 3
    assert "needs --config-template" in done.stderr
