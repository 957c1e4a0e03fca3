"""The three-way merge of text by lines, line ends kept.

Pure functions, bounded in work. `merge3` finds what changed on one side only; hunks that merely
touch are told apart here, because keys of a config stand on neighbouring lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar, cast

from merge3 import Merge3

if TYPE_CHECKING:
    from collections.abc import Sequence
    from difflib import Match

Lines = list[bytes]

_MAX_STEPS = 2_000_000
"""Comparisons to align two texts: with repeated lines they grow with the cube of the number."""

_T = TypeVar("_T")


class Clash(ValueError):
    """The texts cannot be merged; the message says why, without content."""


@dataclass(frozen=True, slots=True)
class MergedLines:
    """A merged text. `clash`: both sides changed the same lines, which are as in `ours`."""

    data: bytes
    clash: bool


def merge_lines(base: bytes, ours: bytes, theirs: bytes) -> MergedLines:
    """Merge by lines.

    Line ends, where each text has one kind only, and a missing last one are merged on their own:
    a side that changed nothing else takes no line. Raises Clash if it would take too long.
    """
    forms = [_form(text) for text in (base, ours, theirs)]
    if None in {form.end for form in forms}:
        return _merged(base, ours, theirs)
    kept = _Form(_chosen(*(form.end for form in forms)), _chosen(*(form.closed for form in forms)))
    plain = [_plain(text) for text in (base, ours, theirs)]
    merged = _merged(*plain)
    data = merged.data if kept.closed else merged.data.removesuffix(b"\n")
    return MergedLines(data.replace(b"\n", kept.end or b"\n"), merged.clash)


@dataclass(frozen=True, slots=True)
class _Form:
    """How the lines of a text end (None: not all alike), and whether the last one does."""

    end: bytes | None
    closed: bool


def _form(text: bytes) -> _Form:
    pairs, feeds, returns = (text.count(end) for end in (b"\r\n", b"\n", b"\r"))
    end = b"\n" if not returns else b"\r\n" if pairs == feeds == returns else None
    return _Form(end, text.endswith(b"\n"))


def _chosen(base: _T, ours: _T, theirs: _T) -> _T:
    return theirs if ours == base else ours


def _plain(text: bytes) -> bytes:
    text = text.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


def _merged(base: bytes, ours: bytes, theirs: bytes) -> MergedLines:
    old, mine, other = (text.splitlines(keepends=True) for text in (base, ours, theirs))
    result: Lines = []
    clash = False
    # The protocol that merge3 declares for its matcher is narrower than what it calls.
    for group in Merge3(old, mine, other, sequence_matcher=cast("Any", _matcher)).merge_groups():
        if group[0] != "conflict":
            result += group[1]
            continue
        resolved = _resolved(list(group[1]), list(group[2]), list(group[3]))
        clash = clash or resolved is None
        result += group[2] if resolved is None else resolved
    return MergedLines(b"".join(result), clash)


class _Matcher(SequenceMatcher[bytes]):
    """Aligns lines exactly, and gives up after a number of comparisons.

    Counted, not timed: all machines must come to the same result.
    """

    def __init__(self, a: Sequence[bytes], b: Sequence[bytes]) -> None:
        super().__init__(None, a, b, autojunk=False)
        table: dict[bytes, list[int]] = cast("Any", self).b2j
        self._steps = list(accumulate((1 + len(table.get(line, ())) for line in a), initial=0))
        self._left = _MAX_STEPS

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> Match:
        """As difflib. Raises Clash."""
        end = len(self._steps) - 1 if ahi is None else ahi
        self._left -= self._steps[end] - self._steps[alo]
        if self._left < 0:
            raise Clash("has too many repeated lines to be merged")
        return super().find_longest_match(alo, ahi, blo, bhi)


def _matcher(_: object, a: Sequence[bytes], b: Sequence[bytes]) -> _Matcher:
    return _Matcher(a, b)


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines put in; `free`: not in the place of others."""

    lines: tuple[bytes, ...]
    free: bool


