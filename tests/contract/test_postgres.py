"""PostgreSQL beside the contract: native writers, bytes, announcements, restarts."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

from storefs.backends import postgres_watch
from storefs.backends.contract import Delete, Put, Revision
from storefs.errors import Conflict, Invalid, StoreError, Unavailable
from tests.contract.steps import PATIENCE, commit, content, done, failed, hinted, put, read
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.backends.postgres import Postgres
    from tests.servers.postgres_cluster import Cluster, Database

A, B, CONFIG = "auths/a.json", "auths/b.json", "config/config.yaml"
UPSERT = (
    "INSERT INTO auth_store (id, content, created_at, updated_at) VALUES (%s, %s, NOW(), NOW())"
    " ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content, updated_at = NOW()"
)
"""What the native store sends."""


@pytest.fixture
def store(database: Database) -> Iterator[Postgres]:
    with closing(database.connect()) as backend:
        yield backend


@contextmanager
def watching(store: Postgres) -> Iterator[list[object]]:
    """Waits in a thread of its own, as a mount does; collects the hints."""
    hints: list[object] = []
    end = threading.Event()

    def watch() -> None:
        while not end.is_set():
            hint = store.wait(0.2)
            if hint is None or hint:
                hints.append(hint)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield hints
    finally:
        end.set()
        thread.join(PATIENCE)


def within(seconds: float, met: object, what: str) -> None:
    """Until `met()` is true."""
    end = time.monotonic() + seconds
    while not met():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_the_tables_are_the_native_stores_own(store: Postgres, database: Database) -> None:
    columns = "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
    for table, kind in (("config_store", "text"), ("auth_store", "jsonb")):
        found = database.run(f"{columns} WHERE table_name = %s ORDER BY ordinal_position", table)
        stamp = "timestamp with time zone"
        assert [row[:2] for row in found] == [
            ("id", "text"), ("content", kind), ("created_at", stamp), ("updated_at", stamp),
        ]  # fmt: skip
        assert {row[2] for row in found} == {"NO"}


def test_a_put_is_the_row_that_the_native_store_would_write(
    store: Postgres, database: Database
) -> None:
    first = put(store, "auths/team/a.json", b'{"b": 1,  "a": 1.0}')
    put(store, CONFIG, b"port: 1\r\n")
    created = "SELECT id, content::text, created_at, updated_at FROM auth_store"
    ((name, text, made, changed),) = database.run(created)
    assert (name, text) == ("team/a.json", '{"a": 1.0, "b": 1}')
    assert made == changed
    put(store, "auths/team/a.json", b"{}", first)
    ((_, text, again, later),) = database.run(created)
    assert text == "{}"
    assert again == made
    assert later > changed
    assert database.run("SELECT id, content FROM config_store") == [("config", "port: 1\r\n")]


def test_a_foreign_update_always_wins(store: Postgres, database: Database) -> None:
    exact = b'{ "n": 1.0 }'
    mine = put(store, A, exact)
    database.run(UPSERT, "a.json", '{"n": 1.0}')  # the same text: the bytes are still its own
    assert content(store, A) == exact
    assert store.snapshot()[A].revision == mine
    database.run(UPSERT, "a.json", '{"n": 1}')  # equal for PostgreSQL, another text
    assert content(store, A) == b'{"n": 1}'
    blob = read(store, A)
    assert blob is not None
    assert store.snapshot()[A] == blob.entry
    failed(commit(store, Put(A, b"{}", mine)), Conflict)
    failed(commit(store, Delete(A, mine)), Conflict)
    put(store, A, b'{"n":2}', blob.entry.revision)
    assert content(store, A) == b'{"n":2}'


def test_bytes_of_a_deleted_document_do_not_stay(store: Postgres, database: Database) -> None:
    side = "SELECT id FROM auth_store_storefs ORDER BY id"
    mine = put(store, A, b'{"token": 1 }')
    put(store, B, b'{"token": 2 }')
    done(commit(store, Delete(A, mine)))
    assert database.run(side) == [("b.json",)]
    database.run("DELETE FROM auth_store")
    with closing(database.connect()):
        assert database.run(side) == []


def test_no_native_upsert_is_overwritten_unseen(database: Database) -> None:
    """Counts in one document by both kinds of writers; ours must see each of theirs."""
    rounds = scaled(300, 40)
    with closing(database.connect()) as store, database.session() as native:
        put(store, A, b'{"ours": 0, "theirs": 0}')
        stop = threading.Event()
        seen: list[int] = []

        def upsert() -> None:
            for number in range(1, rounds + 1):
                # Blind: reads nothing, and writes over whatever is there.
                native.execute(UPSERT.encode(), ("a.json", json.dumps({"theirs": number})))
                time.sleep(0.001)
            stop.set()

        thread = threading.Thread(target=upsert)
        thread.start()
        conflicts = commits = 0
        while not stop.is_set():
            blob = read(store, A)
            assert blob is not None
            value = json.loads(blob.data)
            seen.append(value["theirs"])
            value["ours"] = value.get("ours", 0) + 1
            outcome = commit(store, Put(A, json.dumps(value).encode(), blob.entry.revision))
            if isinstance(outcome, Conflict):
                conflicts += 1
            else:
                done(outcome)
                commits += 1
        thread.join()
        last = read(store, A)
    assert last is not None
    assert json.loads(last.data)["theirs"] == rounds
    assert seen == sorted(seen)  # a stale commit of ours would have brought an old number back
    assert conflicts
    assert commits


def test_two_sessions_lose_no_update_of_one_another(database: Database) -> None:
    with closing(database.connect()) as one, closing(database.connect()) as other:
        put(one, A, b'{"n": 0}')

        def count(store: Postgres) -> None:
            left = scaled(200, 30)
            while left:
                blob = read(store, A)
                assert blob is not None
                text = b'{"n": %d}' % (json.loads(blob.data)["n"] + 1)
                outcome = commit(store, Put(A, text, blob.entry.revision))
                if not isinstance(outcome, Conflict):
                    done(outcome)
                    left -= 1

        threads = [threading.Thread(target=count, args=(store,)) for store in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert content(one, A) == b'{"n": %d}' % (2 * scaled(200, 30))


def test_renames_in_opposite_directions_never_block_each_other(database: Database) -> None:
    with closing(database.connect()) as one, closing(database.connect()) as other:
        put(one, A, b"{}")
        outcomes: list[object] = []

        def swap(store: Postgres, source: str, target: str) -> None:
            for _ in range(scaled(100, 10)):
                blob = read(store, source)
                if blob is not None:
                    gone = Delete(source, blob.entry.revision)
                    outcomes.append(commit(store, gone, Put(target, blob.data, None)))

        threads = [
            threading.Thread(target=swap, args=words) for words in ((one, A, B), (other, B, A))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(one.snapshot()) == 1
        assert not [each for each in outcomes if isinstance(each, Unavailable | Invalid)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": "\\u0000"}', "cannot be converted to text"),
        (b'{"a": "\xff"}', "invalid byte sequence"),
        (b'{"a": "\x00"}', "invalid byte sequence"),
        (b'{"a": NaN}', "json"),
        (b'{"a": "\\ud800"}', "json"),
        (b"[" * 100_000, "stack depth"),
        (b'{"a": 1e999999}', "overflow"),
        (b"", "json"),
        (b"secret", "json"),
    ],
)
def test_what_it_cannot_hold_is_refused_with_its_reason(
    store: Postgres, data: bytes, reason: str
) -> None:
    good = Put(B, b"{}", None)
    refusal, other = store.commit([[Put(A, data, None)], [good]], PATIENCE)
    error = failed(refusal, Invalid)
    assert reason in str(error)
    assert "secret" not in str(error)
    assert set(done(other)) == {B}
    assert content(store, A) is None


def test_an_id_that_the_index_cannot_hold_is_invalid(store: Postgres) -> None:
    letters = random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=3600)
    path = "auths/" + "/".join("".join(letters[at : at + 200]) for at in range(0, 3600, 200))
    failed(commit(store, Put(path + ".json", b"{}", None)), Invalid)


def test_what_cannot_be_shown_is_left_out_and_logged_once(
    store: Postgres, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    shown = ["plain", "UPPER.JSON", "n" * 255, f"{'d' * 150}/{'e' * 150}.json", "list.json"]
    hidden = ["../x", "/abs.json", "a//b", "n" * 300, "", "new\nline.json", "a/./b"]
    quiet = [".hidden.json", "team/.git/x.json", "logs/x.json"]
    for name in (*shown, *hidden, *quiet):
        database.run(UPSERT, name, "[1, 2]")
    database.run("INSERT INTO config_store (id, content) VALUES ('other', 'x: 1')")
    database.run("UPDATE auth_store SET updated_at = 'infinity' WHERE id = 'plain'")
    for _ in range(2):
        assert set(store.snapshot()) == {f"auths/{name}" for name in shown}
    assert len([each for each in caplog.messages if "left out" in each]) == len(hidden)
    assert content(store, "auths/plain") == b"[1, 2]"
    assert store.snapshot()["auths/plain"].mtime_ns == 0
    assert all(content(store, f"auths/{name}") is None for name in (*hidden, *quiet))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM auth_store WHERE id = 'a.json'",
        "UPDATE auth_store SET content = '{}' WHERE id = 'a.json'",
        "UPDATE auth_store SET id = 'c.json' WHERE id = 'a.json'",
        "TRUNCATE auth_store",
        "UPDATE config_store SET content = 'a: 2'",
        "TRUNCATE config_store",
    ],
)
def test_every_statement_is_announced(store: Postgres, database: Database, statement: str) -> None:
    put(store, A, b'{"a": 1}')
    put(store, CONFIG, b"a: 1")
    database.run(statement)
    assert hinted(store, CONFIG if "config" in statement else A)


def test_own_commits_are_not_announced_to_oneself(store: Postgres, database: Database) -> None:
    with closing(database.connect()) as other:
        put(store, A, b"{}")
        assert hinted(other, A)
        put(other, B, b"{}")
        heard: set[str] = set()
        while B not in heard:
            heard.update(store.wait(PATIENCE) or {"everything"})
        assert heard == {B}


def test_what_comes_while_the_session_is_checked_is_heard(
    store: Postgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_watch, "_CHECK", 0.0)  # asked before each look for hints
    database.run(UPSERT, "a.json", "{}")
    assert store.wait(PATIENCE) == {A}


def test_triggers_never_make_a_write_fail(store: Postgres, database: Database) -> None:
    long = "\u20ac" * 800  # 2,400 bytes
    for name in ("it's", '"', "\\", long):
        database.run(UPSERT, name, "{}")
        assert hinted(store, f"auths/{name}")  # the long one without its name: everything
        database.run("DELETE FROM auth_store WHERE id = %s", name)
        assert hinted(store, f"auths/{name}")


def test_what_no_notify_can_carry_is_written_all_the_same(
    store: Postgres, database: Database
) -> None:
    database.run("ALTER TABLE auth_store DROP CONSTRAINT auth_store_pkey")  # else no id is so long
    database.run("INSERT INTO auth_store (id, content) VALUES (%s, '{}')", "n" * 9000)
    assert store.wait(PATIENCE) is None


def test_restored_tables_go_on_without_a_restart(store: Postgres, database: Database) -> None:
    """As pg_restore --clean does it: dropped, made anew, filled; what is ours is in no dump."""
    put(store, A, b'{ "exact": 1 }')
    dump = _dump(database)
    with watching(store) as hints:
        with database.session() as admin:
            admin.execute("DROP TABLE auth_store, config_store, auth_store_storefs")
            admin.execute("DROP FUNCTION storefs_hint")
            with pytest.raises(StoreError, match="does not exist"):
                store.snapshot()
            for statement in _statements(dump):
                admin.execute(statement.encode())
        within(PATIENCE, lambda: _answer(store) == {A}, "the restored tables answer")
        within(PATIENCE * 2, lambda: store.traits()["changes"] == "pushed", "triggers again")
        database.run(UPSERT, "b.json", "{}")
        within(PATIENCE, lambda: None in hints or {B} in hints, "announced again")
    assert content(store, A) == b'{"exact": 1}'
    blob = read(store, A)
    assert blob is not None
    put(store, A, b'{ "exact": 2 }', blob.entry.revision)
    assert content(store, A) == b'{ "exact": 2 }'


def _dump(database: Database) -> str:
    """Both tables, as pg_dump writes them for psql."""
    cluster = database.cluster
    if not (cluster.bin / "pg_dump").exists():
        pytest.skip(f"no pg_dump beside the server in {cluster.bin}")
    return cluster.run(
        "pg_dump", "-h127.0.0.1", f"-p{cluster.port}", f"-U{database.user}",
        "--inserts", "-tauth_store", "-tconfig_store", database.name,
    )  # fmt: skip


def _statements(dump: str) -> list[str]:
    """What psql would send of a dump, without what refers to things that are not in it."""
    lines = [line for line in dump.split("\n") if not line.startswith(("--", "\\"))]
    found = [each.strip() for each in "\n".join(lines).split(";\n")]
    return [each for each in found if each and "TRIGGER" not in each and "set_config" not in each]


def _answer(store: Postgres) -> set[str] | None:
    try:
        return set(store.snapshot())
    except StoreError:
        return None


def test_a_dump_restored_into_an_empty_database_is_the_same_tree(
    store: Postgres, database: Database, cluster: Cluster
) -> None:
    put(store, A, b'{"a": 1}')
    put(store, CONFIG, b"a: 1\r\n# kept\r\n")
    database.run(UPSERT, "team/native.json", '{"n": 1.0}')
    dump = _dump(database)
    other = cluster.database()
    with other.session() as admin:
        for statement in _statements(dump):
            admin.execute(statement.encode())
    with closing(other.connect()) as restored:
        assert set(restored.snapshot()) == set(store.snapshot())
        for path in store.snapshot():
            assert content(restored, path) == content(store, path)
        assert restored.identity != store.identity


def test_every_session_terminated(store: Postgres, database: Database) -> None:
    revision = put(store, A, b"{}")
    with watching(store) as hints:
        for number in range(3):
            database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            revision = _put_in_doubt(store, b'{"n": %d}' % number, revision)
            assert set(store.snapshot()) == {A}
        within(PATIENCE, lambda: None in hints, "a look at everything")
        serial = count()

        def announced() -> bool:
            # What is announced before the new session listens is in its look at everything.
            database.run(UPSERT, "b.json", f'{{"n": {next(serial)}}}')
            return {B} in hints

        within(PATIENCE, announced, "announcements go on")


def _put_in_doubt(store: Postgres, data: bytes, expect: Revision) -> Revision:
    """A session may end between the statement and its answer: then one has to look."""
    end = time.monotonic() + PATIENCE
    while True:
        outcome = commit(store, Put(A, data, expect))
        if not isinstance(outcome, Unavailable):
            return done(outcome)[A].revision
        assert time.monotonic() < end, outcome
        blob = read(store, A)
        assert blob is not None
        if blob.data == data:
            return blob.entry.revision
        assert blob.entry.revision == expect


def test_a_server_that_is_away_and_comes_back(own_cluster: Cluster) -> None:
    database = own_cluster.database()
    with closing(database.connect()) as store, watching(store) as hints:
        revision = put(store, A, b"{}")
        own_cluster.stop()
        failed(commit(store, Put(A, b"[]", revision)), Unavailable)
        with pytest.raises(Unavailable, match="PGSTORE_DSN"):
            store.snapshot()
        own_cluster.start()
        within(PATIENCE, lambda: _answer(store) == {A}, "it answers again")
        within(PATIENCE, lambda: None in hints, "a look at everything")
        put(store, A, b"[]", revision)
        database.run(UPSERT, "b.json", "{}")
        within(PATIENCE, lambda: {B} in hints, "announcements go on")


def test_a_row_that_another_session_holds_is_no_answer_in_time(database: Database) -> None:
    """The server gives up before we do: so nothing happens later."""
    with closing(database.connect(deadline=2.0)) as store, database.session() as holder:
        revision = put(store, A, b"{}")
        with holder.transaction():
            holder.execute("SELECT 1 FROM auth_store FOR UPDATE")
            failure = failed(commit(store, Put(A, b"[]", revision)), Unavailable)
            assert "another session" in failure.cause
            assert content(store, A) == b"{}"
        put(store, A, b"[]", revision)


def test_revisions_are_digests(store: Postgres, database: Database) -> None:
    function = "sha256" if database.version >= 110_000 else "md5"  # PostgreSQL 10 has no other
    data = b'{ "a" : 1 }'
    assert put(store, A, data) == Revision(hashlib.new(function, data).hexdigest())
