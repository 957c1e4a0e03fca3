"""The command lines of the documentation: fenced blocks of `sh` and `console`."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.deploy.places import TOP

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?^```(?:sh|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `reason`: why it cannot be run in a test, from the comment before it."""

    page: Path
    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(TOP)}:{self.line}"

    @property
    def mounts(self) -> bool:
        """Whether it begins with the making of a mount, so that none may be there."""
        return bool(re.match(r"(storefs|scripts)[ /](mount|run)\b", self.text))

    def storefs_words(self) -> list[list[str]]:
        """The words of each of its lines that runs storefs, without what the shell takes."""
        found = []
        for line in self.text.splitlines():
            words = shlex.split(line.partition("|")[0], comments=True)
            if "storefs" in words and "proxy-beside" not in words:
                found.append(words[words.index("storefs") + 1 :])
        return found


def blocks(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("text")), found["text"], found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]
