"""The three-way merge of the config, by lines, in stored form.

Pure functions. A result counts only if it composes to a mapping without a repeated key and with
every top-level key that both sides have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from storefs.content import Config, NotConfig, compose
from storefs.lines import Clash, merge_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SIZE = 1 << 18
"""Bytes of a config that is merged. The proxy's example has 48 KiB; this takes a second."""

_BCRYPT = re.compile(r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}")
_SECRET = ("remote-management", "secret-key")

_Key = tuple[str, str]
_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MergedConfig:
    """A merged config, and which side had something that is not in it."""

    data: bytes
    ours_lost: bool
    theirs_lost: bool


def merge_configs(base: bytes, ours: bytes, theirs: bytes) -> MergedConfig:
    """Merge by lines; a secret-key that both sides hashed from the base's plain text is `theirs`.

    Raises Clash where that cannot be done, NotConfig where one of the three is no config.
    """
    trees = _trees(base, ours, theirs)
    secret = _with_their_secret(*trees)
    merged = merge_lines(base, ours if secret is None else secret, theirs)
    if merged.clash:
        raise Clash("was changed in the same lines")
    _check(merged.data, trees, _keys(trees[2].root))
    return MergedConfig(merged.data, ours_lost=secret is not None, theirs_lost=False)


def merge_stale_config(before: bytes, delivered: bytes, written: bytes) -> MergedConfig:
    """What `written` changed of `before` wins, what it left alone is as in `delivered`.

    Where lines cannot be told apart those of `written` stand, except that scalars which it left
    alone still follow. Raises Clash above MAX_SIZE, NotConfig where one of the three is no config.
    """
    trees = _trees(before, written, delivered)
    secret = _with_their_secret(*trees)
    data = written if secret is None else secret
    try:
        merged = merge_lines(before, data, delivered)
        _check(merged.data, trees, set())
        data, lost = merged.data, merged.clash
    except Clash:
        lost = True
    if lost:
        data = _followed(*trees, compose(data))
    return MergedConfig(data, ours_lost=secret is not None, theirs_lost=lost)


def _trees(base: bytes, ours: bytes, theirs: bytes) -> tuple[Config, Config, Config]:
    if max(len(base), len(ours), len(theirs)) > MAX_SIZE:
        raise Clash(f"is longer than the {MAX_SIZE} bytes that are merged")
    return compose(base), compose(ours), compose(theirs)


def _check(data: bytes, trees: tuple[Config, Config, Config], due: set[_Key]) -> None:
    """Raises Clash unless the merged lines are a config with the keys it must have.

    Those are what both sides have, what ours added, and what was added of `due`. A quoted scalar
    or block of one side may swallow lines of the other.
    """
    try:
        merged = compose(data)
    except NotConfig as reason:
        raise Clash(f"merged by lines {reason}") from None
    if _repeats(merged.root):
        raise Clash("merged by lines repeats a key")
    base, ours, theirs = (_keys(tree.root) for tree in trees)
    keys = _keys(merged.root)
    if not (ours & theirs) | (ours - base) | (due - base) <= keys <= ours | theirs:
        raise Clash("merged by lines has other keys than the two sides")


def _keys(node: yaml.MappingNode) -> set[_Key]:
    return {(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)}


def _repeats(root: yaml.Node) -> bool:
    """Whether a mapping at any depth has a scalar key twice: the proxy refuses such a config."""
    pending, seen = [root], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            scalars = sum(isinstance(key, yaml.ScalarNode) for key, _ in node.value)
            if len(_keys(node)) != scalars:
                return True
            pending += [child for pair in node.value for child in pair]
        else:
            pending += node.value
    return False


def _leaves(config: Config) -> dict[_Path, yaml.ScalarNode]:
    """The scalars below mappings only, by their keys; what an alias repeats once."""
    found: dict[_Path, yaml.ScalarNode] = {}
    pending: list[tuple[_Path, yaml.MappingNode]] = [((), config.root)]
    seen: set[int] = set()
    while pending:
        path, mapping = pending.pop()
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode) or id(value) in seen:
                continue
            seen.add(id(value))
            place = (*path, key.value)
            if isinstance(value, yaml.ScalarNode):
                found[place] = value
            elif isinstance(value, yaml.MappingNode):
                pending.append((place, value))
    return found


def _meaning(node: yaml.ScalarNode) -> tuple[str, str]:
    return node.tag, node.value


def _with_their_secret(base: Config, ours: Config, theirs: Config) -> bytes | None:
    """`ours` with the hash of `theirs`, where both hashed what the base has in plain text.

    The salt is random, so that two machines which start at once never write the same hash.
    """
    nodes = [_leaves(config).get(_SECRET) for config in (base, ours, theirs)]
    plain, one, other = nodes
    if plain is None or one is None or other is None:
        return None
    hashed = [bool(_BCRYPT.fullmatch(node.value)) for node in (plain, one, other)]
    if hashed != [False, True, True] or not plain.value or one.value == other.value:
        return None
    return _spliced(ours, theirs, {_SECRET: other})


def _followed(before: Config, written: Config, delivered: Config, merged: Config) -> bytes:
    """`merged` with each scalar as delivered that the writer left as it was before."""
    olds, ours, theirs = _leaves(before), _leaves(written), _leaves(delivered)
    changes: dict[_Path, yaml.ScalarNode] = {}
    for path, old in olds.items():
        mine, new = ours.get(path), theirs.get(path)
        if mine is None or new is None or _meaning(new) == _meaning(old):
            continue
        if _meaning(mine) == _meaning(old):
            changes[path] = new
    result = _spliced(merged, delivered, changes)
    return (merged.bom + merged.text).encode() if result is None else result


def _spliced(
    config: Config, source: Config, changes: Mapping[_Path, yaml.ScalarNode]
) -> bytes | None:
    """`config` with these scalars as `source` writes them; None if it would say something else."""
    leaves, text = _leaves(config), config.text
    places = [(leaves[path], new) for path, new in changes.items() if path in leaves]
    for node, new in sorted(places, key=lambda place: -place[0].start_mark.index):
        start, end = node.start_mark.index, node.end_mark.index
        raw = source.text[new.start_mark.index : new.end_mark.index]
        # A missing value has its mark right behind the colon.
        text = text[:start] + (" " if start == end else "") + raw + text[end:]
    data = (config.bom + text).encode()
    try:
        found = _leaves(compose(data))
    except NotConfig:
        return None
    wanted = {path: _meaning(changes.get(path, node)) for path, node in leaves.items()}
    return data if {path: _meaning(node) for path, node in found.items()} == wanted else None
