"""Every sentence that a mount test quotes stands in docs/SEMANTICS.md, word for word."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
QUOTES = "Quotes docs/SEMANTICS.md."
"""Ends the docstring of a module whose tests each have a promise as their docstring."""

MODULES = [
    path
    for path in sorted((REPOSITORY / "tests" / "mount").glob("test_*.py"))
    if (ast.get_docstring(ast.parse(path.read_text())) or "").endswith(QUOTES)
]


def promises() -> list[str]:
    """The list items of the document, each on one line."""
    found: list[str] = []
    for line in (REPOSITORY / "docs" / "SEMANTICS.md").read_text().splitlines():
        if line.startswith("- "):
            found.append(line[2:])
        elif line.startswith("  ") and found:
            found[-1] += " " + line.strip()
    return found


def quoted(module: Path) -> dict[str, str]:
    """Test -> its docstring on one line, empty where it has none."""
    return {
        node.name: " ".join((ast.get_docstring(node) or "").split())
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_there_are_modules_that_quote() -> None:
    assert len(MODULES) >= 5


@pytest.mark.parametrize("module", MODULES, ids=[module.stem for module in MODULES])
def test_every_quoted_sentence_stands_in_the_document(module: Path) -> None:
    known = set(promises())
    assert {name: said for name, said in quoted(module).items() if said not in known} == {}


def test_no_promise_stands_twice() -> None:
    found = promises()
    assert sorted(found) == sorted(set(found))
    assert all(promise.endswith(".") for promise in found)
