"""The command line; `line` knows the commands. Here is only what answers before they are loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from storefs import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if list(words) == ["--version"]:
        print(f"storefs {__version__}")
        return 0
    from storefs.cli.line import run

    return run(words)
