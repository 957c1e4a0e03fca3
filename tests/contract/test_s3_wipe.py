"""An empty or freshly wiped mirror, and a server that fails: no object is removed or made less.

Whole machines without a kernel, over the real backend, through the breaking proxy.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.errors import Quit, StoreError
from tests.machines import Machine
from tests.scale import scaled
from tests.servers.s3 import Bucket
from tests.servers.s3_proxy import KINDS, Kind, Proxy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.user

DOCUMENTS = {
    "config/config.yaml": b"port: 8317\n",
    **{f"auths/{number}.json": b'{"serial": %d}' % number for number in range(6)},
}
_REQUESTS = 26
"""Of a start with a fill and a poll after it, about; the last ones are broken in vain."""


async def _live(place: Path, bucket: Bucket) -> dict[str, bytes]:
    """Start, poll twice, stop. Raises StoreError, Quit."""
    backend = await trio.to_thread.run_sync(bucket.connect)
    machine = Machine(place, backend)
    async with trio.open_nursery() as nursery:
        try:
            await machine.start(nursery)
            for _ in range(2):
                machine.documents.marks.mark_everything()
                machine.reconcile._not_before = 0.0
                await machine.reconcile.once()
                await machine.raise_all()
            return machine.tree()
        finally:
            machine.kill()


async def _attempt(place: Path, bucket: Bucket) -> None:
    """One life that may end at any moment. Its group of errors holds expected ones only."""
    try:
        await _live(place, bucket)
    except (StoreError, Quit):
        pass
    except ExceptionGroup as group:
        _, unexpected = group.split((StoreError, Quit))
        if unexpected is not None:
            raise


@pytest.mark.parametrize("server", ["moto_url", "rclone_url"])
@pytest.mark.parametrize("kind", KINDS)
async def test_no_start_ever_harms_the_store(
    request: pytest.FixtureRequest, tmp_path: Path, server: str, kind: Kind
) -> None:
    upstream: str = request.getfixturevalue(server)
    origin = Bucket(upstream).make()
    for path, data in DOCUMENTS.items():
        origin.put(path, data)
    step = max(1, 11 * 10 // scaled(100))
    with Proxy(upstream) as proxy:
        bucket = Bucket(proxy.url, origin.name)
        origin_of_stale = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="auths/")
        assert origin_of_stale["KeyCount"] == len(DOCUMENTS) - 1
        for number in range(1 + KINDS.index(kind), _REQUESTS, step):
            proxy.forget()
            proxy.break_nth(number, kind)
            await _attempt(tmp_path / "a", bucket)
            shutil.rmtree(tmp_path / "a")
            proxy.forget()
            await _attempt(tmp_path / "a", bucket)
            assert origin.content() == DOCUMENTS, f"{kind} of request {number}"
            proxy.rule = lambda request: None
            assert await _live(tmp_path / "a", bucket) == DOCUMENTS
            shutil.rmtree(tmp_path / "a")


async def test_a_listing_that_lacks_everything_removes_nothing(
    bucket: Bucket, moto_url: str, tmp_path: Path
) -> None:
    with Proxy(moto_url) as proxy:
        seen = Bucket(proxy.url, bucket.make().name)
        for prefix in ("auths/", "config/"):  # what is repeated: an empty store
            seen.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix)
        for path, data in DOCUMENTS.items():
            bucket.put(path, data)
        for wiped in (True, False):
            proxy.rule = lambda request: "stale" if request.is_listing else None
            await _attempt(tmp_path / "a", seen)
            assert bucket.content() == DOCUMENTS
            proxy.rule = lambda request: None
            assert await _live(tmp_path / "a", seen) == DOCUMENTS
            if wiped:
                shutil.rmtree(tmp_path / "a")
                assert await _live(tmp_path / "a", seen) == DOCUMENTS
