"""What an S3 server's failures mean: which pass by themselves, and what to tell a person."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from storefs.errors import AccessDenied, Corrupt, Invalid, StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storefs.backends.s3_place import Place

_PASSING = {
    "ConditionalRequestConflict",  # two writers at once: neither was refused for good
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
_PASSING_STATUS = {429, 500, 502, 503, 504}
_IMPOSSIBLE = {
    "EntityTooLarge",
    "InvalidObjectName",
    "InvalidObjectState",  # archived: it cannot be read as it is
    "InvalidURI",
    "KeyTooLongError",
}
_UNSUPPORTED = {"InvalidArgument", "InvalidRequest", "MethodNotAllowed", "NotImplemented"}
_SKEWED = "RequestTimeTooSkewed"
_REMEDIES = {
    "AuthorizationHeaderMalformed": "set OBJECTSTORE_REGION to the region of the bucket",
    "InvalidAccessKeyId": "the server does not know the key: check OBJECTSTORE_ACCESS_KEY",
    "NoSuchBucket": "the bucket is gone: check OBJECTSTORE_BUCKET",
    "PermanentRedirect": "the bucket is elsewhere: check OBJECTSTORE_ENDPOINT and _REGION",
    "SignatureDoesNotMatch": "the secret key is wrong: check OBJECTSTORE_SECRET_KEY",
}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect"}


class ConditionFailed(Exception):
    """The object is not as the request demanded, or is absent.

    `again`: an earlier try of the same request got no answer, and may be what changed it.
    """

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.again = again


class Unsupported(Exception):
    """The server knows no such request, or no such condition."""


class TooLarge(Exception):
    """The object has more bytes than this mount ever downloads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class NoListing(Exception):
    """A successful answer that is no listing: something else answers for the server."""


class NoTag(Exception):
    """An answer about an object without its ETag: `rclone serve s3` gives none of an object that
    is being overwritten."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The parts of an error response that decide something."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]

    @property
    def absent(self) -> bool:
        """Whether the server itself says that there is no such object.

        A 404 of anything that answers in its place has no code of S3; a HEAD has none ever.
        """
        return self.status == 404 and self.code in ("404", "NoSuchKey", "NoSuchVersion")


def answer_of(error: boto.ClientError) -> Answer:
    """What the server said. A HEAD has no body: its code is the status."""
    said, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    return Answer(
        status=meta.get("HTTPStatusCode", 0),
        code=str(said.get("Code", "")),
        message=str(said.get("Message", "")),
        headers=meta.get("HTTPHeaders", {}),
    )


def passes(error: Exception) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(error, boto.ClientError):
        answer = answer_of(error)
        return answer.code in _PASSING or answer.status in _PASSING_STATUS
    return not isinstance(error, boto.ParamValidationError)


def check_condition(error: Exception, again: bool, *, conditional: bool) -> None:
    """Raises ConditionFailed, or Unsupported, if that is what the error about a key says.

    Without `conditional` the request had no condition: only an absent object counts.
    """
    if not isinstance(error, boto.ClientError):
        return
    answer = answer_of(error)
    if answer.absent or (conditional and answer.status == 412):
        raise ConditionFailed(again) from error
    if conditional and (answer.status == 501 or answer.code in _UNSUPPORTED):
        raise Unsupported from error


def retry_after(error: Exception) -> float:
    """Seconds that the server asks to be left alone; 0: it does not say."""
    if not isinstance(error, boto.ClientError):
        return 0.0
    said = answer_of(error).headers.get("retry-after", "")
    if said.isdecimal():
        return float(said)
    date = _date(said)
    return max(0.0, date - time.time()) if date else 0.0


def translate(path: str, error: Exception, place: Place) -> StoreError:
    """What a failure of boto3 about `path` (empty: about the store) means to whoever asked.

    Codes as the S3 API reference lists them. What is neither a missing right nor an impossible
    key may pass, so it is Unavailable.
    """
    if isinstance(error, boto.ClientError):
        return _refused(path, answer_of(error), place, error.operation_name)
    if isinstance(error, boto.SSLError):
        cause = "no TLS as this machine trusts it; write http:// for a server without TLS"
    elif isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError):
        cause = "no connection; check OBJECTSTORE_ENDPOINT and the network"
    elif isinstance(error, boto.ReadTimeoutError):
        cause = "connected, but no answer in time"
    elif isinstance(error, NoTag):
        return Corrupt(path, "the server gives this object no ETag; without it no change is seen")
    elif isinstance(error, NoListing | ResponseParserError):
        cause = "what answers is no S3 server; check OBJECTSTORE_ENDPOINT"
    else:
        cause = f"the connection broke ({type(error).__name__})"
    return Unavailable(path, f"{place.endpoint}: {cause}")


def _refused(path: str, answer: Answer, place: Place, operation: str) -> StoreError:
    where = f"{place.endpoint}/{place.bucket}"
    said = place.hide(" ".join(f"{answer.code}: {answer.message}".split()))[:300]
    if answer.code == _SKEWED:
        return Unavailable(path, f"{where}: {_skew(answer)}")
    if answer.code in _WRONG_REGION:
        region = answer.headers.get("x-amz-bucket-region", "")
        hint = f" ({region})" if region else ""
        return Unavailable(path, f"{where}: {said}; {_REMEDIES[answer.code]}{hint}")
    if remedy := _REMEDIES.get(answer.code):
        kind = Unavailable if answer.code == "NoSuchBucket" else AccessDenied
        return kind(path, f"{where}: {answer.code}; {remedy}")
    if answer.status in (401, 403):
        return AccessDenied(path, f"{where}: {operation} is refused ({said}); check the rights")
    if answer.code in _IMPOSSIBLE:
        return Invalid(path, f"{where}: {said}")
    return Unavailable(path, f"{where}: {operation}: {answer.status} {said}")


def _skew(answer: Answer) -> str:
    server = _date(answer.headers.get("date", ""))
    off = f" by {abs(time.time() - server):.0f} s" if server else ""
    return f"the clock of this machine differs from the server's{off}: set it (timedatectl)"


def _date(text: str) -> float:
    """Unix seconds of an HTTP date; 0: it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
