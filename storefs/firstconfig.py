"""The first config of an empty backend: a template, an example from a directory, or a built-in one.

Reads one file at most and logs nothing: the built-in config holds a key.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from storefs import paths
from storefs.content import problem
from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from pathlib import Path

    from storefs.template import Template

EXAMPLE = "config.example.yaml"
"""Where the proxy's own stores look for a first config too, in the working directory."""

# Key names as CLIProxyAPI v7.2.140 reads them. Without a secret-key its management API answers
# 404; only the keys of its own example would put it into safe mode.
_BUILT_IN = """\
# Written by storefs because the backend held no config yet. Change it as you like.

# Only this machine can connect. "" opens every interface.
host: "127.0.0.1"
port: 8317

# Through storefs every machine reads its own path here.
auth-dir: "~/.cli-proxy-api"

# Clients send one of these keys. The first was made at random for this config.
api-keys:
  - "{key}"

remote-management:
  # The management API is off as long as this is empty. To turn it on, write a password of your
  # own between the quotes: the proxy puts a hash in its place when it reads the file.
  secret-key: ""
  allow-remote: false
"""


def first_config(directory: Path, template: Template | None = None) -> tuple[bytes, str]:
    """The bytes of the first config, and where they come from in words.

    The filled template if one is named, else `config.example.yaml` in `directory`, where there is
    one, byte for byte. Raises Quit with Exit.SETTINGS when it cannot be read or is not a valid
    config.
    """
    if template is not None:
        return template.fill(), f"the template {template.path}"
    example = directory / EXAMPLE
    try:
        data = example.read_bytes()
    except FileNotFoundError:
        return built_in(), "the built-in config, with a random API key"
    except OSError as failure:
        raise Quit(Exit.SETTINGS, f"{example} cannot be read: {failure.strerror}.") from failure
    if reason := problem(paths.CONFIG, data):
        raise Quit(Exit.SETTINGS, f"{example} cannot be the first config: it {reason}.")
    return data, f"the example {example}"


def built_in() -> bytes:
    """A minimal config with a new random API key, for this machine's own programs only."""
    return _BUILT_IN.format(key=secrets.token_urlsafe(32)).encode()
