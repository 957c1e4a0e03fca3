"""The conflict rules that need no question: two changes of one document made into one.

Pure functions over stored bytes. JSON is merged by top-level key with the token group as one unit
and raw text spliced, the config by lines, other documents not at all. The same input gives the
same result on every machine, and merging a result again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.configmerge import MergedConfig, merge_configs, merge_stale_config
from storefs.content import NotConfig, same_value
from storefs.lines import Clash
from storefs.members import Member, NotObject, Object, splice, take_apart
from storefs.paths import CONFIG, is_document
from storefs.tokens import is_newer, token_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Members = dict[str, Member]


class NotMerged(ValueError):
    """Rule 4: the backend's version stands. The message says why, without content."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What to store, and whose change is not in it and must be kept as a conflict copy.

    `data` is the very bytes of one side wherever that side already says the same.
    """

    data: bytes
    ours_lost: bool = False
    theirs_lost: bool = False


def merge(path: str, base: bytes | None, ours: bytes, theirs: bytes, *, now: float) -> Merged:
    """Rules 1 to 3: `ours`, written over `base` (None: absent), and the backend's `theirs`.

    The same value, or a side that changed nothing: the other stands. Of a token group changed on
    both sides the newer stands (`now`: seconds since 1970); a key or line changed on both sides
    raises NotMerged. Only a token group, or a hashed secret-key of the config, is ever lost.
    """
    if same_value(path, ours, theirs):
        return Merged(theirs)
    if base is not None and same_value(path, base, ours):
        return Merged(theirs)
    if base is not None and same_value(path, base, theirs):
        return Merged(ours)
    try:
        if _is_auth(path):
            objects = _Objects.of(path, base, theirs, ours)
            return _merged(objects, ours, theirs, now=now, insist=False)
        if path == CONFIG and base is not None:
            return _of(merge_configs(base, ours, theirs))
    except (NotObject, NotConfig, Clash) as reason:
        raise NotMerged(str(reason)) from None
    raise NotMerged("was changed on both sides, and only as a whole can it be told apart")


def merge_stale_write(
    path: str, before: bytes, delivered: bytes, written: bytes, *, now: float
) -> Merged:
    """A write from memory: by a program that may not have read what was `delivered` to it.

    What it changed of `before` wins, what it left as it was follows `delivered`, the token group
    goes by rule 3 (`now`: seconds since 1970). Nothing is refused: what cannot be told apart is
    as it was written.
    """
    if same_value(path, written, delivered) or same_value(path, written, before):
        return Merged(delivered)
    if same_value(path, before, delivered):
        return Merged(written)
    try:
        if _is_auth(path):
            objects = _Objects.of(path, before, delivered, written)
            return _merged(objects, written, delivered, now=now, insist=True)
        if path == CONFIG:
            return _of(merge_stale_config(before, delivered, written))
    except (NotObject, NotConfig, Clash):
        pass
    return Merged(written, theirs_lost=True)


def nearest(path: str, versions: Sequence[bytes], written: bytes) -> bytes:
    """The version that a program most likely started from when it wrote `written`.

    The one with the fewest differing keys, of the config and others with the fewest differing
    lines; of equally near ones the newest, for with an older one more would be taken back.
    """
    if len(versions) == 1:
        return versions[0]
    return min(reversed(versions), key=lambda version: _distance(path, version, written))


def _distance(path: str, version: bytes, written: bytes) -> int:
    if _is_auth(path):
        try:
            objects = _Objects.of(path, None, version, written)
        except NotObject:
            return len(version)
        one, other = objects.theirs.members, objects.ours.members
        return sum(not objects.same(one.get(key), other.get(key)) for key in {**one, **other})
    one_lines, other_lines = Counter(version.splitlines()), Counter(written.splitlines())
    return ((one_lines - other_lines) + (other_lines - one_lines)).total()


def keep_backend_tokens(path: str, written: bytes, current: bytes) -> Merged:
    """`written` with the token group of `current`, the backend's.

    For a write that would take the group back to one that was superseded. Raises NotMerged if one
    of the two is no JSON object.
    """
    try:
        objects = _Objects.of(path, None, current, written)
    except NotObject as reason:
        raise NotMerged(str(reason)) from None
    ours, theirs = token_group(objects.ours.members), token_group(objects.theirs.members)
    if objects.same_members(ours, theirs):
        return Merged(written)
    changes = {key: theirs.get(key) for key in [*theirs, *(ours.keys() - theirs.keys())]}
    data = splice(objects.ours, changes).data
    return Merged(current if same_value(path, data, current) else data, ours_lost=True)


def only_tokens_changed(path: str, base: bytes, edited: bytes) -> bool:
    """Whether the edit is a token refresh at most, which is nobody's decision.

    The `"disabled":false` that each save of the proxy adds is none either.
    """
    if not _is_auth(path):
        return False
    try:
        objects = _Objects.of(path, None, base, edited)
    except NotObject:
        return False
    before, after = _others(objects.theirs.members), _others(objects.ours.members)
    if "disabled" not in before and (added := after.get("disabled")) and added.value == "false":
        del after["disabled"]
    return objects.same_members(before, after)


@dataclass(frozen=True, slots=True)
class _Objects:
    """The versions of one auth document, taken apart; an absent base has no members."""

    path: str
    base: Object
    theirs: Object
    ours: Object

    @classmethod
    def of(cls, path: str, base: bytes | None, theirs: bytes, ours: bytes) -> _Objects:
        """Raises NotObject."""
        old = take_apart(b"{}" if base is None else base)
        return cls(path, old, take_apart(theirs), take_apart(ours))

    def same(self, one: Member | None, other: Member | None) -> bool:
        """Whether both have the same JSON value, or both are absent."""
        if one is None or other is None:
            return one is other
        return one.value == other.value or same_value(
            self.path, one.value.encode(), other.value.encode()
        )

    def same_members(self, one: Mapping[str, Member], other: Mapping[str, Member]) -> bool:
        return one.keys() == other.keys() and all(
            self.same(value, other[key]) for key, value in one.items()
        )


@dataclass(slots=True)
class _Choice:
    """What a merge takes: changes to the backend's version, and what they leave out."""

    changes: dict[str, Member | None]
    theirs_used: bool = False
    ours_lost: bool = False
    theirs_lost: bool = False


