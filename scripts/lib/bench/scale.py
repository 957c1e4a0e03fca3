"""`scripts/bench --scale`: how cost grows with documents and with machines; tables and JSON.

Each part can be measured by itself; the JSON keeps what other runs have measured of other parts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench import report, scale_commits, scale_documents, scale_mounts, scale_stores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.scale_mounts import Row, Shared

_DOCUMENTS, _QUICK_DOCUMENTS = [100, 1000, 10_000, 100_000], [10, 20]
_MOUNTS, _QUICK_MOUNTS = [1, 2, 4, 8, 16, 32], [1, 2]


def _mounts(
    store: Callable[[Path], AbstractContextManager[Shared]], base: Path, quick: bool
) -> Iterator[Row]:
    with store(base) as shared:
        counts, changes, idle = (_QUICK_MOUNTS, 2, 2.5) if quick else (_MOUNTS, 20, 15.0)
        yield from scale_mounts.rows(shared, base, counts, changes, idle)


def _commits(base: Path, quick: bool) -> Iterator[Row]:
    counts, writes, rounds = (_QUICK_MOUNTS, 10, 1) if quick else (_MOUNTS, 400, 3)
    yield from scale_commits.rows(base, counts, writes, rounds)


PARTS: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
    "documents-local": lambda base, quick: scale_documents.local(
        base, _QUICK_DOCUMENTS if quick else _DOCUMENTS
    ),
    "documents-postgres": lambda base, quick: scale_documents.on_postgres(
        base, _QUICK_DOCUMENTS if quick else _DOCUMENTS
    ),
    "mounts-postgres": lambda base, quick: _mounts(scale_stores.on_postgres, base, quick),
    "mounts-s3": lambda base, quick: _mounts(scale_stores.on_s3, base, quick),
    "mounts-git": lambda base, quick: _mounts(scale_stores.on_git, base, quick),
    "commits-postgres": _commits,
}


def run(base: Path, names: Sequence[str], result: Path, *, quick: bool) -> None:
    """Measure the parts, print a table of each, and put them into the JSON. Raises Broken."""
    document: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    document |= {"machine": report.machine(base), "versions": report.versions()}
    parts = document.setdefault("scale", {})
    for name in names or PARTS:
        rows: list[Row] = []
        for row in PARTS[name](base / name, quick):
            rows.append(row)
            print(f"{name}: {_line(row)}", flush=True)
        parts[name] = rows
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(document, indent=2) + "\n")
    print(f"all numbers: {result}")


def _line(row: Row) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in row.items())
