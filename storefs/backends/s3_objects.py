"""Objects of one bucket: list, head, get, put, delete, each one request tried until answered.

Knows keys and ETags, no documents. Thread-safe. Every function raises StoreError, and
ConditionFailed or Unsupported where it says so.
"""

from __future__ import annotations

import base64
import hashlib
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from storefs.backends.s3_errors import ConditionFailed, NoTag, TooLarge, answer_of
from storefs.backends.s3_listing import SECOND, Found, Page, etag_of, of_client, parse
from storefs.backends.s3_sender import LeftToClient
from storefs.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storefs.backends.s3_client import Caller

__all__ = ["ABSENT", "Found", "Objects"]

ABSENT = "*"
"""The condition of a put that makes a new object."""

_LISTING: Final = {"list-type": "2", "encoding-type": "url"}
"""Keys may hold what XML may not."""

_WORDS: Final = {
    "Content-Type": "ContentType",
    "Content-MD5": "ContentMD5",
    "If-Match": "IfMatch",
    "If-None-Match": "IfNoneMatch",
    "versionId": "VersionId",
    "list-type": "",
    "encoding-type": "",
    "prefix": "Prefix",
    "max-keys": "MaxKeys",
    "continuation-token": "ContinuationToken",
}
"""Headers and parameters of a request -> what the client calls them; empty: it adds them itself."""


