"""The lock files: complete, of one mind, and free of the machine that wrote them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

TOP = Path(__file__).parent.parent
LOCKS = ["bench", "build", "run", "test"]


def pins(lock: str) -> dict[str, str]:
    """Package -> version, without the hashes and the comments."""
    text = (TOP / "requirements" / f"{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_with_hashes_a_hash_or_a_comment(lock: str) -> None:
    known = r"[a-z0-9-]+==[^ ]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?| *#.*"
    lines = (TOP / "requirements" / f"{lock}.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(known, line)] == []


def test_the_locks_agree() -> None:
    run, test, build, bench = pins("run"), pins("test"), pins("build"), pins("bench")
    assert run.items() <= test.items()
    assert run.items() <= bench.items()
    assert {name: build[name] for name in build.keys() & test.keys()}.items() <= test.items()


def test_what_pyproject_asks_for_is_locked() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    asked = {
        "run": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
    }
    for lock, requirements in asked.items():
        locked = pins(lock)
        for requirement in map(Requirement, requirements):
            name = requirement.name.lower().replace("_", "-")
            assert requirement.specifier.contains(locked[name]), f"{requirement}: run scripts/lock"
