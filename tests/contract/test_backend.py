"""What every backend promises; each test runs on every store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Backend, Delete, Put, Revision, Watcher
from storefs.errors import Conflict, Invalid, StoreError
from tests.contract.steps import PATIENCE, commit, content, done, failed, hinted, put, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.backends.contract import Entry

A, B, C = "auths/a.json", "auths/b.json", "auths/c.json"
CONFIG = "config/config.yaml"
STALE = Revision("stale")

BYTES = {
    CONFIG: b"port: 8317\r\nlist:\r\n  - a # kept\r\n",
    A: b'{"b": 1,  "a": 1.0}',
    B: b"",
    "auths/notes.bin": bytes(range(256)),
}
EVERYWHERE = {CONFIG: BYTES[CONFIG], A: BYTES[A], B: b"[]"}
"""What every store can hold."""

NAMES = [
    "auths/with space %41 50%.json",
    "auths/me@example.com-plan+1.json",
    "auths/gr\u00fc\u00dfe-\U0001f511.json",
    "auths/team/deep/deeper/a.json",
    "auths/'quoted\"\\back*?[x].json",
    "auths/" + "n" * 250 + ".json",
    "auths/no-suffix",
    "config/models.yaml",
]
IMPOSSIBLE = [
    "auths/new\nline.json",
    "auths/nul\0.json",
    "auths/\udcff.json",
    "auths/" + "n" * 256,
    "auths/../escape.json",
    "auths//twice.json",
    "/auths/rooted.json",
    "elsewhere/a.json",
    "auths",
    "auths/.hidden.json",
    "auths/logs/request.json",
]


@pytest.mark.parametrize("path", BYTES)
def test_every_byte_is_kept(connect: Callable[[], Backend], path: str) -> None:
    put(connect(), path, BYTES[path])
    assert content(connect(), path) == BYTES[path]


@pytest.mark.parametrize("path", NAMES)
def test_names(connect: Callable[[], Backend], path: str) -> None:
    backend = connect()
    revision = put(backend, path, b"{}")
    other = connect()
    assert set(other.snapshot()) == {path}
    assert content(other, path) == b"{}"
    assert done(commit(backend, Delete(path, revision))) == {}
    assert content(other, path) is None
    assert other.snapshot() == {}


@pytest.mark.parametrize("path", IMPOSSIBLE)
def test_a_path_that_cannot_be_shown_is_invalid(backend: Backend, path: str) -> None:
    assert failed(commit(backend, Put(path, b"{}", None)), Invalid).path == path
    assert failed(commit(backend, Delete(path, STALE)), Invalid).path == path
    assert content(backend, path) is None
    assert backend.snapshot() == {}


def test_an_empty_store(backend: Backend) -> None:
    assert backend.snapshot() == {}
    assert list(backend.read([])) == []
    assert list(backend.commit([], PATIENCE)) == []
    assert read(backend, A) is None
    assert backend.concurrency >= 1


def test_identity_is_that_of_the_store(connect: Callable[[], Backend]) -> None:
    assert connect().identity == connect().identity != ""


def test_snapshot_and_commit_say_what_read_says(backend: Backend) -> None:
    entries: dict[str, Entry] = {}
    for path, data in EVERYWHERE.items():
        entries |= done(commit(backend, Put(path, data, None)))
    blobs = dict(backend.read([*EVERYWHERE, C]))
    assert blobs.pop(C) is None
    assert {path: blob.data for path, blob in blobs.items() if blob} == EVERYWHERE
    assert {path: blob.entry for path, blob in blobs.items() if blob} == backend.snapshot()
    assert backend.snapshot() == entries


def test_equal_content_is_an_equal_revision(backend: Backend) -> None:
    first = put(backend, A, b"1")
    second = put(backend, A, b"2", first)
    third = put(backend, A, b"1", second)
    assert first == third != second


def test_create_refuses_what_exists(backend: Backend) -> None:
    put(backend, A, b'"first"')
    conflict = failed(commit(backend, Put(A, b'"second"', None)), Conflict)
    assert conflict.path == A
    assert conflict.current.get(A, read(backend, A)) == read(backend, A)
    assert content(backend, A) == b'"first"'


def test_a_stale_expectation_is_refused(backend: Backend) -> None:
    old = put(backend, A, b'"old"')
    put(backend, A, b'"new"', old)
    for change in (Put(A, b'"mine"', old), Delete(A, old)):
        conflict = failed(commit(backend, change), Conflict)
        assert conflict.current.get(A, read(backend, A)) == read(backend, A)
        assert conflict.applied == {}
    assert content(backend, A) == b'"new"'


@pytest.mark.parametrize("connect", ["memory", "local"], indirect=True)
def test_a_conflict_brings_the_present_content(backend: Backend) -> None:
    put(backend, A, b'"a"')
    conflict = failed(commit(backend, Put(A, b"", STALE), Put(B, b"", None)), Conflict)
    assert conflict.current == {A: read(backend, A), B: None}


def test_replacing_what_is_absent_is_refused(backend: Backend) -> None:
    conflict = failed(commit(backend, Put(A, b'"mine"', STALE)), Conflict)
    assert conflict.current.get(A) is None
    assert content(backend, A) is None


def test_deleting_what_is_absent_is_done(backend: Backend) -> None:
    assert done(commit(backend, Delete(A, STALE))) == {}
    assert done(commit(backend, Delete("auths/none/a.json", STALE))) == {}
    put(backend, B, b"{}")
    assert done(commit(backend, Delete(f"{B}/below.json", STALE))) == {}


def test_batches_stand_alone_in_their_order(backend: Backend) -> None:
    first = put(backend, A, b"1")
    outcomes = backend.commit(
        [
            [Put(B, b'"b"', None)],
            [Put(A, b"2", STALE)],
            [Delete("auths/x", STALE)],
            [Put(C, b'"c"', None)],
        ],
        PATIENCE,
    )
    assert set(done(outcomes[0])) == {B}
    failed(outcomes[1], Conflict)
    assert done(outcomes[2]) == {}
    assert set(done(outcomes[3])) == {C}
    assert {path: entry.revision for path, entry in backend.snapshot().items()}[A] == first
    assert set(backend.snapshot()) == {A, B, C}


def test_a_rename_is_one_batch(backend: Backend) -> None:
    old, target = put(backend, A, b'"moved"'), put(backend, B, b'"replaced"')
    outcome = commit(backend, Delete(A, old), Put(B, b'"moved"', target))
    assert set(done(outcome)) == {B}
    assert set(backend.snapshot()) == {B}
    assert content(backend, B) == b'"moved"'


@pytest.mark.parametrize("broken", [A, B])
def test_a_rename_in_conflict_changes_nothing(backend: Backend, broken: str) -> None:
    revisions = {A: put(backend, A, b'"a"'), B: put(backend, B, b'"b"')}
    before = backend.snapshot()
    revisions[broken] = STALE
    outcome = commit(backend, Put(B, b'"a"', revisions[B]), Delete(A, revisions[A]))
    failure = failed(outcome, Conflict)
    assert failure.path == broken
    assert failure.applied == {}
    assert backend.snapshot() == before


def test_no_update_is_lost_in_a_race(connect: Callable[[], Backend]) -> None:
    put(connect(), A, b"0")

    def increment(backend: Backend) -> None:
        for _ in range(10):
            while isinstance(_increment_once(backend), Conflict):
                pass

    with ThreadPoolExecutor(5) as pool:
        for future in [pool.submit(increment, connect()) for _ in range(5)]:
            future.result()
    assert content(connect(), A) == b"50"


def _increment_once(backend: Backend) -> object:
    blob = read(backend, A)
    assert blob is not None
    outcome = commit(backend, Put(A, b"%d" % (int(blob.data) + 1), blob.entry.revision))
    assert not isinstance(outcome, StoreError) or isinstance(outcome, Conflict), outcome
    return outcome


@pytest.mark.parametrize("path", [CONFIG, A, "auths/new/deep/a.json"])
def test_a_change_elsewhere_is_hinted(
    connect: Callable[[], Backend], watcher: Watcher, path: str
) -> None:
    other = connect()
    first = put(other, path, b"1")
    assert hinted(watcher, path)
    second = put(other, path, b"2", first)
    assert hinted(watcher, path)
    done(commit(other, Delete(path, second)))
    assert hinted(watcher, path)


def test_each_session_has_its_own_hints(connect: Callable[[], Backend], watcher: Watcher) -> None:
    other = connect()
    assert isinstance(other, Watcher)
    put(connect(), A, b"{}")
    assert hinted(watcher, A)
    assert hinted(other, A)


def test_no_hint_without_a_change(connect: Callable[[], Backend], watcher: Watcher) -> None:
    put(connect(), A, b"{}")
    assert hinted(watcher, A)
    while watcher.wait(0.2):  # what is left over from that change
        pass
    list(connect().read([A]))
    connect().snapshot()
    assert watcher.wait(0) == frozenset()


def test_close_wakes_wait(connect: Callable[[], Backend], backend: Backend) -> None:
    if not isinstance(backend, Watcher):
        pytest.skip("this backend gives no hints")
    waited = threading.Event()

    def wait_until_closed() -> None:
        while backend.wait(PATIENCE * 10) != frozenset():
            waited.set()

    thread = threading.Thread(target=wait_until_closed, daemon=True)
    thread.start()
    put(connect(), A, b"{}")
    assert waited.wait(PATIENCE)
    closing = threading.Thread(target=backend.close, daemon=True)
    closing.start()
    for each in (closing, thread):
        each.join(PATIENCE)
        assert not each.is_alive()


def test_close_comes_twice_and_ends_later_waits(backend: Backend) -> None:
    backend.close()
    backend.close()
    if isinstance(backend, Watcher):
        assert backend.wait(PATIENCE * 10) == frozenset()
