"""TLS to an object store whose certificate only a private authority knows."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from storefs.errors import Unavailable
from tests.contract.steps import content, put
from tests.servers.certificates import certificate
from tests.servers.s3 import KEY, SECRET, Bucket
from tests.servers.s3_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A = "auths/a.json"


@pytest.fixture
def secured(bucket: Bucket, tmp_path: Path) -> Iterator[tuple[Bucket, Path]]:
    """The bucket over TLS, and the certificate."""
    made = certificate(tmp_path, "server")
    with Proxy(bucket.make().endpoint, certificate=made) as proxy:
        yield Bucket(proxy.url, bucket.name), made


@pytest.mark.parametrize("scheme", ["https://", ""])
def test_a_named_authority_is_believed(
    secured: tuple[Bucket, Path], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Without a scheme an endpoint is HTTPS."""
    bucket, authority = secured
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    place = Bucket(scheme + bucket.endpoint.removeprefix("https://"), bucket.name)
    with closing(place.connect()) as s3:
        put(s3, A, b"{}")
        assert content(s3, A) == b"{}"
        assert [*s3.snapshot()] == [A]


def test_an_unknown_authority_is_not(secured: tuple[Bucket, Path]) -> None:
    bucket, _ = secured
    with pytest.raises(Unavailable, match="no TLS as this machine trusts it") as caught:
        bucket.connect()
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
