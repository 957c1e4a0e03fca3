"""Repetition counts: a fixed-seed tenth in `scripts/test`, all of them in `scripts/soak`."""

from __future__ import annotations

import os

SEED = 20261122


def scaled(full: int, least: int = 1) -> int:
    """So many repetitions of `full` as STOREFS_TEST_SCALE percent are, at least `least`."""
    percent = int(os.environ.get("STOREFS_TEST_SCALE", "10"))
    return max(least, full * percent // 100)
