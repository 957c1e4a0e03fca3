"""Compose files as Compose reads them, as far as those here need: `extends`, `${VARIABLES}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.deploy.places import DEPLOY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BASE = DEPLOY / "docker-compose.base.yml"
FILES = sorted(set(DEPLOY.glob("docker-compose.*.yml")) - {BASE})

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}")


def variables(file: Path) -> set[str]:
    """The names of all variables that a file asks for."""
    return {found["name"] for found in _VARIABLE.finditer(file.read_text())}


def services(file: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """The services of a file with everything filled in."""
    found = _read(file, env)["services"]
    return {name: _whole(service, file.parent, env) for name, service in found.items()}


def _read(file: Path, env: Mapping[str, str]) -> Any:
    def value(found: re.Match[str]) -> str:
        given = env.get(found["name"], "")
        assert given or found["kind"] != "?", f"{file.name}: {found['name']} must be set"
        return given or found["word"] or ""

    return yaml.safe_load(_VARIABLE.sub(value, file.read_text()))


def _whole(service: dict[str, Any], directory: Path, env: Mapping[str, str]) -> dict[str, Any]:
    where = service.pop("extends", None)
    if where is None:
        return service
    base = _read(directory / where["file"], env)["services"][where["service"]]
    whole = {**base, **service}
    whole["environment"] = {**base.get("environment", {}), **service.get("environment", {})}
    whole["volumes"] = [*base.get("volumes", []), *service.get("volumes", [])]
    return whole
