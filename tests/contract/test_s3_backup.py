"""The second copy of each document in the same bucket."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from storefs.backends.contract import Delete
from tests.contract.steps import PATIENCE, commit, content, done, put
from tests.mount.harness import until
from tests.servers.s3_proxy import Proxy, Reply, Request

if TYPE_CHECKING:
    from storefs.backends.s3 import S3
    from tests.servers.s3 import Bucket

pytestmark = pytest.mark.user

A, B, CONFIG = "auths/a.json", "auths/b.json", "config/config.yaml"


def connected(bucket: Bucket, **more: object) -> S3:
    return bucket.connect(env=bucket.env(BACKUP_PREFIX="backup"), **more)


def holds(bucket: Bucket, **objects: bytes | None) -> None:
    """Wait until the copies are these."""
    keys = {"a": f"backup/{A}", "b": f"backup/{B}", "config": f"backup/{CONFIG}"}
    expected = {keys[name]: data for name, data in objects.items()}
    found: dict[str, bytes | None] = {}

    def equal() -> bool:
        found.update({key: bucket.get(key) for key in expected})
        return found == expected

    until(equal, f"{expected}, but {found}", PATIENCE)


def test_each_change_is_followed(bucket: Bucket) -> None:
    with closing(connected(bucket)) as s3:
        first = put(s3, A, b"{}")
        put(s3, CONFIG, b"a: 1\n")
        holds(bucket, a=b"{}", config=b"a: 1\n")
        second = put(s3, A, b'{"a": 1}', first)
        holds(bucket, a=b'{"a": 1}')
        done(commit(s3, Delete(A, second)))
        holds(bucket, a=None, config=b"a: 1\n")
        assert s3.snapshot().keys() == {CONFIG}


def test_what_waits_is_written_at_the_end(bucket: Bucket) -> None:
    s3 = connected(bucket)
    for number in range(20):
        put(s3, f"auths/{number}.json", b"{}")
    s3.close()
    assert sum(key.startswith("backup/") for key in bucket.keys()) == 20  # noqa: SIM118


def test_a_backup_that_is_refused_is_in_nobodys_way(
    bucket: Bucket, moto_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def rule(request: Request) -> Reply | None:
        return Reply(403, "AccessDenied") if request.key.startswith("backup/") else None

    with Proxy(moto_url) as proxy:
        proxy.rule = rule
        with closing(connected(type(bucket)(proxy.url, bucket.name))) as s3:
            put(s3, A, b"{}")
            put(s3, B, b"{}")
            assert bucket.get(A) == b"{}"
            until(lambda: "AccessDenied" in s3.traits()["backup"], "told in the traits", PATIENCE)
            assert "waiting" in s3.traits()["backup"]
            proxy.rule = lambda request: None
            holds(bucket, a=b"{}", b=b"{}")
    assert sum("the backup waits" in line for line in caplog.messages) == 1


def test_what_another_hand_removed_keeps_its_copy(bucket: Bucket) -> None:
    with closing(connected(bucket)) as s3:
        put(s3, A, b"{}")
        put(s3, B, b"{}")
        holds(bucket, a=b"{}", b=b"{}")
        bucket.delete(A)

        def told() -> bool:
            s3.snapshot()
            return s3.only_in_backup() == (A,)

        until(told, "only in backup", PATIENCE)
        assert "1 only in backup" in s3.traits()["backup"]
    with closing(connected(bucket)) as s3:
        assert s3.only_in_backup() == (A,), "known from the start"
        assert s3.copy(A) == b"{}"
        assert s3.copy("auths/never.json") is None
        assert s3.snapshot().keys() == {B}, "a start brings one of several back by itself"
    assert bucket.get(f"backup/{A}") == b"{}"


def test_a_removal_of_both_by_another_mount_is_no_trouble(bucket: Bucket) -> None:
    with closing(connected(bucket)) as s3, closing(connected(bucket)) as other:
        revision = put(s3, A, b"{}")
        put(s3, B, b"{}")
        holds(bucket, a=b"{}", b=b"{}")
        done(commit(other, Delete(A, revision)))
        holds(bucket, a=None)
        s3.snapshot()
        until(lambda: s3.only_in_backup() == (), "nothing is", PATIENCE)
        assert s3.find_only_in_backup() == ()


def test_without_a_prefix_there_are_no_copies(bucket: Bucket) -> None:
    with closing(bucket.connect()) as s3:
        assert s3.only_in_backup() is None
        assert s3.find_only_in_backup() is None
        assert s3.copy(A) is None


@pytest.mark.parametrize("spoilt", [b"", b'{"half": '])
def test_a_start_restores_what_is_empty_or_broken(bucket: Bucket, spoilt: bytes) -> None:
    bucket.make().put(A, spoilt)
    bucket.put(f"backup/{A}", b'{"a": 1}')
    bucket.put(CONFIG, b"a: [1\n")
    bucket.put(f"backup/{CONFIG}", b"a: 1\n")
    bucket.put(B, spoilt)
    bucket.put(f"backup/{B}", b"just as broken")
    with closing(connected(bucket)) as s3:
        assert content(s3, A) == b'{"a": 1}'
        assert content(s3, CONFIG) == b"a: 1\n"
        assert content(s3, B) == spoilt


def test_a_start_restores_everything_where_nothing_is_left(bucket: Bucket) -> None:
    bucket.make().put(f"backup/{A}", b"{}")
    bucket.put(f"backup/{CONFIG}", b"a: 1\n")
    with closing(connected(bucket)) as s3:
        assert s3.snapshot().keys() == {A, CONFIG}
        assert content(s3, A) == b"{}"


def test_a_sound_primary_always_wins(bucket: Bucket) -> None:
    bucket.make().put(A, b'{"new": 1}')
    bucket.put(f"backup/{A}", b'{"old": 1}')
    bucket.put(B, b"{}")
    with closing(connected(bucket)) as s3:
        assert content(s3, A) == b'{"new": 1}'
        holds(bucket, a=b'{"new": 1}', b=b"{}")


def test_a_broken_primary_never_replaces_a_copy(bucket: Bucket) -> None:
    with closing(connected(bucket)) as s3:
        put(s3, A, b"{}")
        holds(bucket, a=b"{}")
    bucket.put(A, b"")
    with closing(connected(bucket, read_only=True)) as s3:
        assert content(s3, A) == b""
    assert bucket.get(f"backup/{A}") == b"{}"


def test_a_stale_listing_restores_nothing_over_what_is_there(bucket: Bucket, moto_url: str) -> None:
    bucket.make().put(f"backup/{A}", b'{"old": 1}')
    with Proxy(moto_url) as proxy:
        seen = type(bucket)(proxy.url, bucket.name)
        seen.client.list_objects_v2(Bucket=bucket.name, Prefix="auths/")  # empty: repeated below
        bucket.put(A, b'{"new": 1}')
        proxy.rule = lambda request: "stale" if request.is_listing else None
        connected(seen).close()
    assert bucket.get(A) == b'{"new": 1}'
