"""Reads `.env` files the way the proxy's reader does: the same file serves both.

`KEY=VALUE`, an optional `export`, `#` comments, single quotes (literal) and double quotes
(`\\n`, `\\r`, any other escaped character is itself). Not read: `$NAME` inside a value, which
stays as it is written. Messages name file and line, never a value: these files hold secrets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from pathlib import Path

_BLANK = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_ENTRY = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=
    (?: [ \t]*'(?P<single>[^']*)'(?P<after_single>[^\n]*)
      | [ \t]*"(?P<double>(?:[^"\\]|\\.)*)"(?P<after_double>[^\n]*)
      | (?P<bare>(?![ \t]*['"])[^\n]*)
    )(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"\s#")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r"}


def read(path: Path) -> dict[str, str]:
    """The variables of one file; of a name set twice, the last. Raises OSError as open does,
    Quit (settings) where the file is not such a file."""
    data = path.read_bytes()
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Quit(Exit.SETTINGS, f"{path} is not UTF-8 text") from None
    except ValueError as error:
        raise Quit(Exit.SETTINGS, f"{path}, {error}") from None


def parse(text: str) -> dict[str, str]:
    """The variables of a file's text. Raises ValueError naming the line, without its content."""
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        if blank := _BLANK.match(text, position):
            position = blank.end()
            continue
        entry = _ENTRY.match(text, position)
        if entry is None or not _ends_well(entry):
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"line {line}: not KEY=VALUE, or a quote that does not end")
        values[entry["key"]] = _value(entry)
        position = entry.end()
    return values


def _ends_well(entry: re.Match[str]) -> bool:
    """Whether only a comment follows a closing quote."""
    after = (entry["after_single"] or entry["after_double"] or "").strip()
    return not after or after.startswith("#")


def _value(entry: re.Match[str]) -> str:
    if (single := entry["single"]) is not None:
        return single
    if (double := entry["double"]) is not None:
        return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), double)
    return _COMMENT.split(entry["bare"], maxsplit=1)[0].strip()
