"""The top-level members of a JSON object as raw text, taken apart and put together.

Pure functions, and nothing is rewritten: numbers such as 12345678901234567890 or 1.0, escapes, key
order, white space and line ends stay. Only the members that were asked for change.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Numbers stay text: Python refuses to make an int of more than 4300 digits.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
MAX_SIZE = 1 << 18
"""Bytes of an object that is taken apart. Auth documents have up to 6 KiB; this takes a second."""

_SPACE = re.compile(r"[ \t\r\n]*")


class NotObject(ValueError):
    """The bytes are not a JSON object; the message says why, without content."""


@dataclass(frozen=True, slots=True)
class Member:
    """One `key: value` as it is written, with the white space around it."""

    before: str
    key: str
    colon: str
    value: str
    after: str

    @property
    def text(self) -> str:
        return self.before + self.key + self.colon + self.value + self.after


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object. `members` by decoded key, in order; of two equal keys the last counts.

    `head` ends with the opening brace, `tail` begins with the closing one; `inner` is the white
    space of an object without members.
    """

    head: str
    members: dict[str, Member]
    tail: str
    inner: str = ""

    @property
    def data(self) -> bytes:
        """The object as bytes."""
        body = ",".join(member.text for member in self.members.values()) or self.inner
        return (self.head + body + self.tail).encode()


def take_apart(data: bytes) -> Object:
    """The members of the object `data`. Raises NotObject, also above MAX_SIZE."""
    if len(data) > MAX_SIZE:
        raise NotObject(f"is longer than the {MAX_SIZE} bytes that are merged")
    try:
        return _scan(data.decode())
    except UnicodeDecodeError:
        raise NotObject("is not UTF-8") from None
    except RecursionError:
        raise NotObject("is nested too deeply") from None
    except ValueError:
        raise NotObject("is not a JSON object") from None


def splice(frame: Object, changes: Mapping[str, Member | None]) -> Object:
    """`frame` with the value of each key in `changes` replaced, added at the end, or removed.

    A replaced value keeps its place and key as the frame has them, an added member gets the white
    space of the frame's last one, and the braces keep the white space they have.
    """
    members = {
        key: replace(member, value=change.value) if (change := changes.get(key)) else member
        for key, member in frame.members.items()
        if changes.get(key, member) is not None
    }
    old = list(frame.members.values())
    before, colon = (old[-1].before, old[-1].colon) if old else ("", "")
    between = old[0].after if len(old) > 1 else ""
    for key, change in changes.items():
        if change is not None and key not in members:
            members[key] = Member(before, change.key, colon or change.colon, change.value, between)
    _fit(frame, members, between)
    return replace(frame, members=members)


def _fit(frame: Object, members: dict[str, Member], between: str) -> None:
    """Give `members` the white space that `frame` has behind and before its braces."""
    if not members:
        return
    first, last = next(iter(members)), next(reversed(members))
    if not frame.members:
        members[last] = replace(members[last], after=frame.inner)
        return
    old_first, old_last = next(iter(frame.members)), next(reversed(frame.members))
    if last != old_last:
        if old_last in members:
            members[old_last] = replace(members[old_last], after=between)
        members[last] = replace(members[last], after=frame.members[old_last].after)
    if first != old_first:
        members[first] = replace(members[first], before=frame.members[old_first].before)


def _scan(text: str) -> Object:
    """Raises ValueError, RecursionError."""
    at = _expect(text, _skip(text, 0), "{")
    head, members = text[:at], dict[str, Member]()
    end = _skip(text, at)
    inner = text[at:end]
    more = text[end : end + 1] != "}"
    while more:
        key, member, end = _member(text, at)
        # A repeated key takes the place of its last occurrence, the one that counts.
        members.pop(key, None)
        members[key] = member
        more = text[end : end + 1] == ","
        at = end + 1
    tail = _skip(text, _expect(text, end, "}"))
    if tail != len(text):
        raise ValueError("text behind the object")
    return Object(head, members, text[end:], "" if members else inner)


def _member(text: str, at: int) -> tuple[str, Member, int]:
    """The decoded key, the member that begins at `at`, and where the text behind it goes on."""
    start = _skip(text, at)
    key, key_end = _DECODER.raw_decode(text, start)
    if text[start : start + 1] != '"':
        raise ValueError("a key that is no string")
    value_start = _skip(text, _expect(text, _skip(text, key_end), ":"))
    _, value_end = _DECODER.raw_decode(text, value_start)
    end = _skip(text, value_end)
    parts = (at, start, key_end, value_start, value_end, end)
    pieces = (text[one:other] for one, other in pairwise(parts))
    return str(key), Member(*pieces), end


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, char: str) -> int:
    if text[at : at + 1] != char:
        raise ValueError(f"no {char} where one must be")
    return at + 1
