"""Which store the settings named when it answered last: it cannot be asked while it is away.

One small file in this user's state directory, without secrets. It can be lost: then a mount
does not start without its store.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import natives
from storefs import settings as defaults
from storefs.root import STATE

if TYPE_CHECKING:
    from storefs.settings import Settings

log = logging.getLogger(__name__)

_FILE = "stores.json"
_VARIABLES = {
    "postgres": ("PGSTORE_DSN", "PGSTORE_SCHEMA", "PGSTORE_CONFIG_TABLE", "PGSTORE_AUTH_TABLE"),
    "s3": ("OBJECTSTORE_ENDPOINT", "OBJECTSTORE_BUCKET", "OBJECTSTORE_PREFIX"),
}
_PASSWORD = re.compile(
    r"(?<=:)[^:@/]*(?=@)|(?<=password=)('[^']*'|[^\s&]*)|(?<=sslpassword=)('[^']*'|[^\s&]*)"
)


def identity(settings: Settings) -> str:
    """The identity of the store that these settings named last, empty if there is none."""
    return _load(settings).get(_key(settings), "")


def remember(settings: Settings, identity: str) -> None:
    """Note that these settings name the store of this identity. Never raises."""
    key = _key(settings)
    found = _load(settings)
    if not key or found.get(key) == identity:
        return
    file = _file(settings)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = file.with_name(f"{_FILE}.{os.getpid()}")
        new.touch(0o600)
        new.write_text(json.dumps({**found, key: identity}, indent=1))
        new.replace(file)
    except OSError as error:
        log.warning("%s: %s; this mount cannot start while its store is away", file, error)


def _key(settings: Settings) -> str:
    """What names the store, digested; a password is not part of it. Empty: nothing to know."""
    values = [natives.value(settings.env, name) for name in _VARIABLES.get(settings.backend, ())]
    if not values:
        return ""
    said = "\n".join(_PASSWORD.sub("", value) for value in values)
    return f"{settings.backend}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _load(settings: Settings) -> dict[str, str]:
    try:
        found = json.loads(_file(settings).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _file(settings: Settings) -> Path:
    return defaults.locate(STATE, settings.env, Path("/")) / _FILE
