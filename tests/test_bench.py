"""scripts/bench --quick from end to end: every figure is in the JSON, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.mount.harness import mounts_below, until
from tests.servers.postgres_cluster import binaries

pytestmark = [
    pytest.mark.user,
    pytest.mark.skipif(
        not (Path(sys.prefix) / "bin/rclone").exists(),
        reason="rclone is not installed: scripts/bench installs it",
    ),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this machine has no /dev/fuse"),
]

TOP = Path(__file__).parents[1]
COMPARED: dict[str, dict[str, set[str]]] = {
    "local": {
        "read": {"storefs", "loop", "memory", "plain", "rclone"},
        "read_8": set(),
        "stat": {"storefs", "loop", "memory", "plain", "rclone"},
        "list": {"storefs", "loop", "memory", "plain", "rclone"},
        "change": {"storefs"},
        "write": {"storefs", "memory", "plain", "plain fsync", "rclone"},
        "start": {"storefs", "rclone"},
        "list_100k": {"storefs", "plain", "rclone"},
        "memory_10k": set(),
        "memory_100k": set(),
    },
    "s3": {
        "s3_cold_far": {"storefs", "rclone"},
        "s3_cold": {"storefs", "rclone"},
        "s3_warm": {"storefs"},
        "s3_create": {"storefs", "rclone"},
        "s3_rewrite": {"storefs", "rclone"},
        "s3_rename": {"storefs", "rclone"},
        "s3_unlink": {"storefs", "rclone"},
        "s3_write": {"storefs", "memory + put"},
        "s3_change": {"storefs"},
    },
    "git": {
        "git_write": {"storefs", "git"},
        "git_change": {"storefs"},
        "git_together": set(),
    },
    "offline": {
        "offline_calls": {"first", "later"},
        "offline_sent": set(),
        "offline_behind": {"storefs", "local"},
    },
}
"""Part of the bench -> its figures, and whose times were measured for each."""

COUNTED = {
    "documents-local": ("documents", "change_p50_ms"),
    "documents-postgres": ("documents", "change_p50_ms"),
    "mounts-postgres": ("mounts", "event_p50_ms"),
    "mounts-s3": ("mounts", "LISTs_a_minute"),
    "mounts-git": ("mounts", "requests_a_minute"),
    "commits-postgres": ("mounts", "ratio"),
}
"""Part of the scale -> over what it grows, and one of its numbers."""


def begin(tmp_path: Path, part: str) -> subprocess.Popen[str]:
    """Without scripts/bench itself: that would first install what it finds out of date."""
    command = [sys.executable, "-m", "bench", "--quick", "--only", part, "--dir", str(tmp_path)]
    old = {"figures": {"change": {"goals": [{"name": "p50", "value": 8.0}]}}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    command += ["--compare", str(tmp_path / "old.json")]
    return subprocess.Popen(
        [*command, "--json", str(tmp_path / "bench.json")],
        cwd=TOP,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP / "scripts/lib")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("part", COMPARED)
def test_every_figure_is_measured_and_nothing_stays(tmp_path: Path, part: str) -> None:
    bench = begin(tmp_path, part)
    out, err = bench.communicate(timeout=280)
    assert bench.returncode == 0, err
    found: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text())
    assert found["machine"]["kernel"] == os.uname().release
    assert all(found["versions"][name] for name in ("storefs", "pyfuse3", "rclone"))
    figures = found["figures"]
    assert figures.keys() == COMPARED[part].keys()
    for key, figure in figures.items():
        assert figure["goals"], key
        if key != "s3_warm":  # whose goal is none at all
            assert all(goal["value"] > 0 < goal["limit"] for goal in figure["goals"]), key
        times = figure["microseconds"]
        assert times.keys() - {"s3fs"} == COMPARED[part][key], key
        assert all(0 < one["p10"] <= one["p50"] <= one["p99"] for one in times.values()), key
        assert figure["what"] in out
    if part == "local":
        (line,) = [line for line in out.splitlines() if "8.00 ms" in line]
        assert line.split()[-1] == f"{figures['change']['goals'][0]['value'] / 8:.2f}"
        assert figures["memory_10k"]["megabytes"].keys() == {"storefs", "rclone"}
        spent = figures["read"]["more"]
        assert spent.keys() == {"storefs_cpu_us", "loop_cpu_us", "rclone_cpu_us"}
        assert spent["rclone_cpu_us"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "old.json"}


@pytest.mark.skipif(binaries() is None, reason="no PostgreSQL server is installed")
def test_every_part_of_the_scale_is_measured_and_drawn(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP / "scripts/lib")}
    words = [sys.executable, "-m", "bench", "--dir", str(tmp_path)]
    result = tmp_path / "scale.json"
    more = ["--scale", "--quick", "--json", str(result)]
    subprocess.run([*words, *more], cwd=TOP, env=env, check=True, timeout=280)
    parts = json.loads(result.read_text())["scale"]
    assert set(parts) == set(COUNTED)
    for part, (over, column) in COUNTED.items():
        assert len(parts[part]) == 2, part
        assert parts[part][0][over] < parts[part][1][over], part
        assert parts[part][1][column] > 0, part
    drawn = tmp_path / "drawn"
    subprocess.run([*words, "--plot", str(result), str(drawn)], cwd=TOP, env=env, check=True)
    for picture in drawn.iterdir():
        assert ET.parse(picture).getroot().tag.endswith("svg")
    assert len([*drawn.iterdir()]) > 3
    assert {path.name for path in tmp_path.iterdir()} == {"scale.json", "drawn"}


def test_stopped_in_the_middle_it_takes_its_mounts_away(tmp_path: Path) -> None:
    bench = begin(tmp_path, "local")
    try:
        until(lambda: len(mounts_below(tmp_path)) == 4, "four mounts", 60)
    finally:
        bench.send_signal(signal.SIGTERM)
        _, err = bench.communicate(timeout=120)
    assert bench.returncode == 128 + signal.SIGTERM, err
    assert mounts_below(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
