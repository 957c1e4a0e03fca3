"""The view of `auth-dir`: each machine reads its own path in the config that all of them share.

Pure functions. The text is cut at the marks of the composed nodes and nowhere else, and a result
counts only if it composes to the same document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from storefs.content import Config, NotConfig, compose

_KEY = "auth-dir"
_STR = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_LINE_END = re.compile(r"\r\n|\r|\n")
_REST_OF_LINE = re.compile(r"[ \t]*(?P<comment>#[^\r\n]*)?(?P<end>\r\n|\r|\n|\Z)")
# c-printable of YAML 1.1 without line breaks and the byte order mark.
_TO_ESCAPE = re.compile(
    r'["\\]|[^ -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]'
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a read shows. `refused`: why the file is shown as it is stored, else empty."""

    data: bytes
    refused: str


def show(stored: bytes, auth_dir: str) -> Shown:
    """The config with its top-level `auth-dir` replaced by `auth_dir`, or added as a last line.

    Every other byte stays. Where that would not compose to the same document the config is shown
    as it is, with the reason.
    """
    try:
        config = compose(stored)
        return Shown(_encode(config, _view(config, auth_dir)), "")
    except NotConfig as reason:
        return Shown(stored, f"the config {reason}")
    except _Refused as reason:
        return Shown(stored, str(reason))


def unshow(written: bytes, auth_dir: str, before: bytes | None) -> bytes:
    """What to store when a program writes `written` over the stored `before` (None: no config).

    An `auth-dir` whose value is `auth_dir`, however quoted, becomes what `before` has, or goes
    where `before` has none; another value is kept. For every config and directory
    `unshow(show(x, d).data, d, x) == x`. Kept as written: what is no config, and what replaces a
    config whose view was refused.
    """
    if before is None:
        return written
    try:
        stored = compose(before)
        # Refuses exactly what show refuses; its text is of no use here.
        _view(stored, auth_dir)
        config = compose(written)
        return _encode(config, _restored(config, auth_dir, _find(stored)))
    except (NotConfig, _Refused):
        return written


class _Refused(Exception):
    """The view cannot be applied; the message says why."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """The top-level `auth-dir` of a config, and how its value is written there."""

    key: yaml.Node
    value: yaml.ScalarNode
    raw: str

    @property
    def meaning(self) -> tuple[str, str]:
        return self.value.tag, self.value.value


def _encode(config: Config, text: str) -> bytes:
    return (config.bom + text).encode()


def _find(config: Config) -> _Pair | None:
    pairs = [(key, value) for key, value in config.root.value if _is_key(key)]
    if not pairs:
        return None
    if len(pairs) > 1:
        raise _Refused(f"{_KEY} stands in the config more than once")
    key, value = pairs[0]
    if not isinstance(value, yaml.ScalarNode):
        raise _Refused(f"the value of {_KEY} is not a scalar")
    return _Pair(key, value, config.text[value.start_mark.index : value.end_mark.index])


def _is_key(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == _KEY


def _view(config: Config, auth_dir: str) -> str:
    if config.root.flow_style:
        raise _Refused("the config is written in flow style")
    if any(key.tag == _MERGE for key, _ in config.root.value):
        raise _Refused("the config has a merge key at its top level")
    pair = _find(config)
    scalar = _quoted(auth_dir)
    text = _replaced(config.text, pair, scalar) if pair else _added(config.text, scalar)
    _check(text, config.root, (_STR, auth_dir))
    return text


def _replaced(text: str, pair: _Pair, scalar: str) -> str:
    if pair.value.style in ("|", ">"):
        raise _Refused(f"the value of {_KEY} is a block scalar")
    # The mark of an alias is that of its anchor, so this finds both.
    if pair.raw.startswith(("&", "!")):
        raise _Refused(f"the value of {_KEY} has an anchor, an alias or a tag")
    # A missing value has its mark right behind the colon.
    space = "" if pair.raw else " "
    start, end = pair.value.start_mark.index, pair.value.end_mark.index
    return text[:start] + space + scalar + text[end:]


def _added(text: str, scalar: str) -> str:
    line = f"{_KEY}: {scalar}"
    ends = _LINE_END.findall(text)
    end = ends[-1] if ends else "\n"
    return text + line + end if text.endswith(("\n", "\r")) else text + end + line


def _restored(written: Config, auth_dir: str, before: _Pair | None) -> str:
    pair = _find(written)
    if pair is None or pair.meaning != (_STR, auth_dir):
        return written.text
    if before is None:
        text = _taken_off(written.text, pair)
    else:
        text = _put_back(written.text, pair, before.raw)
    _check(text, written.root, before.meaning if before else None)
    return text


def _put_back(text: str, pair: _Pair, raw: str) -> str:
    head = text[: pair.value.start_mark.index]
    return (head if raw else head.rstrip(" \t")) + raw + text[pair.value.end_mark.index :]


def _taken_off(text: str, pair: _Pair) -> str:
    """The text without the line of `auth-dir`; a comment behind the value stays."""
    head = text[: pair.key.start_mark.index]
    start = max(head.rfind("\n"), head.rfind("\r")) + 1
    rest = _REST_OF_LINE.match(text, pair.value.end_mark.index)
    if rest is None:
        raise _Refused(f"{_KEY} shares its line with other keys")
    if rest["comment"]:
        return text[:start] + text[rest.start("comment") :]
    if rest["end"]:
        return text[:start] + text[rest.end() :]
    # Only a config without a last line end has the added line without one.
    ends = [match.start() for match in _LINE_END.finditer(text, 0, start)]
    return text[: ends[-1]] if ends else ""


def _check(text: str, root: yaml.MappingNode, meaning: tuple[str, str] | None) -> None:
    """Raises _Refused unless `text` is the document of `root` with this `auth-dir`, or none."""
    try:
        config = compose(text.encode())
    except NotConfig:
        raise _Refused(f"the config with another {_KEY} would not be YAML") from None
    pair = _find(config)
    if (pair.meaning if pair else None) != meaning or not _same(root, config.root):
        raise _Refused(f"the config with another {_KEY} would not be the same document")


def _same(one: yaml.MappingNode, other: yaml.MappingNode) -> bool:
    """Whether both trees are equal in tags, values and structure, the top `auth-dir` aside.

    Without recursion, and each pair once: aliases make a tree of any size, or a cycle.
    """
    parts = _others(one), _others(other)
    if one.tag != other.tag or len(parts[0]) != len(parts[1]):
        return False
    pending = list(zip(*parts, strict=True))
    seen: set[tuple[int, int]] = set()
    while pending:
        left, right = pending.pop()
        if (id(left), id(right)) in seen:
            continue
        seen.add((id(left), id(right)))
        if type(left) is not type(right) or left.tag != right.tag:
            return False
        if isinstance(left, yaml.ScalarNode):
            if left.value != right.value:
                return False
            continue
        parts = _children(left), _children(right)
        if len(parts[0]) != len(parts[1]):
            return False
        pending += zip(*parts, strict=True)
    return True


def _others(root: yaml.MappingNode) -> list[yaml.Node]:
    return [node for pair in root.value if not _is_key(pair[0]) for node in pair]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value)


def _quoted(auth_dir: str) -> str:
    if any("\ud800" <= char <= "\udfff" for char in auth_dir):
        raise _Refused("the directory to show is not UTF-8")
    return '"' + _TO_ESCAPE.sub(_escape, auth_dir) + '"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return "\\" + char if char in '"\\' else f"\\U{ord(char):08x}"
