"""A proxy in front of an S3 server that adds latency and spoils requests on demand.

One thread per connection. Counts and names every request, and the bytes that were sent back.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path
    from typing import Self

Kind = Literal["500", "503", "403", "cut", "cut after", "truncated", "stale", "untagged"]
KINDS: tuple[Kind, ...] = ("500", "503", "403", "cut", "cut after", "truncated", "stale")
_HOP = {"connection", "expect", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Request:
    """One request as it came. `key` is empty for one about the bucket."""

    number: int
    method: str
    target: str
    expects: bool = False
    """Whether the client first asks whether it may send the body."""
    conditional: str = ""
    """The method, of a request with a condition."""
    at: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path).strip("/").partition("/")[2]

    @property
    def is_listing(self) -> bool:
        query = parse_qs(urlsplit(self.target).query)
        return self.method == "GET" and ("list-type" in query or not self.key)

    def __str__(self) -> str:
        what = "LIST" if self.is_listing else self.method
        prefix = parse_qs(urlsplit(self.target).query).get("prefix", [""])[0]
        return f"{what} {self.key or prefix}"


@dataclass(frozen=True)
class Reply:
    """An answer of the proxy itself, in place of the server's."""

    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>made up</Message></Error>".encode()


_REPLIES = {
    "500": Reply(500, "InternalError"),
    "503": Reply(503, "SlowDown", (("Retry-After", "0"),)),
    "403": Reply(403, "AccessDenied"),
}


class Proxy:
    """Serves on `url` until `close`."""

    def __init__(self, upstream: str, delay: float = 0.0, certificate: Path | None = None) -> None:
        """`delay`: seconds added to each request. `certificate`: it speaks TLS, with the key in
        the `.key` file beside."""
        self.delay = delay
        self.rule: Callable[[Request], Kind | Reply | None] = lambda request: None
        """Asked for each request what to do to it."""
        self.drop: Callable[[Request], str] = lambda request: ""
        """Asked which header the server shall not see, in lower case."""
        self.log: list[Request] = []
        self.sent = 0
        """Bytes of bodies that clients took, or at least the kernel for them."""
        self._upstream = urlsplit(upstream)
        self._first: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._lock = threading.Lock()  # protects log, sent and _first
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def counted(self) -> list[str]:
        """What was asked so far, in order."""
        with self._lock:
            return [str(request) for request in self.log]

    def forget(self) -> None:
        """Begin counting anew; what `stale` repeats is kept."""
        with self._lock:
            self.log.clear()
            self.sent = 0

    def break_nth(self, number: int, kind: Kind) -> None:
        """Spoil one request, counted from 1."""
        self.rule = lambda request: kind if request.number == number else None

    def note(self, method: str, target: str, headers: Message) -> Request:
        condition = method if "If-Match" in headers or "If-None-Match" in headers else ""
        with self._lock:
            number = len(self.log) + 1
            self.log.append(Request(number, method, target, "Expect" in headers, condition))
            return self.log[-1]

    def add_sent(self, count: int) -> None:
        with self._lock:
            self.sent += count

    def connection(self) -> http.client.HTTPConnection:
        assert self._upstream.hostname is not None
        made = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=60)
        made.connect()
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def stale(
        self, request: Request, answer: tuple[int, list[tuple[str, str]], bytes], *, old: bool
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The first answer to the same listing if `old`; remembers it."""
        if not request.is_listing or answer[0] != 200:
            return answer
        with self._lock:
            first = self._first.setdefault(str(request), answer)
        return first if old else answer


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[Proxy]
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._upstream: http.client.HTTPConnection | None = None

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def log_message(self, *_: object) -> None:
        """Nothing: `Proxy.log` has it."""

    def _serve(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = proxy.note(self.command, self.path, self.headers)
        if proxy.delay:
            time.sleep(proxy.delay)
        fault = proxy.rule(request)
        reply = fault if isinstance(fault, Reply) else _REPLIES.get(str(fault))
        if reply is not None:
            headers = [*reply.headers, ("Content-Type", "application/xml")]
            self._answer(reply.status, headers, reply.body)
        elif fault == "cut":
            self._cut()
        else:
            status, headers, data = proxy.stale(
                request, self._forward(body, proxy.drop(request)), old=fault == "stale"
            )
            if fault == "cut after":
                self._cut()
            else:
                if fault == "untagged":
                    headers = [pair for pair in headers if pair[0].lower() != "etag"]
                self._answer(status, headers, data, half=fault == "truncated")

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _forward(self, body: bytes, dropped: str) -> tuple[int, list[tuple[str, str]], bytes]:
        for again in (True, False):
            if self._upstream is None:
                self._upstream = self.proxy.connection()
            try:
                self._upstream.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in _HOP | {dropped}:
                        self._upstream.putheader(name, value)
                self._upstream.endheaders(body or None)
                answer = self._upstream.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException):
                self._upstream.close()
                self._upstream = None
                if not again:
                    raise
            else:
                return answer.status, answer.getheaders(), data
        raise AssertionError

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False
    ) -> None:
        self.send_response_only(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _HOP | {"content-length"} or self.command == "HEAD":
                self.send_header(name, value)
        if "date" not in names:
            self.send_header("Date", formatdate(usegmt=True))
        if self.command == "HEAD":
            body = b""
        elif status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if half:
            body = body[: len(body) // 2]
            self.close_connection = True
        for start in range(0, len(body), 1 << 16):
            piece = body[start : start + (1 << 16)]
            self.wfile.write(piece)
            self.proxy.add_sent(len(piece))
        self.wfile.flush()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
