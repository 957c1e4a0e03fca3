"""The first config of an empty backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from storefs.content import problem
from storefs.errors import Exit, Quit
from storefs.firstconfig import EXAMPLE, built_in, first_config

CONFIG = "config/config.yaml"
SAMPLE = Path(__file__).parents[3] / "shared" / "samples" / EXAMPLE


def _values(data: bytes) -> dict[str, Any]:
    values = yaml.safe_load(data)
    assert isinstance(values, dict)
    return values


def test_the_built_in_config_is_safe(tmp_path: Path) -> None:
    data, source = first_config(tmp_path)
    values = _values(data)
    assert problem(CONFIG, data) is None
    assert values["host"] == "127.0.0.1"
    assert values["port"] == 8317
    assert values["remote-management"] == {"secret-key": "", "allow-remote": False}
    (key,) = values["api-keys"]
    assert len(key) >= 40
    # The proxy blocks its endpoints while a key of its own example is in use.
    assert not key.startswith("your-api-key")
    assert key not in source
    assert "built-in" in source


def test_every_built_in_config_has_its_own_key() -> None:
    keys = {_values(built_in())["api-keys"][0] for _ in range(20)}
    assert len(keys) == 20


def test_an_example_is_taken_byte_for_byte(tmp_path: Path) -> None:
    text = b"# ours\r\nport: 9000\r\nday: 2024-13-45"
    (tmp_path / EXAMPLE).write_bytes(text)
    data, source = first_config(tmp_path)
    assert data == text
    assert source == f"the example {tmp_path / EXAMPLE}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"- a\n", "not a mapping"),
        (b'key: "sk-secret\n', "is not YAML (line 2, column 1)"),
    ],
)
def test_an_example_that_is_no_config_ends_the_command(
    tmp_path: Path, text: bytes, reason: str
) -> None:
    (tmp_path / EXAMPLE).write_bytes(text)
    with pytest.raises(Quit) as caught:
        first_config(tmp_path)
    assert caught.value.code is Exit.SETTINGS
    assert str(tmp_path / EXAMPLE) in str(caught.value)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_example_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / EXAMPLE).mkdir()
    with pytest.raises(Quit, match="cannot be read: Is a directory") as caught:
        first_config(tmp_path)
    assert caught.value.code is Exit.SETTINGS


def test_the_built_in_config_uses_names_of_the_proxys_example() -> None:
    if not SAMPLE.is_file():
        pytest.skip(f"no sample at {SAMPLE}")
    known = _values(SAMPLE.read_bytes())
    ours = _values(built_in())
    assert ours.keys() <= known.keys()
    assert ours["remote-management"].keys() <= known["remote-management"].keys()
    assert first_config(SAMPLE.parent)[0] == SAMPLE.read_bytes()
