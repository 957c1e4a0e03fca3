"""`python -m bench`: measure everything, print the table, write the JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bench import git, offline, plot, postgres, report, s3, scale, stages
from bench.candidates import Broken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from bench.figures import Figure

_RESULT = Path("build/bench.json")
_SCALE_RESULT = Path("build/scale.json")
_PARTS = {
    "local": stages.run,
    "s3": s3.run,
    "git": git.run,
    "postgres": postgres.run,
    "offline": offline.run,
}


def main(argv: Sequence[str]) -> int:
    """0: everything was measured, whether or not it reaches its figure; 1: it was not."""
    args = _parser().parse_args(argv)
    if args.plot:
        plot.write(*map(Path, args.plot))
        return 0
    # So that every way out takes the mounts away.
    signal.signal(signal.SIGTERM, _stop)
    base = Path(tempfile.mkdtemp(prefix="storefs-bench.", dir=args.dir)).resolve()
    try:
        if args.scale is not None:
            scale.run(base, args.scale, args.json or _SCALE_RESULT, quick=args.quick)
        else:
            _measure(base, args)
    except (Broken, OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    else:
        return 0
    finally:
        _clear(base)


def _measure(base: Path, args: argparse.Namespace) -> None:
    old = json.loads(args.compare.read_text()) if args.compare else None
    size = stages.QUICK if args.quick else stages.FULL
    figures = _run(base, size, args.only or (), args.json or _RESULT)
    if old is not None:
        print(report.compared(figures, old))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures storefs, a plain directory and rclone mount side by side.",
    )
    parser.add_argument("--quick", action="store_true", help="to see that it works; no figures")
    parser.add_argument(
        "--only", choices=_PARTS, action="append", help="leave the others out; again for more"
    )
    parser.add_argument(
        "--scale", choices=scale.PARTS, nargs="*", help="how cost grows; all parts, or these"
    )
    parser.add_argument(
        "--plot", nargs=2, metavar=("SCALE.json", "DIR"), help="draw what --scale has measured"
    )
    parser.add_argument("--dir", default="/var/tmp", help="on the disk used (default %(default)s)")
    parser.add_argument(
        "--json", type=Path, help=f"where the result goes (default {_RESULT}, {_SCALE_RESULT})"
    )
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="with an earlier run's")
    return parser


def _run(base: Path, size: stages.Scale, only: Sequence[str], result: Path) -> list[Figure]:
    figures: list[Figure] = []
    document = {"machine": report.machine(base), "versions": report.versions()}
    parts = [_PARTS[name](base / name, size) for name in only or _PARTS]
    for figure in chain.from_iterable(parts):
        figures.append(figure)
        print(f"measured: {figure.key}", file=sys.stderr, flush=True)
    result.parent.mkdir(parents=True, exist_ok=True)
    document |= {
        "rounds": size.rounds,
        "figures": {figure.key: figure.as_json() for figure in figures},
    }
    result.write_text(json.dumps(document, indent=2) + "\n")
    print(report.table(figures))
    print(f"all numbers: {result}")
    return figures


def _clear(base: Path) -> None:
    """Remove the scratch directory, unless something is still mounted in it."""
    left = [line for line in _mounts() if line.startswith(f"{base}/")]
    if left:
        print(f"bench: still mounted, so {base} stays: {', '.join(left)}", file=sys.stderr)
    else:
        shutil.rmtree(base)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [line.split()[4] for line in lines]


def _stop(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