class Objects:
    """The objects of one bucket."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._bucket = caller.place.bucket

    def _call(self, key: str, request: Callable[[], Any], until: float = 0, **more: Any) -> Any:
        limit = until or time.monotonic() + self._caller.deadline
        return self._caller.call(key, request, until=limit, **more)

    def _by_client(self, method: str, key: str, words: Mapping[str, str], data: bytes = b"") -> Any:
        """What the client answers to the same request, once."""
        named: dict[str, Any] = {
            name: text for word, text in words.items() if (name := _WORDS[word])
        }
        if key:
            named["Key"] = key
        if data or method == "put_object":
            named["Body"] = data
        if "MaxKeys" in named:
            named["MaxKeys"] = int(named["MaxKeys"])
        return getattr(self._caller.client, method)(Bucket=self._bucket, **named)

    def listing(self, prefix: str, *, most: int = 0) -> Iterator[tuple[str, Found]]:
        """Every object whose key begins with `prefix`, at most `most` unless that is 0."""
        query = {**_LISTING, "prefix": prefix}
        if most:
            query["max-keys"] = str(most)
        while True:
            page: Page = self._call("", lambda query=query: self._page(query))  # type: ignore[misc]
            yield from page.objects
            if not page.truncated or most:
                return
            if not page.token or page.token == query.get("continuation-token"):
                raise Corrupt("", f"{prefix}: the listing does not go on where it must")
            query = {**query, "continuation-token": page.token}

    def _page(self, query: Mapping[str, str]) -> Page:
        try:
            body, _ = self._caller.sender.send("ListObjectsV2", "GET", "", query=query)
        except LeftToClient:
            return of_client(self._by_client("list_objects_v2", "", query))
        return parse(body)

    def has_bucket(self, prefix: str) -> bool:
        """Whether the bucket exists. By a listing below `prefix`, which a key may surely list:
        a HEAD does not say why it is refused."""

        def look() -> bool:
            try:
                self._page({**_LISTING, "prefix": prefix, "max-keys": "1"})
            except ClientError as error:
                if answer_of(error).code == "NoSuchBucket":
                    return False
                raise
            return True

        return bool(self._call("", look))

    def head(self, key: str, *, until: float = 0) -> Found | None:
        """What is under `key`; None: nothing."""

        def ask() -> Mapping[str, str]:
            try:
                return _tagged(self._caller.sender.send("HeadObject", "HEAD", key)[1])
            except LeftToClient:
                return _tagged(_headers(self._by_client("head_object", key, {})))

        try:
            headers = self._call(key, ask, until)
        except ConditionFailed:
            return None
        size = int(headers.get("content-length", 0))
        return Found(etag_of(headers["etag"]), size, _modified(headers))

    def get(self, key: str, most: int) -> tuple[bytes, Found] | None:
        """The content of `key`, None where it is absent. Raises TooLarge above `most` bytes."""

        def ask() -> tuple[bytes, Mapping[str, str]]:
            try:
                data, headers = self._caller.sender.get(key, most)
            except LeftToClient:
                data, headers = self._body(self._by_client("get_object", key, {}), most)
            return data, _tagged(headers)

        try:
            data, headers = self._call(key, ask)
        except ConditionFailed:
            return None
        return data, Found(etag_of(headers["etag"]), len(data), _modified(headers))

    def _body(self, answer: Mapping[str, Any], most: int) -> tuple[bytes, Mapping[str, str]]:
        body, size = answer["Body"], answer["ContentLength"]
        if size > most:
            body.close()  # its connection with it: the rest is never read
            raise TooLarge(size)
        return body.read(), _headers(answer)

    def put(
        self, key: str, data: bytes, match: str = "", *, until: float = 0, tries: int = 0
    ) -> Found:
        """Make `key` hold `data`, if it is as `match` says: ABSENT, an ETag, or empty for any.

        Raises ConditionFailed, also if something else is there already again; Unsupported.
        """
        said = {
            "Content-Type": content_type(key),
            "Content-MD5": base64.b64encode(_md5(data)).decode(),
        }
        if match == ABSENT:
            said["If-None-Match"] = ABSENT
        elif match:
            said["If-Match"] = f'"{match}"'

        def ask() -> Mapping[str, str]:
            try:
                return self._caller.sender.send("PutObject", "PUT", key, data, said)[1]
            except LeftToClient:
                return _headers(self._by_client("put_object", key, said, data))

        headers = self._call(key, ask, until, tries=tries, conditional=match != "")
        if not headers.get("etag"):
            return self.found_again(key, data)
        moment, version = _date(headers.get("date", "")), headers.get("x-amz-version-id", "")
        return Found(etag_of(headers["etag"]), len(data), moment, version)

    def found_again(self, key: str, data: bytes) -> Found:
        """The object that was put a moment ago. By its content: whoever asks for its ETag alone
        may be told that of what somebody else has put there since. Raises ConditionFailed."""
        try:
            answer = self.get(key, len(data))
        except TooLarge:
            answer = None
        if answer is None or answer[0] != data:
            raise ConditionFailed(again=False)
        return answer[1]

    def delete(
        self, key: str, match: str = "", version: str = "", *, until: float = 0, tries: int = 0
    ) -> str:
        """Make `key` absent, if it has the ETag `match` or that is empty; returns the version
        that a bucket with versions made of it. Raises ConditionFailed, Unsupported."""
        said = {"If-Match": f'"{match}"'} if match else {}
        query = {"versionId": version} if version else {}

        def ask() -> Mapping[str, str]:
            try:
                return self._caller.sender.send(
                    "DeleteObject", "DELETE", key, headers=said, query=query
                )[1]
            except LeftToClient:
                return _headers(self._by_client("delete_object", key, {**said, **query}))

        try:
            headers = self._call(key, ask, until, tries=tries, conditional=match != "")
        except ConditionFailed:
            if match:
                raise
            return ""
        return str(headers.get("x-amz-version-id", ""))

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


def _headers(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """Of an answer of the client, in lower case."""
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


def _tagged(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of an answer about one object. Raises NoTag."""
    if not headers.get("etag", "").strip('"'):
        raise NoTag
    return headers


def _modified(headers: Mapping[str, str]) -> int:
    return _date(headers.get("last-modified", ""))


def _date(text: str) -> int:
    """Nanoseconds since 1970 of an HTTP date; 0: it is none."""
    try:
        return int(parsedate_to_datetime(text).timestamp()) * SECOND
    except (TypeError, ValueError):
        return 0
