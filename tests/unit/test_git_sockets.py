"""TCP sockets that are not ours to open are told to send at once, and nothing else is touched."""

from __future__ import annotations

import os
import socket

import pytest

from storefs.backends.git_sockets import _hasten, hasten

pytestmark = pytest.mark.user


def test_tcp_alone() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as local,
    ):
        before = sorted(os.listdir("/proc/self/fd"))
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        hasten()
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sorted(os.listdir("/proc/self/fd")) == before
        for other in (datagrams, local):
            assert other.fileno() >= 0


def test_a_descriptor_that_is_no_socket_any_more() -> None:
    """Another thread closed it, and its number went to a file."""
    with open(os.devnull, "rb") as file:
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="Socket operation on non-socket"):
            _hasten(file.fileno())
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert file.read() == b""
