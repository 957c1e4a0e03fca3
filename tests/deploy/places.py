"""What the tests of deploy/ and scripts/install share."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"


def unit(scope: str, name: str) -> dict[str, list[str]]:
    """The [Service] and [Unit] settings of a unit: name -> values in order."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / scope / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def command(directory: Path) -> Path:
    """A directory that holds this checkout's `storefs` as a command."""
    directory.mkdir(parents=True, exist_ok=True)
    script = directory / "storefs"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={TOP} exec {sys.executable} -m storefs "$@"\n')
    script.chmod(0o755)
    return directory


def run(*words: str, **options: object) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return str(done.stdout)
