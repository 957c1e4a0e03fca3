"""storefs under cProfile, for `BENCH_PROFILE=DIRECTORY scripts/bench`."""

import cProfile
import os
import sys

from bench.candidates import PROFILE
from storefs.cli import main


def run() -> int:
    profile = cProfile.Profile()
    try:
        return profile.runcall(main, sys.argv[1:])
    finally:
        profile.dump_stats(os.path.join(os.environ[PROFILE], f"storefs-{os.getpid()}.prof"))


if __name__ == "__main__":
    sys.exit(run())
