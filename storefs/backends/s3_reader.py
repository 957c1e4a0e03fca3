"""The short way of a GET, for the first fill: botocore's signature and connections, nothing else.

A call of the client costs more than twice the processor time, and Python runs one thread at a
time. Whatever is not a plain answer is left to the client. Thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import IncompleteReadError, ResponseStreamingError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from storefs.backends.s3_errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.s3_place import Place


class Reader:
    """Reads objects of one bucket."""

    def __init__(self, place: Place, timeouts: tuple[float, float], connections: int) -> None:
        """`timeouts`: seconds to connect, and to wait for bytes."""
        self._base = f"{place.endpoint}/{place.bucket}/"
        self._auth = S3SigV4Auth(
            Credentials(place.access_key, place.secret_key), "s3", place.signing_region
        )
        self._session = URLLib3Session(
            proxies=get_environ_proxies(place.endpoint),
            timeout=timeouts,  # type: ignore[arg-type]  # a pair is passed on as one
            max_pool_connections=connections,
        )

    def get(self, key: str, most: int) -> tuple[bytes, Mapping[str, str]] | None:
        """Content and headers; None: the answer was no plain one, ask in the long way.

        Raises TooLarge above `most` bytes, and what botocore raises for a broken connection.
        """
        request = AWSRequest("GET", self._base + quote(key, safe="/-._~"), stream_output=True)
        self._auth.add_auth(request)
        answer = self._session.send(request.prepare())
        length = answer.headers.get("content-length", "")
        try:
            if answer.status_code != 200 or not length.isdecimal():
                answer.raw.close()
                return None
            if int(length) > most:
                answer.raw.close()  # its connection with it: the rest is never read
                raise TooLarge(int(length))
            data: bytes = answer.raw.read()
        except HTTPError as error:
            raise ResponseStreamingError(error=error) from error
        if len(data) != int(length):
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=int(length))
        return data, answer.headers

    def close(self) -> None:
        """End the connections that are not in use."""
        self._session.close()