def _merged(objects: _Objects, ours: bytes, theirs: bytes, *, now: float, insist: bool) -> Merged:
    """`insist`: a key that both sides changed is as in `ours`, else raises NotMerged."""
    choice = _Choice({})
    _choose_keys(objects, choice, insist)
    _choose_group(objects, choice, now)
    if not choice.changes:
        data = theirs
    elif not choice.theirs_used:
        data = ours
    else:
        data = splice(objects.theirs, choice.changes).data
    return Merged(data, choice.ours_lost, choice.theirs_lost)


def _choose_keys(objects: _Objects, choice: _Choice, insist: bool) -> None:
    base, ours, theirs = (
        _others(one.members) for one in (objects.base, objects.ours, objects.theirs)
    )
    for key in {**base, **theirs, **ours}:
        old, mine, other = base.get(key), ours.get(key), theirs.get(key)
        if objects.same(mine, other):
            continue
        if objects.same(mine, old):
            choice.theirs_used = True
            continue
        if not objects.same(other, old):
            if not insist:
                raise NotMerged("has a key that both sides changed")
            choice.theirs_lost = True
        choice.changes[key] = mine


def _choose_group(objects: _Objects, choice: _Choice, now: float) -> None:
    base, ours, theirs = (
        token_group(one.members) for one in (objects.base, objects.ours, objects.theirs)
    )
    if objects.same_members(ours, theirs):
        return
    ours_changed = not objects.same_members(ours, base)
    both = ours_changed and not objects.same_members(theirs, base)
    if not ours_changed or (both and not is_newer(ours, theirs, now)):
        choice.theirs_used, choice.ours_lost = True, both
        return
    choice.theirs_lost = choice.theirs_lost or both
    for key in {**theirs, **ours}:
        if not objects.same(ours.get(key), theirs.get(key)):
            choice.changes[key] = ours.get(key)


def _others(members: _Members) -> _Members:
    group = token_group(members)
    return {key: member for key, member in members.items() if key not in group}


def _of(merged: MergedConfig) -> Merged:
    return Merged(merged.data, merged.ours_lost, merged.theirs_lost)


def _is_auth(path: str) -> bool:
    return path != CONFIG and is_document(path)