@dataclass(slots=True)
class _Changes:
    """What a side did to the base: line number -> the new line, None if it was cut; what was put
    in before a line number."""

    lines: dict[int, bytes | None]
    blocks: dict[int, _Block]

    def cut(self, at: int) -> bool:
        return at in self.lines and self.lines[at] is None


def _resolved(base: Lines, ours: Lines, theirs: Lines) -> Lines | None:
    """Both changes, None where they are of the same lines."""
    one, other = _changes(base, ours), _changes(base, theirs)
    if any(one.lines[at] != other.lines[at] for at in one.lines.keys() & other.lines.keys()):
        return None
    if _loses_owner(one, other) or _loses_owner(other, one):
        return None
    lines, result = {**one.lines, **other.lines}, Lines()
    for at in range(len(base) + 1):
        block = _both(one.blocks.get(at), other.blocks.get(at))
        if block is None:
            return None
        result += block
        line = lines.get(at, base[at]) if at < len(base) else None
        result += [] if line is None else [line]
    # Only a last line lacks its end; it must not become the head of another one.
    return result if all(line.endswith((b"\n", b"\r")) for line in result[:-1]) else None


def _changes(base: Lines, side: Lines) -> _Changes:
    """What `side` changed, in pieces as small as the heads of its lines allow."""
    result = _Changes({}, {})
    for _, i, j, k, n in _Matcher(base, side).get_opcodes():
        heads = [_head(line) for line in base[i:j]], [_head(line) for line in side[k:n]]
        for tag, start, end, first, last in _Matcher(*heads).get_opcodes():
            lines = side[k + first : k + last]
            if tag == "equal":
                pairs = enumerate(zip(base[i + start : i + end], lines, strict=True), i + start)
                result.lines |= {at: new for at, (old, new) in pairs if new != old}
                continue
            result.lines |= dict.fromkeys(range(i + start, i + end))
            if lines:
                result.blocks[i + end] = _Block(tuple(lines), tag == "insert")
    return result


def _head(line: bytes) -> bytes:
    """What stays of a line when its value changes: indentation and key; `#` of a comment."""
    if line.lstrip(b" \t").startswith(b"#"):
        return b"#"
    return line.partition(b":")[0]


def _loses_owner(one: _Changes, other: _Changes) -> bool:
    """Whether `one` put something in beside a line that only `other` cut: it may belong to it."""
    beside = {at for block in one.blocks for at in (block - 1, block)}
    return any(other.cut(at) and not one.cut(at) for at in beside)


def _both(ours: _Block | None, theirs: _Block | None) -> tuple[bytes, ...] | None:
    if ours is None or theirs is None:
        block = ours or theirs
        return block.lines if block else ()
    if ours.lines == theirs.lines:
        return ours.lines
    return _siblings(ours.lines, theirs.lines) if ours.free and theirs.free else None


def _siblings(ours: tuple[bytes, ...], theirs: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    """Lines that both sides inserted at one place, theirs first; None where order has a meaning.

    Two blocks can stand one behind the other when each is complete in itself: keys, or items of
    a list, at the same indentation.
    """
    if _within(ours, theirs):
        return theirs
    if _within(theirs, ours):
        return ours
    heads = _stand(ours), _stand(theirs)
    return theirs + ours if heads[0] is not None and heads[0] == heads[1] else None


def _within(part: tuple[bytes, ...], whole: tuple[bytes, ...]) -> bool:
    return b"\n" + b"".join(part) in b"\n" + b"".join(whole)


def _stand(lines: tuple[bytes, ...]) -> tuple[bytes, bool] | None:
    """The indentation of a block, and whether it is of list items; None if a line stands out."""
    found = [(line[: _indent(line)], line.lstrip(b" \t")) for line in lines]
    found = [(indent, rest) for indent, rest in found if rest.strip() and rest[:1] != b"#"]
    if not found or any(not indent.startswith(found[0][0]) for indent, _ in found):
        return None
    return found[0][0], found[0][1].startswith(b"-")


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip(b" \t"))
