"""File calls as a Go program makes them: same calls, flags, order. No state but a poller.

Part of the stand-in for the proxy (`standin.py`); every errno goes up as OSError.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import os
import re
import secrets
import select
import stat
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_READ_MIN = 512
_POLL = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_ESCAPES = str.maketrans(
    {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "\u2028": r"\u2028", "\u2029": r"\u2029"}
)


@functools.cache
def _poller() -> select.epoll:
    return select.epoll()


class GoFile:
    """An os.File: opened close-on-exec and offered to the poller, which takes FUSE files only."""

    def __init__(self, path: str, flags: int, mode: int = 0) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC, mode)
        self._polled = self._offer()

    def _offer(self) -> bool:
        # On FUSE the poller accepts the file, the kernel sends a POLL, and O_NONBLOCK stays set.
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        try:
            _poller().register(self.fd, _POLL)
        except PermissionError:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)
            return False
        return True

    def write(self, data: bytes) -> None:
        """One write; more only if the file system takes part of it."""
        while data:
            data = data[os.write(self.fd, data) :]

    def read_all(self) -> bytes:
        """What os.ReadFile reads: a buffer sized by fstat, filled until read gives 0."""
        room = max(os.fstat(self.fd).st_size + 1, _READ_MIN)
        data = b""
        while part := os.read(self.fd, room - len(data)):
            data += part
            if len(data) == room:
                room += max(room // 4, _READ_MIN)
        return data

    def close(self) -> None:
        """Closes once; the error of close(2) is raised, and the descriptor is gone all the same."""
        if self._polled:
            _poller().unregister(self.fd)
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OSError:
            if error is None:
                raise


def read_file(path: str) -> bytes:
    with GoFile(path, os.O_RDONLY) as file:
        return file.read_all()


def overwrite(path: str, data: bytes, flags: int, mode: int = 0, *, sync: bool = False) -> None:
    """open, one write, perhaps fsync, close: in place, never atomic."""
    with GoFile(path, flags, mode) as file:
        file.write(data)
        if sync:
            os.fsync(file.fd)


def write_file(path: str, data: bytes, mode: int, *, sync: bool = False) -> None:
    """os.WriteFile."""
    overwrite(path, data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode, sync=sync)


def create(path: str, data: bytes) -> None:
    """os.Create, one write, close."""
    overwrite(path, data, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)


def create_temp(directory: str, prefix: str, suffix: str, data: bytes) -> str:
    """os.CreateTemp, one write, close; returns the path."""
    path = os.path.join(directory, f"{prefix}{secrets.randbelow(2**32)}{suffix}")
    overwrite(path, data, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    return path


def remove(path: str) -> None:
    """os.Remove: unlink, on any error rmdir; raises the more telling error of the two."""
    try:
        os.unlink(path)
    except OSError as unlinking:
        try:
            os.rmdir(path)
        except OSError as removing:
            if removing.errno == errno.ENOTDIR:
                raise unlinking from removing
            raise


def rename(old: str, new: str) -> None:
    """os.Rename: lstat of the target, then rename over it."""
    try:
        if stat.S_ISDIR(os.lstat(new).st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    except FileNotFoundError:
        pass
    os.rename(old, new)


def mkdir_all(path: str, mode: int) -> None:
    """os.MkdirAll: stat first, parents before children, a race lost to a mkdir is no error."""
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    except FileNotFoundError:
        mkdir_all(os.path.dirname(path), mode)
    try:
        os.mkdir(path, mode)
    except OSError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise


def parse(data: bytes) -> Any:
    """json.Unmarshal: no byte order mark, no NaN, broken UTF-8 replaced. Raises ValueError."""
    try:
        return json.loads(data.decode("utf-8", "replace"), parse_constant=_refuse)
    except RecursionError as deep:
        raise ValueError("nested too deep") from deep


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def marshal(value: Any, *, sort: bool = True) -> bytes:
    """json.Marshal: compact, keys sorted (not a struct's), `<>&` escaped, numbers as float64."""
    return _text(value, sort).encode("utf-8", "replace")


def same_value(one: Any, other: Any) -> bool:
    """Equal as JSON values, as the proxy compares: numbers as float64, a boolean is no number."""
    return marshal(one) == marshal(other)


def _text(value: Any, sort: bool) -> str:
    if isinstance(value, dict):
        keys = sorted(value) if sort else list(value)
        return "{" + ",".join(f"{_string(key)}:{_text(value[key], sort)}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(item, sort) for item in value) + "]"
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _number(float(value))


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_ESCAPES)


def _number(number: float) -> str:
    if number and not 1e-6 <= abs(number) < 1e21:
        return re.sub(r"e-0(\d)$", r"e-\1", repr(number))
    return format(Decimal(repr(number)), "f").removesuffix(".0")
