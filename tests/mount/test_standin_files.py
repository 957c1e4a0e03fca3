"""The Go-style calls of the stand-in, one by one."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.standin_files import marshal, parse, remove, same_value

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}'),
        ({"t": "<a>&\u2028é\n\x01"}, '{"t":"\\u003ca\\u003e\\u0026\\u2028é\\n\\u0001"}'),
        ([12345678901234567890, 7.0, 0.00001], "[12345678901234567000,7,0.00001]"),
        ([1e21, 1.5e-7, 1e100, -0.5], "[1e+21,1.5e-7,1e+100,-0.5]"),
    ],
)
def test_marshal_writes_as_go_does(value: Any, text: str) -> None:
    assert marshal(value).decode() == text


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":NaN}', b"\xef\xbb\xbf{}", b"{} {}"])
def test_parse_refuses_what_go_refuses(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(data)


def test_values_are_compared_as_json() -> None:
    assert same_value({"a": 1, "b": 2}, {"b": 2.0, "a": 1})
    assert not same_value({"a": 1}, {"a": True})


def test_remove_tells_why_the_file_stays(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove(str(tmp_path / "absent"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OSError, match="not empty") as failed:
        remove(str(tmp_path / "full"))
    assert failed.value.errno == errno.ENOTEMPTY
