"""The first fill over PostgreSQL, everything at once: killed in the middle, and shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.mount.harness import Plain
from tests.mount.processes import Place, tree_of
from tests.mount.test_fill_crash import goes_on_after_a_kill
from tests.mount.test_progress import shown_and_wiped_out
from tests.servers.postgres import cluster, database  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgres_cluster import Database

pytestmark = pytest.mark.user

SHORT, LONG = 3000, 50
DOCUMENTS = SHORT + LONG


def fill(store: Database) -> dict[str, bytes]:
    """Leave there what a native store would; returns the documents as a mount shows them."""
    store.connect().close()  # makes the tables
    insert = (
        "INSERT INTO auth_store (id, content) SELECT {0}, jsonb_build_object('n', {1})"
        " FROM generate_series(1, {2}) n"
    )
    store.run(insert.format("n || '.json'", "n", SHORT))
    store.run(insert.format("'deep/' || n || '.json'", "repeat('x', 30000)", LONG))
    documents = {f"auths/{number + 1}.json": b'{"n": %d}' % (number + 1) for number in range(SHORT)}
    long = b'{"n": "%s"}' % (b"x" * 30_000)
    return documents | {f"auths/deep/{number + 1}.json": long for number in range(LONG)}


@pytest.mark.parametrize("share", [0.001, 0.3, 0.8])
def test_a_first_fill_that_is_killed_is_gone_on_with(
    database: Database,  # noqa: F811
    tmp_path: Path,
    share: float,
) -> None:
    documents = fill(database)
    mount = Plain(tmp_path / "a", tmp_path / "unused", (), database.env())
    goes_on_after_a_kill(mount, documents, share)
    assert len(database.run("SELECT id FROM auth_store")) == len(documents)


def test_it_is_shown_on_a_terminal(database: Database, tmp_path: Path) -> None:  # noqa: F811
    documents = fill(database)
    with Place(tmp_path / "one") as place:
        words = ["env", *(f"{name}={value}" for name, value in database.env().items())]
        words += [sys.executable, "-m", "storefs", "mount", str(place.mnt)]
        words += ["--mirror", str(place.root)]
        shown_and_wiped_out(words, place, DOCUMENTS, b"postgresql")
        assert tree_of(place.mnt).keys() - documents.keys() == {"config/config.yaml"}
