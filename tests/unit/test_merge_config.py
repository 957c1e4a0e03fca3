"""Conflict rules 2 and 4 for the config, and stale saves of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from storefs.configmerge import MAX_SIZE
from storefs.content import compose, problem
from storefs.merge import Merged, NotMerged, merge, merge_stale_write
from storefs.paths import CONFIG

SAMPLE = Path(__file__).parents[3] / "shared" / "samples" / "config.example.yaml"

BASE = b"""\
# ours
host: "127.0.0.1"   # this machine only
port: 8317
remote-management:
  allow-remote: false

  # hashed on start
  secret-key: "plain"
debug: false
api-keys:
  - "one"
  - "two"
request-retry: 3
"""
HASH = [b"$2a$10$" + bytes([char]) * 53 for char in b"AB"]


def ruled(base: bytes | None, ours: bytes, theirs: bytes) -> Merged:
    return merge(CONFIG, base, ours, theirs, now=0.0)


def stale(before: bytes, delivered: bytes, written: bytes) -> Merged:
    return merge_stale_write(CONFIG, before, delivered, written, now=0.0)


def edit(*changes: tuple[bytes, bytes], of: bytes = BASE) -> bytes:
    for old, new in changes:
        assert of.count(old) == 1, old
        of = of.replace(old, new)
    return of


PORT, HOST = (b"port: 8317", b"port: 9000"), (b'"127.0.0.1"', b'""')
RETRY, DEBUG = (b"request-retry: 3", b"request-retry: 5"), (b"debug: false", b"debug: true")
KEY = (b'  - "two"\n', b'  - "two"\n  - "three"\n')
ALL_KEYS = (b'  - "one"\n  - "two"\n', b'  - "four"\n')
MERGEABLE = {
    "far apart": ([PORT], [RETRY]),
    "neighbouring lines": ([PORT], [HOST]),
    "a line and an item below it": ([RETRY], [KEY]),
    "one adds, one removes": ([KEY], [(b"debug: false\n", b"")]),
    "a key at another place": ([PORT], [(b"debug", b"x: 1\ndebug")]),
    "the same and another": ([PORT, HOST], [PORT, RETRY]),
    "two comments": ([(b"# ours", b"# mine")], [(b"# hashed", b"# Hashed")]),
    "a removed line beside a changed one": ([(b"port: 8317\n", b"")], [HOST]),
}


@pytest.mark.parametrize("name", MERGEABLE)
@pytest.mark.parametrize("turned", [False, True])
def test_what_each_changed_is_there(name: str, turned: bool) -> None:
    one, two = MERGEABLE[name]
    ours, theirs = edit(*one), edit(*two)
    wanted = edit(*dict.fromkeys([*one, *two]))
    merged = ruled(BASE, *((theirs, ours) if turned else (ours, theirs)))
    assert merged == Merged(wanted)
    assert stale(BASE, theirs, ours) == Merged(wanted)
    assert ruled(BASE, ours, merged.data) == merged
    assert ruled(theirs, merged.data, theirs) == merged


@pytest.mark.parametrize(
    ("ours", "theirs", "added"),
    [
        (b"foo: 1\n", b"bar: 2\n", b"bar: 2\nfoo: 1\n"),
        (b"foo: 1\nbar: 2\n", b"bar: 2\n", b"foo: 1\nbar: 2\n"),
        (b"bar: 2\n", b"foo: 1\nbar: 2\n", b"foo: 1\nbar: 2\n"),
        (b"foo:\n  - 1\n", b"# two\nbar:\n  x: 2\n", b"# two\nbar:\n  x: 2\nfoo:\n  - 1\n"),
    ],
)
def test_both_append(ours: bytes, theirs: bytes, added: bytes) -> None:
    assert ruled(BASE, BASE + ours, BASE + theirs) == Merged(BASE + added)


def test_both_append_an_item() -> None:
    ours, theirs = edit(KEY), edit((b'"two"\n', b'"two"\n  - "theirs"\n'))
    wanted = edit((b'"two"\n', b'"two"\n  - "theirs"\n  - "three"\n'))
    assert ruled(BASE, ours, theirs) == Merged(wanted)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (edit(PORT), edit((b"port: 8317", b"port: 1"))),
        (edit(PORT), edit((b"port: 8317\n", b""))),
        # Each is well alone: a key twice, at the top and below.
        (edit(PORT, RETRY) + b"foo: 1\n", b"foo: 2\n" + BASE),
        (
            edit((b"  allow-remote", b"  x: 1\n  allow-remote")),
            edit((b'"plain"\n', b'"plain"\n  x: 2\n')),
        ),
        # A line that would change its owner.
        (edit((b'  - "two"\n', b"")), edit(KEY)),
        (edit(ALL_KEYS), edit(KEY)),
        (BASE + b"foo:\n  x: 1\n", BASE + b"  \n" + b"bar:\n- 1\n" + b"foo:\n  x: 2\n"),
        # A block scalar of one side would swallow the other's line.
        (
            edit((b"debug: false", b'debug: "'), (b"request-retry: 3", b'request-retry: 3"')),
            edit((b'  - "two"\n', b'  - "two"\nnew: 1\n')),
        ),
        (edit(PORT), b"[1]"),
        (edit(PORT), b"a: [\n"),
        (edit(PORT), b"\xff"),
    ],
)
def test_what_cannot_be_told_apart_is_not_merged(ours: bytes, theirs: bytes) -> None:
    for one, other in ((ours, theirs), (theirs, ours)):
        with pytest.raises(NotMerged):
            ruled(BASE, one, other)


def test_without_a_base_configs_do_not_merge() -> None:
    with pytest.raises(NotMerged):
        ruled(None, b"a: 1\n", b"b: 1\n")
    assert ruled(None, b"a: 1\n", b"a: 1\n") == Merged(b"a: 1\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_ends_are_kept_and_merged_on_their_own(end: bytes) -> None:
    base = BASE.replace(b"\n", end)
    ours, theirs = edit(PORT, of=base), edit(RETRY, of=base)
    assert ruled(base, ours, theirs).data == edit(PORT, RETRY, of=base)
    other = b"\r\n" if end == b"\n" else b"\n"
    turned = theirs.replace(end, other)
    assert ruled(base, ours, turned).data == edit(PORT, RETRY).replace(b"\n", other)
    assert ruled(base, turned, ours).data == edit(PORT, RETRY).replace(b"\n", other)


def test_a_missing_last_line_end_is_kept_or_added_and_never_joins_two_lines() -> None:
    base = BASE.removesuffix(b"\n")
    assert ruled(base, edit(PORT, of=base), edit(RETRY, of=base)).data == edit(PORT, RETRY, of=base)
    merged = ruled(base, base + b"\nfoo: 1", edit(RETRY, of=base))
    assert merged.data == edit(RETRY, of=base) + b"\nfoo: 1"
    assert ruled(base, BASE + b"foo: 1\n", BASE + b"bar: 1\n").data == BASE + b"bar: 1\nfoo: 1\n"
    mixed = b"a: 1\r\nb: 2\nc: 3"
    merged = ruled(mixed, mixed.replace(b"1", b"9"), mixed.replace(b"3", b"8"))
    assert merged.data == b"a: 9\r\nb: 2\nc: 8"
    with pytest.raises(NotMerged):
        ruled(mixed, mixed + b"\r\nd: 4", mixed + b"\r\ne: 5")


def test_a_byte_order_mark_stays() -> None:
    bom = b"\xef\xbb\xbf"
    ours, theirs = edit((b"# ours", b"# mine")), edit(RETRY)
    wanted = bom + edit((b"# ours", b"# mine"), RETRY)
    assert ruled(bom + BASE, bom + ours, bom + theirs).data == wanted


def hashed(number: int, quote: bytes = b'"') -> tuple[bytes, bytes]:
    return b'"plain"', quote + HASH[number] + quote


@pytest.mark.parametrize("stale_save", [False, True])
def test_a_secret_that_both_hashed_is_the_backends(stale_save: bool) -> None:
    ours, theirs = edit(hashed(0), PORT), edit(hashed(1, b""), RETRY)
    merged = stale(BASE, theirs, ours) if stale_save else ruled(BASE, ours, theirs)
    assert merged == Merged(edit(hashed(1, b""), PORT, RETRY), ours_lost=True)
    assert ruled(BASE, edit(hashed(0)), theirs) == Merged(theirs, ours_lost=True)


def test_a_quoted_text_swallows_no_key() -> None:
    base = b"a: 1\nb: 1\nc: 1\nd: 1\ne: 1\n"
    ours = base.replace(b"a: 1", b'a: "1').replace(b"d: 1", b'd: 1"')
    theirs = base.replace(b"c: 1\n", b"new: 2\nc: 1\n")
    assert problem(CONFIG, ours) is None
    for one, other in ((ours, theirs), (theirs, ours)):
        with pytest.raises(NotMerged, match="other keys"):
            ruled(base, one, other)


def test_hashes_without_a_plain_text_are_two_decisions() -> None:
    old = edit((b'"plain"', b'""'), HOST)
    old = edit((b'host: ""', b"host: x"), of=old)
    ours, theirs = (edit((b'""', b'"' + text + b'"'), of=old) for text in HASH)
    with pytest.raises(NotMerged):
        ruled(old, ours, theirs)


@pytest.mark.parametrize("secret", [b'"other"', b'"$2a$10$short"', b'""'])
def test_a_secret_that_was_changed_otherwise_is_a_conflict(secret: bytes) -> None:
    for ours, theirs in ((hashed(0)[1], secret), (secret, hashed(0)[1])):
        with pytest.raises(NotMerged):
            ruled(BASE, edit((b'"plain"', ours)), edit((b'"plain"', theirs)))
    old = edit((b'"plain"', b'"$2b$12$' + b"x" * 53 + b'"'))
    with pytest.raises(NotMerged):
        ruled(old, edit(hashed(0)), edit(hashed(1)))


def test_a_stale_save_that_rewrites_the_whole_text_takes_no_scalar_back() -> None:
    """The proxy rewrites indentation, comments and quotes, and adds blocks of defaults."""
    written = edit(
        (b"  # hashed on start\n", b"# hashed on start\n"),
        (b"\n\n#", b"\n#"),
        (b'"127.0.0.1"   # this machine only', b"127.0.0.1 # this machine only"),
        (b"debug: false", b"debug: false\nnew-default:\n  a: 1"),
        RETRY,
    )
    delivered = edit(
        (b"allow-remote: false", b"allow-remote: true  # yes"), DEBUG, (b'"plain"', b"'it''s'")
    )
    merged = stale(BASE, delivered, written)
    found = yaml.safe_load(merged.data)
    assert found == {
        **yaml.safe_load(written),
        "debug": True,
        "remote-management": {"allow-remote": True, "secret-key": "it's"},
    }
    assert not merged.ours_lost


def test_what_a_stale_writer_changed_wins() -> None:
    merged = stale(BASE, edit((b"port: 8317", b"port: 1"), DEBUG), edit(PORT))
    assert merged == Merged(edit(PORT, DEBUG), theirs_lost=True)


def test_a_stale_save_whose_merge_is_no_config_stands_with_the_others_scalars() -> None:
    ours = edit(PORT, RETRY) + b"foo: 1\n"
    theirs = b"foo: 2\n" + edit(DEBUG)
    assert stale(BASE, theirs, ours) == Merged(edit(DEBUG, of=ours), theirs_lost=True)
    assert stale(BASE, b"[1]", ours) == Merged(ours, theirs_lost=True)


def test_aliases_and_anchors_are_not_cut() -> None:
    before = b"a: &x 1\nb: *x\nc: 1\n"
    written, delivered = b"a: &x 1\nb: *x\nc: 2\nd: 1\n", b"a: &x 5\nb: *x\nc: 3\n"
    merged = stale(before, delivered, written)
    assert yaml.safe_load(merged.data)["c"] == 2
    assert problem(CONFIG, merged.data) is None


def test_a_scalar_that_follows_is_spliced_once_and_where_it_can_be() -> None:
    before, written = b"a: &x 1\nb: *x\n", b"a: &x 1 # c\nb: *x\n"
    assert stale(before, b"a: &x 55\nb: *x\n", written).data == b"a: &x 55 # c\nb: *x\n"
    assert stale(b"a:\n", b"a: 5\n", b"a: # c\n").data == b"a: 5 # c\n"
    # What would say something else there is left out.
    merged = stale(b"a: 1\nb: 1\n", b"a: x, y\nb: 1\n", b"{a: 1, b: 1}\n")
    assert merged == Merged(b"{a: 1, b: 1}\n", theirs_lost=True)


def test_work_is_bounded() -> None:
    long = b"".join(b"k%d: 1\n" % n for n in range(200_000))
    assert len(long) > MAX_SIZE
    with pytest.raises(NotMerged, match="longer"):
        ruled(long, long + b"a: 1\n", b"b: 1\n" + long)
    assert stale(long, long + b"a: 1\n", b"b: 1\n" + long).theirs_lost
    alike = b"a: |\n" + b"  x\n" * 20_000
    with pytest.raises(NotMerged, match="repeated lines"):
        ruled(alike, alike + b"b: 1\n", b"c: 1\n" + alike)
    assert stale(alike, alike + b"b: 1\n", b"c: 1\n" + alike).theirs_lost


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample is not at hand")
def test_the_proxys_own_example_merges() -> None:
    base = SAMPLE.read_bytes()
    ours = edit(
        (b"\nport: 8317", b"\nport: 1"), (b'\n  secret-key: ""', b"\n  secret-key: x"), of=base
    )
    theirs = edit((b"\ndebug: false", b"\ndebug: true"), of=base) + b"new: 1\n"
    merged = ruled(base, ours, theirs)
    found = yaml.safe_load(merged.data)
    assert found == {**yaml.safe_load(ours), "debug": True, "new": 1}


# -- properties ------------------------------------------------------------------------------

_lines = [b"a: 1\n", b"b: 1\n", b"c:\n", b"  x: 1\n", b"  y: 1\n", b"# note\n", b"d:\n", b"- 1\n"]


@st.composite
def edits(draw: st.DrawFn) -> bytes:
    """BASE-like small configs that are edits of one: lines changed, removed, added."""
    result = []
    for line in _lines:
        what = draw(st.sampled_from(["keep", "keep", "keep", "change", "remove", "add"]))
        if what == "change":
            line = line.replace(b"1", draw(st.sampled_from([b"2", b"3"])))
        if what != "remove":
            result.append(line)
        if what == "add":
            result.append(draw(st.sampled_from([b"e: 1\n", b"f: 1\n", b"  z: 1\n", b"- 2\n"])))
    return b"".join(result)


def _sound(data: bytes) -> bool:
    """A config that no key stands twice in, which the proxy would refuse."""
    if problem(CONFIG, data) is not None:
        return False
    keys = [key.value for key, _ in compose(data).root.value]
    return len(set(keys)) == len(keys)


_valid = edits().filter(_sound)


@settings(deadline=None)
@given(_valid, _valid, _valid)
def test_merges_are_valid_stable_and_lose_no_key(base: bytes, ours: bytes, theirs: bytes) -> None:
    try:
        merged = ruled(base, ours, theirs)
    except NotMerged:
        return
    assert problem(CONFIG, merged.data) is None
    keys = [key.value for key, _ in compose(merged.data).root.value]
    if merged.data not in (ours, theirs):
        assert len(set(keys)) == len(keys)
    # Again: the same, or refused because lines moved, and the backend's stands. Never another.
    with contextlib.suppress(NotMerged):
        assert ruled(base, ours, merged.data).data == merged.data
    # No line that one side added and the base lacks is gone, none that one removed is back.
    old, mine, other, new = (set(text.splitlines()) for text in (base, ours, theirs, merged.data))
    assert new <= mine | other
    assert (mine | other) - old <= new
    with contextlib.suppress(NotMerged):
        turned = ruled(base, theirs, ours).data
        assert sorted(turned.splitlines()) == sorted(merged.data.splitlines())


@settings(deadline=None)
@given(_valid, _valid)
def test_one_side_alone_is_taken_as_it_is(base: bytes, edited: bytes) -> None:
    for one, other in ((base, edited), (edited, base), (edited, edited)):
        assert ruled(base, one, other) == Merged(edited)


@settings(deadline=None)
@given(_valid, _valid, _valid)
def test_stale_writes_always_end_in_a_config(base: bytes, theirs: bytes, ours: bytes) -> None:
    merged = stale(base, theirs, ours)
    assert problem(CONFIG, merged.data) is None
    before, mine, other, new = (yaml.safe_load(text) for text in (base, ours, theirs, merged.data))
    for key in ("a", "b"):
        if key in before and key in mine and key in other:
            wanted = other[key] if mine[key] == before[key] else mine[key]
            assert new[key] == wanted, key
