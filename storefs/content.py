"""What may be sent: which bytes are a valid document, and which two mean the same.

Pure functions. No message ever holds a piece of a document: documents hold tokens and keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from storefs import paths

if TYPE_CHECKING:
    # Both loaders have the same methods; the type checker sees one base only.
    from yaml import SafeLoader as _SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_BOM = "\ufeff"
_MAX_DEPTH = 200


class NotConfig(ValueError):
    """The bytes do not compose to one YAML mapping; the message says why, without content."""


@dataclass(frozen=True, slots=True)
class Config:
    """A config, composed. Marks of `root` are character indexes into `text`, which lacks `bom`."""

    bom: str
    text: str
    root: yaml.MappingNode


def problem(path: str, data: bytes) -> str | None:
    """Why `data` may not be sent as `path`, to be put after the path in a message, or None.

    Auth documents are JSON objects (RFC 8259, UTF-8, no byte order mark), the config is YAML
    that composes to a mapping, any other document is bytes.
    """
    if not data:
        return "is empty"
    if path == paths.CONFIG:
        return _config_problem(data)
    return _object_problem(data) if _is_auth(path) else None


def same_value(path: str, one: bytes, other: bytes) -> bool:
    """Whether both bytes are the same, or as auth documents the same JSON value.

    Key order and white space do not matter, of two equal keys the last counts. Numbers are the
    same only if written alike: 1 is not 1.0, and a long one is never rounded.
    """
    if one == other:
        return True
    if not _is_auth(path):
        return False
    try:
        return bool(_parse(one) == _parse(other))
    except (ValueError, RecursionError):
        return False


def compose(data: bytes) -> Config:
    """The node tree of a config.

    Raises NotConfig. Composed, not constructed: `safe_load` refuses what the proxy reads, such
    as a lone `=`, a private tag or `2024-13-45`.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as failure:
        raise NotConfig(f"is not UTF-8 (byte {failure.start})") from None
    # The C loader does not count a byte order mark in its marks, the Python one does.
    body = text.removeprefix(_BOM)
    root = _compose_text(body)
    if root is None:
        raise NotConfig("holds no YAML document")
    if not isinstance(root, yaml.MappingNode):
        raise NotConfig("holds YAML that is not a mapping")
    return Config(text[: len(text) - len(body)], body, root)


class _Loader(_SafeLoader):
    """Composes, and stops at a nesting that no config has.

    The C loader recurses on the C stack without a limit: 100 000 times `[` end the process with
    a segmentation fault. Both loaders call descend_resolver before each node.
    """

    depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotConfig(f"is nested more than {_MAX_DEPTH} levels deep")

    def ascend_resolver(self) -> None:
        self.depth -= 1


def _compose_text(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as failure:
        if failure.problem == "but found another document":
            raise NotConfig("holds several YAML documents") from None
        mark = failure.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise NotConfig(f"is not YAML{where}") from None
    except yaml.YAMLError:
        raise NotConfig("is not YAML (a character that YAML forbids)") from None
    except RecursionError:
        raise NotConfig("is nested too deeply") from None


def _config_problem(data: bytes) -> str | None:
    try:
        compose(data)
    except NotConfig as reason:
        return str(reason)
    return None


def _object_problem(data: bytes) -> str | None:
    try:
        value = _parse(data)
    except UnicodeDecodeError as failure:
        return f"is not UTF-8 (byte {failure.start})"
    except json.JSONDecodeError as failure:
        if data.startswith(_BOM.encode()):
            return "begins with a byte order mark"
        return f"is not JSON (line {failure.lineno}, column {failure.colno})"
    except ValueError as failure:
        return str(failure)
    except RecursionError:
        return "is nested too deeply"
    return None if isinstance(value, dict) else "is not a JSON object"


def _is_auth(path: str) -> bool:
    return path.startswith("auths/") and path.endswith(".json")


def _parse(data: bytes) -> Any:
    """The JSON value, each number as a tuple of its text: equal to no string, true or false.

    Decoded here because `json.loads` guesses UTF-16 and UTF-32 from bytes.
    """
    return json.loads(
        data.decode(), parse_int=_number, parse_float=_number, parse_constant=_refuse_constant
    )


def _number(text: str) -> tuple[str]:
    return (text,)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"holds {text}, which is not JSON")
