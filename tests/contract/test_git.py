"""Git with others at the same branch: natives that rewrite history, persons, other machines."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from storefs import checkup
from storefs.backends.contract import Delete, Historic, Put, Revision
from storefs.errors import Conflict, Invalid, NotFound, Unavailable
from tests.contract.steps import PATIENCE, commit, content, done, failed, put
from tests.scale import scaled
from tests.servers.git_others import Native, Person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from storefs.backends.git import Git
    from tests.servers.git_store import Remote

pytestmark = pytest.mark.user

A, B, C = "auths/a.json", "auths/b.json", "auths/c.json"
CONFIG = "config/config.yaml"
LONG = 180.0
"""Seconds for one of many writers that push at once, on a busy machine."""


@pytest.fixture
def store(git_remote: Remote) -> Iterator[Git]:
    with closing(git_remote.connect()) as backend:
        yield backend


def test_an_empty_repository_begins_as_the_native_store_begins_it(
    store: Git, git_remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    repository = git_remote.repository
    assert store.snapshot() == {}
    assert repository.git("for-each-ref") == ""
    with caplog.at_level(logging.INFO):
        put(store, A, b"{}")
    assert "made the branch master" in caplog.text
    assert set(repository.files("master")) == {"auths/.gitkeep", "config/.gitkeep", A}
    lines = repository.git("log", "--format=%an <%ae>|%cn <%ce>|%s", "master").splitlines()
    who = "CLIProxyAPI <cliproxy@local>"
    assert lines == [
        f"{who}|{who}|Update auth a.json",
        f"{who}|{who}|Initialize git token store",
    ]
    assert repository.git("fsck", "--strict") == ""
    # The repository's HEAD still names main, which nobody made.
    assert store.snapshot()
    assert "choose master" in store.traits()["default branch"]


def test_doctor_warns_of_a_default_branch_that_does_not_exist(git_remote: Remote) -> None:
    def said() -> checkup.Said:
        answer = checkup.backend(git_remote.settings(), time.monotonic() + PATIENCE)
        return checkup.Said(**json.loads(answer))

    with closing(git_remote.connect()) as store:
        put(store, A, b"{}")
    assert "choose master" in said().traits["default branch"]
    assert "GITSTORE_GIT_BRANCH=master" in said().traits["lacking"]
    git_remote.repository.git("symbolic-ref", "HEAD", "refs/heads/master")
    assert not {"default branch", "lacking"} & said().traits.keys()


def test_a_poll_fetches_only_what_has_moved(store: Git, git_remote: Remote) -> None:
    def fetches() -> int:
        lines = git_remote.server.requests
        return sum(line.startswith("POST") and "upload-pack" in line for line in lines)

    put(store, A, b"1")
    before = fetches()
    for _ in range(3):
        store.snapshot()  # its own push is no news
    assert fetches() == before
    with closing(git_remote.connect()) as other:
        put(other, B, b"1")
    assert B in store.snapshot()
    assert fetches() > before
    before = fetches()
    assert B in store.snapshot()
    assert fetches() == before


def test_a_long_look_at_the_history_holds_no_writer(store: Git, git_remote: Remote) -> None:
    put(store, A, b"1")
    asked, let = threading.Event(), threading.Event()
    history = store._branch.history
    fetched = history._fetched

    def slowly(*words: Any) -> Any:
        asked.set()
        assert let.wait(PATIENCE)
        return fetched(*words)

    history._fetched = slowly  # type: ignore[method-assign, assignment]
    with ThreadPoolExecutor(1) as pool:
        versions = pool.submit(store.history, A)
        assert asked.wait(PATIENCE)
        put(store, B, b"1")
        assert content(store, B) == b"1"
        let.set()
        assert len(versions.result(PATIENCE)) == 1


def test_messages_name_every_path_and_no_two_are_the_same(store: Git, git_remote: Remote) -> None:
    first = put(store, "auths/team/x.json", b"1")
    put(store, CONFIG, b"a: 1\n")
    done(commit(store, Delete("auths/team/x.json", first), Put(B, b"1", None)))
    done(commit(store, Delete(B, Revision(first))))
    text = git_remote.repository.git("log", "--format=%B%x00", "master").split("\0")
    bodies = [one.strip() for one in text if one.strip()]
    subjects = [body.splitlines()[0] for body in bodies]
    assert subjects[:4] == [
        "Delete auth b.json",
        "Update auth store",
        "Update config",
        "Update auth team/x.json",
    ]
    assert f"delete auths/team/x.json\nput {B}" in bodies[1]
    ids = [line for line in "\n".join(bodies).splitlines() if line.startswith("Storefs-Id: ")]
    assert len(set(ids)) == len(bodies) == 5


def test_everything_that_waits_goes_out_in_one_push(git_remote: Remote) -> None:
    with closing(git_remote.connect()) as store:
        old = put(store, A, b"0")
        before = git_remote.server.pushes
        batches: list[list[Put | Delete]] = [
            [Put(f"auths/{n}.json", b"{}", None)] for n in range(48)
        ]
        batches.insert(20, [Put(A, b"1", Revision("stale"))])
        batches.insert(30, [Put("auths/3.json/below.json", b"1", None)])
        batches.insert(40, [Put(B, b"b", None), Delete(A, old)])
        outcomes = store.commit(batches, PATIENCE)
        failed(outcomes[20], Conflict)
        failed(outcomes[30], Invalid)
        assert [n for n, one in enumerate(outcomes) if isinstance(one, Exception)] == [20, 30]
        assert git_remote.server.pushes == before + 1
        assert len(store.snapshot()) == 49


def test_four_writers_a_native_and_a_person_lose_nothing(
    git_remote: Remote, tmp_path: Path
) -> None:
    rounds = scaled(20, least=4)
    with closing(git_remote.connect()) as first:
        put(first, "auths/shared.json", b"0")
    native = Native(git_remote.repository, tmp_path / "native")
    person = Person(git_remote.repository, tmp_path / "person")

    def write(number: int) -> None:
        with closing(git_remote.connect(deadline=LONG)) as backend:
            own: Revision | None = None
            path = f"auths/own-{number}.json"
            for turn in range(rounds):
                (outcome,) = backend.commit([[Put(path, b"%d" % turn, own)]], LONG)
                own = done(outcome)[path].revision
                while not _incremented(backend, "auths/shared.json"):
                    pass

    def save(who: Native | Person, path: str) -> None:
        for turn in range(max(2, rounds // 2)):
            who.save(path, b"%d" % turn)

    with ThreadPoolExecutor(6) as pool:
        tasks = [pool.submit(write, number) for number in range(4)]
        tasks.append(pool.submit(save, native, "auths/native.json"))
        tasks.append(pool.submit(save, person, "auths/person.json"))
        for task in tasks:
            task.result()
    last = b"%d" % (max(2, rounds // 2) - 1)
    expected = {f"auths/own-{n}.json": b"%d" % (rounds - 1) for n in range(4)}
    expected |= {"auths/native.json": last, "auths/person.json": last}
    expected["auths/shared.json"] = b"%d" % (4 * rounds)
    with closing(git_remote.connect()) as other:
        assert {p: b.data for p, b in other.read(list(other.snapshot())) if b} == expected
    assert git_remote.repository.git("fsck") is not None


def _incremented(backend: Git, path: str) -> bool:
    ((_, blob),) = backend.read([path])
    assert blob is not None
    change = Put(path, b"%d" % (int(blob.data) + 1), blob.entry.revision)
    (outcome,) = backend.commit([[change]], LONG)
    assert not isinstance(outcome, Exception) or isinstance(outcome, Conflict), outcome
    return not isinstance(outcome, Exception)


def test_a_rewritten_history_is_no_conflict_for_other_documents(
    store: Git, git_remote: Remote, tmp_path: Path
) -> None:
    first = put(store, A, b"1")
    put(store, B, b"1")
    Native(git_remote.repository, tmp_path / "native").save(B, b"native")
    second = put(store, A, b"2", first)
    assert content(store, B) == b"native"
    assert git_remote.repository.content(A, "master") == b"2"
    Person(git_remote.repository, tmp_path / "person").save(A, b"person")
    failed(commit(store, Put(A, b"3", second)), Conflict)
    assert content(store, A) == b"person"


def test_what_is_not_known_yet_is_asked_before_anything_is_refused(
    store: Git, git_remote: Remote
) -> None:
    put(store, A, b"1")
    with closing(git_remote.connect()) as other:
        first = other.snapshot()[A].revision
        second = put(other, A, b"2", first)
        third = put(other, B, b"1")
        put(store, A, b"3", second)
        done(commit(store, Delete(B, third)))
        # To the one that deletes it this is absent still, which is no reason to do nothing.
        fourth = put(other, C, b"1")
        done(commit(store, Delete(C, fourth)))
        assert set(other.snapshot()) == {A}


@pytest.mark.parametrize(("most", "seen"), [(1, False), (4, False), (4, True)])
def test_the_history_stays_short(git_remote: Remote, tmp_path: Path, most: int, seen: bool) -> None:
    with closing(git_remote.connect(MAX_COMMITS=str(most))) as store:
        revision = put(store, A, b"0")
        lengths = []
        for turn in range(1, 8):
            revision = put(store, A, b"%d" % turn, revision)
            lengths.append(git_remote.repository.commits("master"))
        assert max(lengths) == most
        assert set(lengths) == set(range(1, most + 1))
        assert lengths[-1] == 1
        # What others add counts too, though they do not say how many there are.
        person = Person(git_remote.repository, tmp_path / "person")
        for turn in range(3):
            person.save(B, b"%d" % turn)
            if seen:  # each of them, or the last only
                store.snapshot()
        put(store, A, b"last", revision)
        assert git_remote.repository.commits("master") <= most
        assert content(store, B) == b"2"


def test_a_server_that_forbids_force_pushes_lets_the_history_grow(
    git_remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    git_remote.repository.git("config", "receive.denyNonFastForwards", "true")
    with closing(git_remote.connect(MAX_COMMITS="2")) as store:
        assert store.traits()["history"] == "at most 2 commits"
        revision = put(store, A, b"0")
        for turn in range(1, 4):
            revision = put(store, A, b"%d" % turn, revision)
        assert git_remote.repository.commits("master") == 5
        assert "grows" in store.traits()["history"]
    assert sum("history grows" in record.message for record in caplog.records) == 1


def test_versions_of_a_document_can_be_seen_and_brought_back(
    store: Git, git_remote: Remote, tmp_path: Path
) -> None:
    assert isinstance(store, Historic)
    assert store.history(A) == []
    first = put(store, A, b"1")
    put(store, B, b"other")
    Person(git_remote.repository, tmp_path / "person").save(A, b"2")
    ((_, blob),) = store.read([A])
    assert blob is not None
    done(commit(store, Delete(A, blob.entry.revision)))
    versions = store.history(A)
    assert [one.revision for one in versions] == [None, blob.entry.revision, first]
    assert [one.author for one in versions] == ["CLIProxyAPI", "A Person", "CLIProxyAPI"]
    assert [bool(one.machine) for one in versions] == [True, False, True]
    assert all(abs(one.time - time.time()) < 600 for one in versions)
    assert store.blob(first) == b"1"
    shutil.rmtree(store._branch.history._directory)  # as who sweeps /tmp does
    assert store.history(A) == versions
    put(store, A, store.blob(first))
    assert git_remote.repository.content(A, "master") == b"1"
    assert len(store.history(A)) == 4
    for unknown in ("0" * 40, "none"):
        with pytest.raises(NotFound):
            store.blob(Revision(unknown))


def test_the_clone_stays_small(git_remote: Remote, tmp_path: Path) -> None:
    root = tmp_path / "machine"
    with closing(git_remote.connect(root)) as store:
        revision: Revision | None = None
        most = 0
        for turn in range(scaled(2000, least=200)):
            # Not to be compressed, as tokens are.
            data = b"".join(b"%x" % (hash((turn, n)) & 0xFFFFFFFF) for n in range(600))
            revision = put(store, A, data, revision)
            if turn % 10 == 9:
                store.snapshot()
                most = max(most, used(root))
        assert most < 10 << 20
        assert used(root) < 10 << 20
        # It must have been packed, or the bound says nothing.
        assert not list((root / ".storefs/git").glob("objects/??/*")) or most > used(root)
        assert content(store, A) == data
    assert git_remote.repository.content(A, "master") == data


def used(root: Path) -> int:
    """Bytes on disk."""
    words = ["du", "-s", "--block-size=1", str(root)]
    return int(subprocess.run(words, capture_output=True, check=True).stdout.split()[0])


def test_a_lost_answer_is_looked_up(store: Git, git_remote: Remote) -> None:
    first = put(store, A, b"1")
    git_remote.server.lost_answers = 1
    put(store, A, b"2", first)
    assert git_remote.server.lost_answers == 0
    assert git_remote.repository.content(A, "master") == b"2"


def test_a_stuck_server_holds_nobody_for_ever(git_remote: Remote) -> None:
    with closing(git_remote.connect(deadline=2.0)) as store:
        first = put(store, A, b"1")
        git_remote.server.stuck.set()
        try:
            failed(store.commit([[Put(A, b"2", first)]], 2.0)[0], Unavailable)
            with pytest.raises(Unavailable):
                store.snapshot()
            waiting = threading.Thread(target=lambda: commit(store, Put(B, b"2", None)))
            waiting.start()
            failed(store.commit([[Put(C, b"2", None)]], 0.1)[0], Unavailable)
            waiting.join()
        finally:
            git_remote.server.stuck.clear()
        assert content(store, A) in (b"1", b"2")
        put(store, CONFIG, b"a: 1\n")
