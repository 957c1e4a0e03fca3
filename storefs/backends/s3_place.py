"""Where the documents of one S3 mount are: endpoint, bucket, prefixes. Asks nobody."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from storefs import natives, paths
from storefs.backends.contract import check_place
from storefs.errors import Exit, Invalid, Quit

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_MAX = 1024
"""Bytes of one key, in UTF-8; the limit of S3 itself."""

_NEEDED = ("OBJECTSTORE_BUCKET", "OBJECTSTORE_ACCESS_KEY", "OBJECTSTORE_SECRET_KEY")
_AWS_HOST = re.compile(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Place:
    """One store. `prefix` and `backup` are empty or end with a slash."""

    endpoint: str
    """A URL of scheme and host."""
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    prefix: str = ""
    backup: str = ""
    """Where each document is written a second time; empty: nowhere."""
    region: str = ""
    """As it was told; empty: whatever the endpoint says."""

    @property
    def identity(self) -> str:
        """See Backend.identity."""
        return f"s3:{self.endpoint}/{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def signing_region(self) -> str:
        """The region that requests are signed for."""
        if found := _AWS_HOST.fullmatch(urlsplit(self.endpoint).hostname or ""):
            return self.region or found[1]
        return self.region or DEFAULT_REGION

    def key_of(self, path: str) -> str:
        """Where a document is."""
        return self.prefix + path

    def path_of(self, key: str) -> str:
        """The document under a key below `prefix`."""
        return key.removeprefix(self.prefix)

    def hide(self, text: str) -> str:
        """A server's words without the keys, should it repeat them."""
        for secret in (self.secret_key, self.access_key):
            text = text.replace(secret, "***")
        return text


def check_key(path: str, place: Place) -> None:
    """Raises Invalid unless a document can live under `path`, and have a key."""
    check_place(path)
    if len(place.key_of(path).encode()) > KEY_MAX:
        raise Invalid(path, f"its key would be longer than the {KEY_MAX} bytes of S3")


def place_of(env: Mapping[str, str]) -> Place:
    """The place that the OBJECTSTORE_* variables name. Raises Quit for what is missing or wrong."""
    endpoint = _endpoint(natives.value(env, "OBJECTSTORE_ENDPOINT"))
    values = {name: natives.value(env, name) for name in _NEEDED}
    if missing := [name for name, value in values.items() if not value]:
        raise _wrong(f"{' and '.join(missing)} must be set for the backend s3")
    bucket, access_key, secret_key = values.values()
    if not _BUCKET.fullmatch(bucket):
        raise _wrong("OBJECTSTORE_BUCKET is not the name of a bucket (3 to 63 letters, digits, -)")
    prefix = _prefix(env, "OBJECTSTORE_PREFIX")
    backup = _prefix(env, "OBJECTSTORE_BACKUP_PREFIX")
    if backup and _overlap(prefix, backup):
        raise _wrong(
            "OBJECTSTORE_BACKUP_PREFIX lies among the documents: choose one beside them, as backup"
        )
    region = natives.value(env, "OBJECTSTORE_REGION")
    return Place(endpoint, bucket, access_key, secret_key, prefix, backup, region)


def _endpoint(text: str) -> str:
    """A URL without a path; no scheme means HTTPS, as in the proxy's own store."""
    if not text:
        raise _wrong("OBJECTSTORE_ENDPOINT must be set for the backend s3, such as s3.example.com")
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _wrong("OBJECTSTORE_ENDPOINT is not a host or a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _wrong("OBJECTSTORE_ENDPOINT must be a host, or begin with http:// or https://")
    if parts.username is not None:
        raise _wrong(
            "OBJECTSTORE_ENDPOINT holds a user name: keys go into OBJECTSTORE_ACCESS_KEY and "
            "OBJECTSTORE_SECRET_KEY"
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _wrong("OBJECTSTORE_ENDPOINT has a path: the bucket goes into OBJECTSTORE_BUCKET")
    return f"{parts.scheme}://{parts.netloc}"


def _prefix(env: Mapping[str, str], name: str) -> str:
    prefix = natives.value(env, name).strip("/")
    if not prefix:
        return ""
    try:
        paths.check_path(prefix)
    except paths.InvalidPath as error:
        raise _wrong(f"{name} cannot be a prefix of keys: {error}") from None
    return f"{prefix}/"


def _overlap(prefix: str, backup: str) -> bool:
    """Whether one listing would show keys of both."""
    ours = [f"{prefix}{top}/" for top in paths.SHARED]
    theirs = [f"{backup}{top}/" for top in paths.SHARED]
    return any(one.startswith(other) or other.startswith(one) for one in ours for other in theirs)


def _wrong(message: str) -> Quit:
    return Quit(Exit.SETTINGS, message)
