"""A config with variables: `${VAR}`, `${VAR:-default}`, and `$${` for a literal `${`.

Every other `$` stays as it is. Messages name the variable and the line of the template, never a
value: they are secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs.content import problem
from storefs.errors import Exit, Quit
from storefs.paths import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_VARIABLE = re.compile(
    r"(?P<literal>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<optional>:-(?P<default>[^}\n]*))?\}"
)

_HARMLESS = "x"
"""Stands for the values of the other variables while one is looked at."""


class Unset(ValueError):
    """A variable that has no value and no default: its name and line."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(f"line {line}: {name} is not set")


def fill(text: str, env: Mapping[str, str]) -> str:
    """The text with its variables' values. A default counts where the value is missing or empty.

    Values are taken as they are, whatever they hold. Raises Unset.
    """

    def value(name: str, line: int, default: str | None) -> str:
        found = env.get(name)
        if found is None and default is None:
            raise Unset(name, line)
        return found or default or ""

    return _replaced(text, value)


def _replaced(text: str, value: Callable[[str, int, str | None], str]) -> str:
    """`value` is given name, line and default of each variable."""

    def one(match: re.Match[str]) -> str:
        if match["literal"]:
            return "${"
        line = text.count("\n", 0, match.start()) + 1
        return value(match["name"], line, match["default"] if match["optional"] else None)

    return _VARIABLE.sub(one, text)


@dataclass(slots=True)
class Template:
    """The file, and the variables that fill it."""

    path: Path
    env: Mapping[str, str] = field(repr=False)
    filled: bytes | None = field(default=None, repr=False)
    """What it was filled to last by this process."""

    def fill(self) -> bytes:
        """The config that it makes now. Raises Quit (settings) where that is none."""
        try:
            text = self.path.read_bytes().decode()
            data = fill(text, self.env).encode(errors="surrogateescape")
        except OSError as error:
            raise self._refusal(f" cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self._refusal(" is not UTF-8 text") from None
        except Unset as error:
            raise self._refusal(f", {error}: set it, or write ${{NAME:-default}}") from None
        if reason := problem(CONFIG, data):
            raise self._refusal(f", {self._culprit(text)} {reason}")
        self.filled = data
        return data

    def _refusal(self, text: str) -> Quit:
        return Quit(Exit.SETTINGS, f"the config template {self.path}{text}")

    def _culprit(self, text: str) -> str:
        """Which variable's value makes the result no config."""
        lines: dict[str, int] = {}

        def note(name: str, line: int, default: str | None) -> str:
            lines.setdefault(name, line)
            return _HARMLESS

        harmless = _replaced(text, note)
        for name, line in lines.items() if not problem(CONFIG, harmless.encode()) else ():
            trial = {**dict.fromkeys(lines, _HARMLESS), name: self.env.get(name, "")}
            if problem(CONFIG, fill(text, trial).encode(errors="surrogateescape")):
                return f"line {line}: with the value of {name} the result"
        named = ", ".join(f"{name} in line {line}" for name, line in lines.items())
        return f"with {named} filled in the result" if named else "which has no variables,"
