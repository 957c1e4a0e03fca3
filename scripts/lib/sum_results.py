"""Prints `N passed, N failed, N skipped` over the runs whose directories are the arguments.

Each holds `status`, pytest's exit code, and `results.xml` if pytest came to its end. Exits 1 when
anything failed. Knows nothing of storefs.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree


def counts(run: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of one run."""
    passed = failed = skipped = 0
    results = run / "results.xml"
    if results.exists():
        for suite in ElementTree.parse(results).iter("testsuite"):
            bad = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
            failed += bad
            skipped += int(suite.attrib["skipped"])
            passed += int(suite.attrib["tests"]) - bad - int(suite.attrib["skipped"])
    # A run can fail without a failed test: killed, a wrong argument, nothing collected.
    if not failed and (run / "status").read_text().strip() != "0":
        failed = 1
    return passed, failed, skipped


def main(runs: list[Path]) -> int:
    passed, failed, skipped = (sum(column) for column in zip(*map(counts, runs), strict=True))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main([Path(run) for run in sys.argv[1:]]))
