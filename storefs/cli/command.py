"""What a command of the command line is, and what several of them share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import settings as options
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `storefs`. `run` returns the exit code and may raise Quit."""

    name: str
    run: Callable[[argparse.Namespace], int]
    text: str
    """One line of help, as in a list."""
    epilog: str
    """Below the options: notes, examples, exit codes."""
    add: Callable[[argparse.ArgumentParser], None]
    """Adds the command's own options."""
    place: str = "word"
    """How its mount is named: by a "word", by the "option" --mount, or it has "none"."""


def mountpoint(args: argparse.Namespace) -> Path:
    """The mount point that the words name, an absolute path."""
    return options.locate(args.mountpoint, os.environ, working_directory())


def working_directory() -> Path:
    """Raises Quit where it is gone."""
    try:
        return Path.cwd()
    except OSError:
        raise Quit(Exit.FAILED, "the working directory is gone: cd to another one") from None
