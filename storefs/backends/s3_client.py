"""The boto3 client of one mount, and the loop that tries a request again. Thread-safe.

Nothing of this machine's own AWS files and profiles is used: a mount must not depend on them.
"""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from storefs.backends import s3_errors
from storefs.backends.s3_sender import Sender, authorities
from storefs.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.config import Config
    from types_boto3_s3.client import S3Client

    from storefs.backends.s3_place import Place

T = TypeVar("T")

CONNECTIONS = 32
_TRIES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds, of which a random part is waited: doubled each time."""

_CONNECT_WITHIN = 3.0
_FAILURES = (
    ClientError, BotoCoreError, ResponseParserError, s3_errors.NoListing, s3_errors.NoTag,
)  # fmt: skip
_OWN_VARIABLES: dict[str, tuple[None, list[str], str | None, None]] = {
    "profile": (None, [], None, None),
    "config_file": (None, [], os.devnull, None),
    "credentials_file": (None, [], os.devnull, None),
}
"""botocore's session variables: option, environment, default, conversion."""


class Caller:
    """Sends requests until they are answered, refused for good, or out of time."""

    def __init__(self, place: Place, deadline: float) -> None:
        """`deadline`: seconds for one request, all its tries together."""
        self.place = place
        self.deadline = deadline
        self.sender = Sender(place, _timeouts(deadline), CONNECTIONS)
        self._client: S3Client | None = None
        self._making = threading.Lock()  # protects _client
        self._closed = threading.Event()

    @property
    def client(self) -> S3Client:
        """For what `sender` leaves to it. Made when it is needed: that takes half a second."""
        with self._making:
            if self._client is None:
                self._client = _client(self.place, self.deadline)
            return self._client

    def call(
        self,
        key: str,
        request: Callable[[], T],
        *,
        until: float,
        tries: int = 0,
        conditional: bool = False,
    ) -> T:
        """The answer of `request`, which is sent again while its failure may pass.

        `until` is a monotonic time; `tries` 0 means as many as usual. Raises StoreError, what
        `request` itself raises, and about a key (not the empty one) ConditionFailed; with
        `conditional` also Unsupported.
        """
        path, tries = self.place.path_of(key), tries or _TRIES
        for number in range(1, tries + 1):
            try:
                return request()
            except _FAILURES as error:
                if key:
                    s3_errors.check_condition(error, number > 1, conditional=conditional)
                failure = s3_errors.translate(path, error, self.place)
                if not s3_errors.passes(error):
                    raise failure from error
                pause = _pause(number, s3_errors.retry_after(error))
                if number == tries or time.monotonic() + pause >= until:
                    raise failure from error
                if self._closed.wait(pause):
                    raise Unavailable(path, "the backend was closed") from error
        raise AssertionError("there is at least one try")

    def close(self) -> None:
        """End the pauses, and every connection that is not in use."""
        self._closed.set()
        with self._making:
            if self._client is not None:
                self._client.close()
        self.sender.close()


def _pause(number: int, asked: float) -> float:
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**number)
    return asked + random.uniform(longest / 4, longest)


def _client(place: Place, deadline: float) -> S3Client:
    import boto3.session
    import botocore.session
    from botocore import handlers

    core = botocore.session.Session(session_vars=_OWN_VARIABLES)
    session = boto3.session.Session(
        botocore_session=core,
        aws_access_key_id=place.access_key,
        aws_secret_access_key=place.secret_key,
        region_name=place.signing_region,
    )
    try:
        client = session.client(
            "s3", endpoint_url=place.endpoint, config=_config(deadline), verify=authorities()
        )
    except (BotoCoreError, ValueError) as error:
        raise _unusable(place, error) from error
    # "Expect: 100-continue" costs a round trip for each put, and a second where it is unknown.
    client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
    return client


def _timeouts(deadline: float) -> tuple[float, float]:
    """Seconds to connect and to wait for bytes: together below the deadline of a call."""
    return min(_CONNECT_WITHIN, deadline / 3), deadline / 2


def _config(deadline: float) -> Config:
    from botocore.config import Config

    connect_timeout, read_timeout = _timeouts(deadline)
    return Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        retries={"total_max_attempts": 1},  # `call` tries again: it knows the deadline
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
        s3={"addressing_style": "path"},
    )


def _unusable(place: Place, error: Exception) -> StoreError:
    return Unavailable("", f"{place.endpoint}: {place.hide(str(error))}; check OBJECTSTORE_*")
