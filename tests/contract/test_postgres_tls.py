"""PostgreSQL over TLS: what sslmode and sslrootcert do, and what is said where they do not fit."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from storefs.errors import AccessDenied, StoreError, Unavailable
from tests.contract.steps import content, put
from tests.servers.certificates import certificate
from tests.servers.postgres_cluster import server_user

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres_cluster import Cluster, Database

A = "auths/a.json"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Another certificate authority, which signed nothing."""
    return certificate(tmp_path, "other")


@pytest.fixture
def secured(own_cluster: Cluster) -> Cluster:
    """A server that lets nobody in without TLS; its certificate is for 127.0.0.1."""
    own_cluster.stop()
    made = certificate(own_cluster.directory, "server")
    key = made.with_suffix(".key")
    if os.geteuid() == 0:
        for file in (made, key):
            os.chown(file, server_user().pw_uid, server_user().pw_gid)
    hba = own_cluster.data / "pg_hba.conf"
    hba.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    own_cluster.options = (
        *own_cluster.options, "ssl=on", f"ssl_cert_file={made}", f"ssl_key_file={key}",
    )  # fmt: skip
    return own_cluster.start()


def _named(database: Database, *words: str) -> dict[str, str]:
    return {"PGSTORE_DSN": f"{database.dsn}?{'&'.join(words)}"}


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_everything_goes_over_tls(secured: Cluster, mode: str) -> None:
    database = secured.database()
    root = f"sslrootcert={secured.directory}/server.crt"
    with closing(database.connect(env=_named(database, f"sslmode={mode}", root))) as store:
        put(store, A, b"{}")
        assert content(store, A) == b"{}"
        encrypted = database.run(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert encrypted
        assert all(row == (True,) for row in encrypted)


def test_without_tls_nobody_gets_in(secured: Cluster) -> None:
    database = secured.database()
    error = _refusal(database, "sslmode=disable")
    assert isinstance(error, AccessDenied)
    assert "sslmode=require in PGSTORE_DSN" in str(error)


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_certificate_of_another_authority(secured: Cluster, authority: Path, mode: str) -> None:
    error = _refusal(secured.database(), f"sslmode={mode}", f"sslrootcert={authority}")
    assert isinstance(error, Unavailable)
    assert "sslrootcert" in str(error)


def test_a_certificate_for_another_name(secured: Cluster) -> None:
    database = secured.database()
    here = database.dsn.replace("127.0.0.1", "localhost")
    words = f"sslmode=verify-full&sslrootcert={secured.directory}/server.crt"
    error = _refusal_of(database, {"PGSTORE_DSN": f"{here}?{words}"})
    assert isinstance(error, Unavailable)
    assert "PGSTORE_DSN" in str(error)


def _refusal(database: Database, *words: str) -> StoreError:
    return _refusal_of(database, _named(database, *words))


def _refusal_of(database: Database, env: dict[str, str]) -> StoreError:
    """The one line that the start is refused with; without the password."""
    with pytest.raises(StoreError) as refused:
        database.connect(env=env)
    assert database.cluster.password not in str(refused.value)
    assert "\n" not in str(refused.value)
    return refused.value
