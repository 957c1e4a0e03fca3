"""The short way of a request: botocore's signature, connections and errors, without its client.

A call of the client costs several times the processor time, and Python runs one thread at a time.
What only the client can answer, such as a bucket in another region, is left to it. Thread-safe.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError
from botocore.httpsession import URLLib3Session
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from storefs.backends.s3_errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.awsrequest import AWSResponse

    from storefs.backends.s3_place import Place

_LOUD = ("boto3", "botocore", "s3transfer", "urllib3")

_FOR_THE_CLIENT: Final = {301, 307, 308, 400}
"""Statuses of a redirect, or of a signature for another region; the client follows both."""

_SOCKET: Any = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]

_ERRORS = create_parser("rest-xml")  # type: ignore[no-untyped-call, unused-ignore]


class LeftToClient(Exception):
    """The client may get an answer where this way does not."""


class Sender:
    """Sends requests about one bucket and its objects, each once."""

    def __init__(self, place: Place, timeouts: tuple[float, float], connections: int) -> None:
        """`timeouts`: seconds to connect, and to wait for bytes."""
        for name in _LOUD:
            # At DEBUG they log headers, bodies and what a signature is made of: documents.
            logging.getLogger(name).setLevel(logging.WARNING)
        self._base = f"{place.endpoint}/{place.bucket}"
        self._auth = S3SigV4Auth(
            Credentials(place.access_key, place.secret_key), "s3", place.signing_region
        )
        self._session = URLLib3Session(
            verify=authorities(),  # type: ignore[arg-type]  # a path is taken, too
            proxies=get_environ_proxies(place.endpoint),
            timeout=timeouts,  # type: ignore[arg-type]  # a pair is passed on as one
            max_pool_connections=connections,
            # Without the first each put waits 40 ms for an acknowledgement.
            socket_options=_SOCKET,
        )

    def send(
        self,
        operation: str,
        method: str,
        key: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers of a successful answer; the headers are found in any case.

        `key` empty: about the bucket. `operation` as the S3 API calls it, for the error. Raises
        LeftToClient, ClientError, and what botocore raises for a broken connection.
        """
        answer = self._sent(method, key, data=data, headers=headers, query=query)
        if answer.status_code >= 300:
            raise _refusal(answer, answer.content, operation)
        return answer.content, answer.headers

    def get(self, key: str, most: int) -> tuple[bytes, Mapping[str, str]]:
        """Content and headers. Raises as `send`, and TooLarge above `most` bytes."""
        answer = self._sent("GET", key, stream=True)
        length = answer.headers.get("content-length", "")
        try:
            if answer.status_code != 200:
                raise _refusal(answer, answer.raw.read(), "GetObject")
            if not length.isdecimal():
                answer.raw.close()
                raise LeftToClient
            if int(length) > most:
                answer.raw.close()  # its connection with it: the rest is never read
                raise TooLarge(int(length))
            data: bytes = answer.raw.read()
        except HTTPError as error:
            raise ResponseStreamingError(error=error) from error
        if len(data) != int(length):
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=int(length))
        return data, answer.headers

    def _sent(
        self,
        method: str,
        key: str,
        *,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> AWSResponse:
        url = f"{self._base}/{quote(key, safe='/-._~')}" if key else self._base
        request = AWSRequest(method, url, headers, data, query, stream_output=stream)
        self._auth.add_auth(request)
        return self._session.send(request.prepare())

    def close(self) -> None:
        """End the connections that are not in use."""
        self._session.close()


def authorities() -> str | bool:
    """Whom to believe in TLS: the file that a variable names, as for the client, else the usual."""
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True


def _refusal(answer: AWSResponse, body: bytes, operation: str) -> Exception:
    """What to raise. Itself raises ResponseParserError where no S3 server speaks."""
    if answer.status_code in _FOR_THE_CLIENT:
        return LeftToClient()
    said = {"status_code": answer.status_code, "headers": answer.headers, "body": body}
    shape: Any = None  # there is none of an error
    return ClientError(_ERRORS.parse(said, shape), operation)
