"""Each message in the table of docs/backends/postgres.md is one that storefs prints."""

from __future__ import annotations

import re
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Put
from storefs.errors import StoreError
from tests.contract.steps import PATIENCE, commit, failed, put
from tests.deploy.places import TOP
from tests.servers.postgres import (  # noqa: F401 - fixtures
    cluster,
    database,
    own_cluster,
)
from tests.servers.postgres_cluster import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.postgres import Postgres
    from tests.servers.postgres_cluster import Cluster, Database

A = "auths/a.json"


def messages() -> list[str]:
    """What stands in the first column, each in its own words."""
    text = (TOP / "docs/backends/postgres.md").read_text()
    table = text.partition("## When something is wrong")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [message for row in rows for message in re.findall("`([^`]+)`", row)]


def refused(store: Database, old: str = "", new: str = "") -> str:
    """Why the start fails with this change of the DSN."""
    dsn = store.dsn
    assert old in dsn
    with pytest.raises(StoreError) as caught:
        store.connect(env={"PGSTORE_DSN": dsn.replace(old, new) if old else dsn + new})
    return str(caught.value)


def told(store: Postgres) -> str:
    """Why it takes no more documents; the server learns of its settings by and by."""
    end = time.monotonic() + PATIENCE
    for number in count():
        outcome = commit(store, Put(f"auths/{number}.json", b"{}", None))
        if isinstance(outcome, StoreError):
            return str(outcome)
        assert time.monotonic() < end
    raise AssertionError


def no_tables(base: Database) -> str:
    return refused(base.role())


def no_right(base: Database) -> str:
    with closing(base.connect()):
        pass
    return refused(base.role())


def a_document_it_cannot_hold(base: Database) -> str:
    with closing(base.connect()) as store:
        return str(failed(commit(store, Put(A, b'{"a": "\\u0000"}', None)), StoreError))


def a_row_that_is_held(base: Database) -> str:
    with closing(base.connect(deadline=1.0)) as store, base.session() as holder:
        revision = put(store, A, b"{}")
        with holder.transaction():
            holder.execute("SELECT 1 FROM auth_store FOR UPDATE")
            return str(failed(commit(store, Put(A, b"[]", revision)), StoreError))


OF_ANY: dict[str, Callable[[Database], str]] = {
    "password authentication failed": lambda base: refused(base, f":{base.cluster.password}", ":x"),
    "does not exist; create it": lambda base: refused(base, base.name, "missing"),
    "may not make it": no_tables,
    "lacks a right": no_right,
    "the server has no TLS": lambda base: refused(base, new="?sslmode=require"),
    "Connection refused": lambda base: refused(base, f":{base.cluster.port}/", f":{free_port()}/"),
    "take the parameter out": lambda base: refused(base, new="?nonsense_key=1"),
    "cannot hold it": a_document_it_cannot_hold,
    "no answer in time": a_row_that_is_held,
}


def fits(said: str, message: str, user: str) -> bool:
    """Whether it holds the words in their order; `…` stands for any, USER for the account."""
    words = [re.escape(word.strip()) for word in message.replace("USER", user).split("…")]
    return re.search(".*".join(words), said) is not None


def test_every_message_is_printed(database: Database) -> None:  # noqa: F811
    left = messages()
    assert len(left) > len(OF_ANY)
    for words, provoke in OF_ANY.items():
        (message,) = [each for each in left if words in each]
        said = provoke(database)
        (user,) = re.findall(r"role_\d+_\d+", said)[:1] or [database.user]
        assert fits(said, message, user), (message, said)
        left.remove(message)
    assert sorted(left) == sorted(OF_A_SERVER)


OF_A_SERVER = (
    "it may take no connection without TLS",
    "no pg_hba.conf entry",
    "only reads by now",
)


def test_every_message_about_a_server_is_printed(own_cluster: Cluster) -> None:  # noqa: F811
    base = own_cluster.database()
    with closing(base.connect()) as store:
        put(store, A, b"{}")
        with base.session() as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
        assert "only reads by now" in told(store)
    (own_cluster.data / "pg_hba.conf").write_text(
        "host postgres all 127.0.0.1/32 scram-sha-256\nhostssl all all all scram-sha-256\n"
    )
    own_cluster.stop()
    own_cluster.start()
    said = refused(base)
    assert "no pg_hba.conf entry" in said
    assert "it may take no connection without TLS" in said
