"""Two programs with the same document open see what a local disk would show.

Every script is played twice, in the mount and in a plain directory, and both transcripts must
be the same: results, errnos, contents by name, descriptor and mapping, `fstat` sizes.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.mount.harness import Mount, Watch, until
from tests.mount.two_programs import Played, Step, run
from tests.scale import SEED, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Mounts

pytestmark = pytest.mark.user

NAME = "a.json"
OLD = '{"v": "old", "pad": "0123456789"}'
SHORT = '{"v": 1}'
LONG = '{"v": "long", "pad": "' + "x" * 9000 + '"}'

SCRIPTS: dict[str, list[Step]] = {
    "write in place": [
        ("a", "open", "w", NAME, "O_WRONLY"),
        ("b", "open", "r", NAME, "O_RDONLY"),
        ("a", "pwrite", "w", "OLD", 7),
        ("b", "read", "r", 12),
        ("a", "pwrite", "w", " " * 50, len(OLD)),
        ("a", "close", "w"),
        ("b", "read", "r", 100),
        ("b", "close", "r"),
    ],
    "truncate and write": [
        ("b", "open", "r", NAME, "O_RDONLY"),
        ("b", "read", "r", 5),
        ("a", "open", "w", NAME, "O_WRONLY", "O_TRUNC"),
        ("b", "read", "r", 5),
        ("a", "write", "w", SHORT),
        ("b", "read", "r", 5),
        ("a", "close", "w"),
        ("b", "seek", "r", 0, os.SEEK_END),
    ],
    "grow and shrink": [
        ("b", "open", "r", NAME, "O_RDONLY"),
        ("a", "put", NAME, LONG),
        ("b", "read", "r", 9000),
        ("a", "put", NAME, SHORT),
        ("b", "read", "r", 9000),
        ("a", "put", NAME, LONG),
        ("b", "read", "r", 9000),
    ],
    "ftruncate": [
        ("a", "open", "w", NAME, "O_RDWR"),
        ("b", "open", "r", NAME, "O_RDWR"),
        ("a", "ftruncate", "w", 4),
        ("a", "ftruncate", "w", 60),
        ("b", "pwrite", "r", SHORT, 0),
        ("b", "ftruncate", "r", len(SHORT)),
        ("a", "fsync", "w"),
        ("a", "close", "w"),
        ("b", "close", "r"),
    ],
    "truncate by name": [
        ("a", "put", NAME, SHORT + " " * 30),
        ("b", "open", "r", NAME, "O_RDONLY"),
        ("a", "truncate", NAME, 20),
        ("a", "truncate", NAME, 25),
        ("a", "put", NAME, SHORT),
    ],
    "replace": [
        ("a", "open", "old", NAME, "O_RDWR"),
        ("b", "open", "old", NAME, "O_RDONLY"),
        ("b", "put", "new.tmp", LONG),
        ("b", "rename", "new.tmp", NAME),
        ("a", "pwrite", "old", "lost", 0),
        ("b", "read", "old", 10),
        ("a", "ftruncate", "old", 9),
        ("a", "close", "old"),
        ("b", "open", "new", NAME, "O_RDONLY"),
        ("b", "read", "new", 10),
        ("b", "close", "old"),
    ],
    "replace by a document": [
        ("b", "put", "other.json", LONG),
        ("a", "open", "old", NAME, "O_RDONLY"),
        ("b", "open", "other", "other.json", "O_RDWR"),
        ("b", "rename", "other.json", NAME),
        ("b", "pwrite", "other", SHORT, 0),
        ("b", "ftruncate", "other", len(SHORT)),
        ("b", "close", "other"),
    ],
    "delete": [
        ("a", "open", "w", NAME, "O_RDWR"),
        ("b", "open", "r", NAME, "O_RDONLY"),
        ("b", "unlink", NAME),
        ("a", "pwrite", "w", "gone", 0),
        ("b", "read", "r", 10),
        ("a", "ftruncate", "w", 3),
        ("a", "fsync", "w"),
        ("b", "put", NAME, SHORT),
        ("a", "pwrite", "w", "again", 10),
        ("a", "close", "w"),
        ("b", "read", "r", 10),
    ],
    "append": [
        ("a", "put", NAME, SHORT),
        ("a", "open", "w", NAME, "O_WRONLY", "O_APPEND"),
        ("b", "open", "w", NAME, "O_RDWR", "O_APPEND"),
        ("a", "write", "w", "  "),
        ("b", "write", "w", "\n"),
        ("a", "write", "w", " "),
        ("b", "read", "w", 50),
        ("b", "close", "w"),
        ("a", "close", "w"),
    ],
    "map": [
        ("a", "open", "w", NAME, "O_RDWR"),
        ("b", "open", "w", NAME, "O_RDWR"),
        ("a", "map", "w", len(OLD)),
        ("b", "map", "w", len(OLD)),
        ("a", "poke", "w", "OLD", 7),
        ("b", "pwrite", "w", "xyz", 22),
        ("a", "msync", "w"),
        ("b", "poke", "w", "new", 7),
        ("b", "close", "w"),
        ("a", "close", "w"),
        ("b", "unmap", "w"),
        ("a", "unmap", "w"),
    ],
    "create": [
        ("a", "unlink", NAME),
        ("a", "open", "w", NAME, "O_RDWR", "O_CREAT", "O_EXCL"),
        ("b", "open", "x", NAME, "O_RDWR", "O_CREAT", "O_EXCL"),
        ("b", "open", "r", NAME, "O_RDONLY"),
        ("a", "write", "w", SHORT),
        ("b", "read", "r", 100),
        ("a", "close", "w"),
        ("b", "rename", NAME, "b.json"),
        ("b", "read", "r", 100),
    ],
}


def _compare(mount: Mount, script: list[Step], tmp_path: Path, number: int = 0) -> None:
    plain, shared = tmp_path / f"plain-{number}", mount.auths / f"shared-{number}"
    for directory in (plain, shared):
        directory.mkdir()
        (directory / NAME).write_text(OLD)
    expected = run(script, plain, mount.home, NAME)
    got = run(script, shared, mount.home, NAME)
    for step, (wanted, seen) in enumerate(zip(expected, got, strict=True)):
        assert seen == wanted, f"step {step} of script {number} (seed {SEED}): {wanted[0]}"


@pytest.mark.parametrize("what", SCRIPTS)
def test_as_on_a_local_disk(mount: Mount, tmp_path: Path, what: str) -> None:
    _compare(mount, SCRIPTS[what], tmp_path)


def _random_script(chance: random.Random) -> list[Step]:
    """Steps that succeed on any disk and leave a valid document behind every close."""
    script: list[Step] = [(who, "open", "f", NAME, "O_RDWR") for who in "ab"]
    for _ in range(25):
        who, size = chance.choice("ab"), chance.randint(len(SHORT), 9000)
        text = SHORT + " " * (size - len(SHORT))
        choices: list[list[Step]] = [
            [(who, "pwrite", "f", text, 0), (who, "ftruncate", "f", size)],
            [(who, "ftruncate", "f", 0), (who, "pwrite", "f", text, 0)],
            [(who, "ftruncate", "f", len(SHORT) + 3), (who, "pwrite", "f", text, 0)],
            [(who, "put", NAME, text)],
            [(who, "put", "t.tmp", text), (who, "rename", "t.tmp", NAME)],
            [(who, "put", "o.json", text), (who, "rename", "o.json", NAME)],
            [(who, "unlink", NAME), (who, "put", NAME, text)],
            [(who, "seek", "f", 0, os.SEEK_SET), (who, "read", "f", size)],
            [(who, "close", "f"), (who, "open", "f", NAME, "O_RDWR")],
            [(who, "fsync", "f")],
        ]
        script += chance.choice(choices)
    return script


def test_random_scripts_are_as_on_a_local_disk(mount: Mount, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for number in range(scaled(50, 3)):
        _compare(mount, _random_script(chance), tmp_path, number)


def _look(programs: dict[str, Played]) -> list[Any]:
    return [program.call("see", NAME) for program in programs.values()]


def test_a_change_from_another_machine_is_seen_as_a_local_one(
    mounts: Mounts, tmp_path: Path
) -> None:
    """After the event both programs see the new bytes through what they had open all along."""
    here, there, plain = mounts("here"), mounts("there"), tmp_path / "plain"
    plain.mkdir()
    for directory in (plain, here.auths):
        (directory / NAME).write_text(OLD)
    until(lambda: (there.auths / NAME).exists(), "the other machine has the document")
    programs = {who: Played(here.auths, here.home) for who in "ab"}
    controls = {who: Played(plain, here.home) for who in "ab"}
    try:
        for pair in (programs, controls):
            pair["a"].call("open", "r", NAME, "O_RDONLY")
            pair["b"].call("open", "r", NAME, "O_RDONLY")
            pair["b"].call("read", "r", 6)
        with Watch(here.auths) as watch:
            for text in (LONG, SHORT, OLD, LONG):
                (there.auths / NAME).write_text(text)
                (plain / NAME).write_text(text)
                watch.expect("MODIFY", NAME)
                assert _look(programs) == _look(controls)
            (there.auths / NAME).unlink()
            (plain / NAME).unlink()
            watch.expect("DELETE", NAME)
            assert _look(programs) == _look(controls)
    finally:
        for program in [*programs.values(), *controls.values()]:
            program.end()
