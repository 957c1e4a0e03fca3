"""Objects of one bucket: list, head, get, put, delete, each one request tried until answered.

Knows keys and ETags, no documents. Thread-safe. Every function raises StoreError, and
ConditionFailed or Unsupported where it says so.
"""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from storefs.backends.s3_errors import ConditionFailed, NoListing, TooLarge
from storefs.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from storefs.backends.s3_client import Caller

ABSENT = "*"
"""The condition of a put that makes a new object."""

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says of one object. `modified_ns`: whole seconds, 0 = unknown."""

    etag: str
    size: int
    modified_ns: int
    version: str = field(default="", compare=False)
    """Of a bucket that keeps versions."""


class Objects:
    """The objects of one bucket."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._bucket = caller.place.bucket

    def _call(self, key: str, request: Callable[[], Any], until: float = 0, **more: Any) -> Any:
        limit = until or time.monotonic() + self._caller.deadline
        return self._caller.call(key, request, until=limit, **more)

    def listing(self, prefix: str, *, most: int = 0) -> Iterator[tuple[str, Found]]:
        """Every object whose key begins with `prefix`, at most `most` unless that is 0."""
        words: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix}
        if most:
            words["MaxKeys"] = most
        while True:
            page = self._call("", lambda words=words: self._page(words))  # type: ignore[misc]
            for item in page.get("Contents", ()):
                yield item["Key"], _listed(item)
            if not page["IsTruncated"] or most:
                return
            token = page.get("NextContinuationToken")
            if not token or token == words.get("ContinuationToken"):
                raise Corrupt("", f"{prefix}: the listing does not go on where it must")
            words = {**words, "ContinuationToken": token}

    def _page(self, words: dict[str, Any]) -> Mapping[str, Any]:
        page: Mapping[str, Any] = self._caller.client.list_objects_v2(**words)
        # Any other XML, such as a login page, would read as an empty store.
        if "IsTruncated" not in page:
            raise NoListing
        return page

    def has_bucket(self, prefix: str) -> bool:
        """Whether the bucket exists. By a listing below `prefix`, which a key may surely list:
        a HEAD does not say why it is refused."""

        def look() -> bool:
            try:
                self._page({"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": 1})
            except self._caller.client.exceptions.NoSuchBucket:
                return False
            return True

        return bool(self._call("", look))

    def head(self, key: str, *, until: float = 0) -> Found | None:
        """What is under `key`; None: nothing."""
        try:
            answer = self._call(
                key,
                lambda: self._caller.client.head_object(Bucket=self._bucket, Key=key),
                until,
            )
        except ConditionFailed:
            return None
        return Found(_etag(answer), answer["ContentLength"], _seconds(answer.get("LastModified")))

    def get(self, key: str, most: int) -> tuple[bytes, Found] | None:
        """The content of `key`, None where it is absent. Raises TooLarge above `most` bytes."""
        try:
            answer: tuple[bytes, Found] = self._call(key, lambda: self._fetch(key, most))
        except ConditionFailed:
            return None
        return answer

    def _fetch(self, key: str, most: int) -> tuple[bytes, Found]:
        if (short := self._caller.reader.get(key, most)) is not None:
            data, headers = short
            return data, Found(
                _etag({"ETag": headers.get("etag", "")}), len(data), _modified(headers)
            )
        answer = self._caller.client.get_object(Bucket=self._bucket, Key=key)
        body, size = answer["Body"], answer["ContentLength"]
        if size > most:
            body.close()  # its connection with it: the rest is never read
            raise TooLarge(size)
        data = body.read()
        return data, Found(_etag(answer), len(data), _seconds(answer.get("LastModified")))

    def put(
        self, key: str, data: bytes, match: str = "", *, until: float = 0, tries: int = 0
    ) -> Found:
        """Make `key` hold `data`, if it is as `match` says: ABSENT, an ETag, or empty for any.

        Raises ConditionFailed, Unsupported.
        """
        words: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": key,
            "Body": data,
            "ContentType": content_type(key),
            "ContentMD5": base64.b64encode(_md5(data)).decode(),
        }
        if match == ABSENT:
            words["IfNoneMatch"] = ABSENT
        elif match:
            words["IfMatch"] = f'"{match}"'
        answer = self._call(
            key,
            lambda: self._caller.client.put_object(**words),
            until,
            tries=tries,
            conditional=match != "",
        )
        if not answer.get("ETag"):
            found = self.head(key, until=until)
            if found is None:
                raise Corrupt(key, "was put, and is not there")
            return found
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        return Found(_etag(answer), len(data), _date(date), answer.get("VersionId", ""))

    def delete(
        self, key: str, match: str = "", version: str = "", *, until: float = 0, tries: int = 0
    ) -> str:
        """Make `key` absent, if it has the ETag `match` or that is empty; returns the version
        that a bucket with versions made of it. Raises ConditionFailed, Unsupported."""
        words: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        if match:
            words["IfMatch"] = f'"{match}"'
        if version:
            words["VersionId"] = version
        try:
            answer = self._call(
                key,
                lambda: self._caller.client.delete_object(**words),
                until,
                tries=tries,
                conditional=match != "",
            )
        except ConditionFailed:
            if match:
                raise
            return ""
        return str(answer.get("VersionId", ""))

    def create_bucket(self) -> None:
        """Make the bucket; it may exist already."""
        place, client = self._caller.place, self._caller.client
        words: dict[str, Any] = {"Bucket": self._bucket}
        if place.region not in ("", "us-east-1", "auto"):
            words["CreateBucketConfiguration"] = {"LocationConstraint": place.region}
        owned = client.exceptions.BucketAlreadyOwnedByYou

        def make() -> None:
            try:
                client.create_bucket(**words)
            except owned:  # another machine was faster, or an earlier try got no answer
                return

        self._call("", make)


def content_type(key: str) -> str:
    """As the proxy's own object store writes it."""
    return "application/x-yaml" if key.endswith("config/config.yaml") else "application/json"


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _listed(item: Mapping[str, Any]) -> Found:
    return Found(_etag(item), item.get("Size", 0), _seconds(item.get("LastModified")))


def _etag(answer: Mapping[str, Any]) -> str:
    """Without the quotes, which some servers leave out in some answers."""
    etag = str(answer.get("ETag", "")).strip('"')
    if not etag:
        raise Corrupt("", "the server gives objects no ETag; without it no change is seen")
    return etag


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) * _SECOND if moment else 0


def _modified(headers: Mapping[str, str]) -> int:
    return _date(headers.get("last-modified", ""))


def _date(text: str) -> int:
    try:
        return _seconds(parsedate_to_datetime(text))
    except (TypeError, ValueError):
        return 0
