"""Conflict rules 1 to 3 for auth documents, stale saves, superseded token groups."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storefs.content import problem, same_value
from storefs.members import MAX_SIZE
from storefs.merge import (
    Merged,
    NotMerged,
    keep_backend_tokens,
    merge,
    merge_stale_write,
    only_tokens_changed,
)
from storefs.paths import CONFIG
from storefs.tokens import token_digest

AUTH = "auths/claude-a@example.com.json"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "auths"
NOW = 1_790_000_000.0

PRETTY = b"""\
{
  "access_token": "old",
  "refresh_token": "old-r",
  "email": "second@example.com",
  "expired": "2026-10-01T00:00:00Z",
  "big": 12345678901234567890,
  "ratio": 1.0,
  "note": "gr\\u00f6\\u00dfe",
  "b": 1 ,
  "a": 2
}
"""


def jwt(issued: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"iat": int(issued)}).encode()).decode()
    return f"eyJhbGciOiJub25lIn0.{claims.rstrip('=')}.sig"


def compact(**members: object) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def ruled(base: bytes | None, ours: bytes, theirs: bytes) -> Merged:
    return merge(AUTH, base, ours, theirs, now=NOW)


def test_disjoint_fields_are_spliced_into_the_backends_text() -> None:
    ours = PRETTY.replace(b'"b": 1 ', b'"b": 1.50').replace(b'  "ratio": 1.0,\n', b"")
    ours = ours.replace(b'"a": 2', b'"a": 2,\n  "new" :\t[ 1.0 ]')
    theirs = PRETTY.replace(b"1234567890,", b"1234567891,").replace(b'"a": 2', b'"a": 3')
    wanted = theirs.replace(b'"b": 1 ', b'"b": 1.50 ').replace(b'  "ratio": 1.0,\n', b"")
    wanted = wanted.replace(b'"a": 3', b'"a": 3,\n  "new": [ 1.0 ]')
    assert ruled(PRETTY, ours, theirs) == Merged(wanted)


@pytest.mark.parametrize(
    ("theirs", "ours", "wanted"),
    [
        (b'{"k":1,"z":0}', b'{"a":1,"k":0}', b'{"k":1}'),
        (b'{"a":1,"k":1,"z":0}\n', b'{"k":0}', b'{"k":1}\n'),
        (
            b'{ "k": 1, "z": 0, "a": 1 }',
            b'{"k":0,"n":{"x":[]},"a":1}',
            b'{ "k": 1, "a": 1, "n": {"x":[]} }',
        ),
        (b'{\n\t"z": 0,\n\t"a": 1\n}', b'{"k":0,"z":0,"a":2}', b'{\n\t"z": 0,\n\t"a": 2\n}'),
        (b'{"z": 0, "k": 1, "a": 1}', b'{"k":0,"a":1}', b'{"k": 1, "a": 1}'),
        (b'{"a":1,"k":0,"z":0,"a":3\n}', b'{"k":1,"z":0,"a":1}', b'{"k":1,"z":0,"a":3\n}'),
        (b"{\n}", b'{"k":0,"z":0,"a":1,"n":2}', b'{"n":2\n}'),
        (b'{"a":1,"a":3,"k":0,"z":0}', b'{"k":1,"z":0,"a":1}', b'{"a":3,"k":1,"z":0}'),
    ],
)
def test_white_space_of_the_frame_stays(theirs: bytes, ours: bytes, wanted: bytes) -> None:
    base = b'{"k":0,"z":0,"a":1}'
    assert ruled(base, ours, theirs).data == wanted


def test_keys_that_differ_in_escapes_only_are_one() -> None:
    ours = b'{"\\u0061":2,"b":1}'
    assert ruled(b'{"a":1,"b":1}', ours, b'{"a":1,"b":2}') == Merged(b'{"a":2,"b":2}')


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (b'{"a":2}', b'{"a":3}'),
        (b'{"a":1.0}', b'{"a":2}'),
        (b"{}", b'{"a":2}'),
        (b'{"a":2}', b'{"b":1}'),
        (b'{"a":1,"b":1}', b'{"a":1,"b":2}'),
        (b'{"a":2}', b'{"a":1,"b":2} {}'),
        (b'{"a":2}', b'[{"a":1}]'),
        (b'{"a":2}', b'{"a":1,"b":NaN}'),
        (b'{"a":2}', b'{"a":1,"b":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        (b'{"a":2}', b'\xef\xbb\xbf{"a":1,"b":1}'),
    ],
)
def test_what_both_sides_changed_is_not_merged(ours: bytes, theirs: bytes) -> None:
    with pytest.raises(NotMerged):
        ruled(b'{"a":1}', ours, theirs)


def test_the_same_value_is_the_backends_and_numbers_are_not_rounded() -> None:
    assert ruled(b"{}", b'{"b":2,"a":1}', b'{"a": 1, "b": 2}') == Merged(b'{"a": 1, "b": 2}')
    long = b'{"n":%s,"a":1}' % (b"9" * 5000)
    assert ruled(long, long + b" ", long.replace(b'"a":1', b'"a":2')).data.startswith(b'{"n":999')
    theirs, ours = long[:-1] + b',"b":1}', long.replace(b'"a":1', b'"a":2')
    assert ruled(long, ours, theirs).data == ours[:-1] + b',"b":1}'


def test_the_bytes_of_a_side_that_says_it_all_are_taken() -> None:
    base, one, both = b'{"a":1,"b":1}', b'{"a":2,"b":1}', b'{ "b": 2, "a": 2 }\n'
    assert ruled(base, both, one) == ruled(base, one, both) == Merged(both)


def test_without_a_base_only_equal_keys_merge() -> None:
    assert ruled(None, b'{"a":1,"b":1}', b'{"a":1,"c":1}').data == b'{"a":1,"c":1,"b":1}'
    with pytest.raises(NotMerged):
        ruled(None, b'{"a":1}', b'{"a":2}')


def test_what_is_too_long_is_not_taken_apart() -> None:
    base = compact(a=1, b=1, access_token="t", filler="x" * MAX_SIZE)
    ours, theirs = base.replace(b'"a":1', b'"a":2'), base.replace(b'"b":1', b'"b":2')
    with pytest.raises(NotMerged, match="longer"):
        ruled(base, ours, theirs)
    assert merge_stale_write(AUTH, base, theirs, ours, now=NOW) == Merged(ours, theirs_lost=True)
    assert token_digest(base) is None


def test_foreign_documents_are_bytes() -> None:
    base, ours = b'{"a":1,"b":1}', b'{"a":2,"b":1}'
    assert merge("auths/odd", base, ours, base, now=NOW) == Merged(ours)
    with pytest.raises(NotMerged):
        merge("auths/odd", base, ours, b'{"a":1,"b":2}', now=NOW)


OLD = {"access_token": "t0", "refresh_token": "r0", "type": "claude", "note": "n"}


@pytest.mark.parametrize(
    ("ours", "theirs", "wins"),
    [
        ({"access_token": jwt(NOW - 5)}, {"access_token": jwt(NOW - 9)}, True),
        ({"access_token": jwt(NOW - 9)}, {"access_token": jwt(NOW - 5)}, False),
        ({"access_token": jwt(NOW)}, {"access_token": jwt(NOW), "id_token": jwt(NOW - 99)}, False),
        ({"access_token": jwt(NOW + 299)}, {"access_token": jwt(NOW)}, True),
        ({"access_token": jwt(NOW + 301)}, {"access_token": jwt(NOW)}, False),
        ({"token": {"access_token": jwt(NOW)}}, {"token": {"id_token": jwt(NOW - 1)}}, True),
        # An iat outranks a last refresh, and that an expiry.
        (
            {"access_token": jwt(NOW - 9), "last_refresh": "2026-09-20T00:00:02Z"},
            {"access_token": jwt(NOW - 5), "last_refresh": "2026-09-20T00:00:01Z"},
            False,
        ),
        (
            {"last_refresh": "2026-09-20T00:00:01Z", "expired": "2027-01-02T00:00:00Z"},
            {"last_refresh": "2026-09-20T00:00:02Z", "expired": "2027-01-01T00:00:00Z"},
            False,
        ),
        (
            {"last_refresh": "2026-09-20T02:00:01.5+02:00"},
            {"lastRefresh": "2026-09-20T00:00:01Z"},
            True,
        ),
        ({"last_refresh": "2027-09-20T00:00:00Z"}, {"last_refresh": "2026-09-20T00:00:00Z"}, False),
        ({"timestamp": 1_789_999_999_001}, {"timestamp": 1_789_999_999_000}, True),
        ({"expired": "2036-01-01T00:00:01Z"}, {"expired": "2036-01-01T00:00:00Z"}, True),
        ({"expiresAt": 1_800_000_001}, {"expires_at": "1800000000"}, True),
        ({"token": {"expiry": "2036-01-02T00:00:00Z"}}, {"token": {"expiry": "2036-01-01"}}, True),
        ({"expired": "2036-01-01T00:00:00Z"}, {"expired": "2036-01-01T00:00:00.0Z"}, False),
        ({"access_token": "t1"}, {"access_token": "t2"}, False),
        ({"expired": "2036-01-01T00:00:00Z"}, {"access_token": "t2"}, False),
        ({"expired": 1e999}, {"expired": 5}, False),
        # A time that was never set is none.
        (
            {"last_refresh": "2026-09-20T00:00:00Z", "expired": "2036-01-01"},
            {"last_refresh": "0001-01-01T00:00:00Z", "expired": "2036-01-02"},
            False,
        ),
        ({"last_refresh": "soon"}, {"last_refresh": "0001-01-01T00:00:00Z"}, False),
        ({"access_token": "a.!.c"}, {"access_token": "a.W10.c"}, False),
    ],
)
def test_the_newer_token_group_stands_as_a_whole(
    ours: dict[str, object], theirs: dict[str, object], wins: bool
) -> None:
    mine = compact(**{**OLD, "refresh_token": "r1", "note": "mine", **ours}).replace(
        b"Infinity", b"1e999"
    )
    other = compact(**{**OLD, "refresh_token": "r2", "prefix": "theirs", **theirs})
    merged = ruled(compact(**OLD), mine, other)
    assert (merged.ours_lost, merged.theirs_lost) == (not wins, wins)
    assert token_digest(merged.data) == token_digest(mine if wins else other)
    rest = json.loads(merged.data)
    assert (rest["note"], rest["prefix"]) == ("mine", "theirs")


def test_a_refresh_and_a_field_edited_elsewhere_are_both_kept() -> None:
    base = compact(**OLD)
    ours = compact(**{**OLD, "access_token": "t1", "refresh_token": "r1", "expired": "2036-01-01"})
    theirs = compact(**{**OLD, "note": "edited"})
    for one, other in ((ours, theirs), (theirs, ours)):
        merged = ruled(base, one, other)
        assert json.loads(merged.data) == {**json.loads(ours), "note": "edited"}
        assert not merged.ours_lost
        assert not merged.theirs_lost


def test_a_stale_save_takes_back_neither_token_nor_field() -> None:
    before, delivered = compact(**OLD), compact(**{**OLD, "access_token": "t1", "note": "new"})
    written = compact(**{**OLD, "prefix": "p"})
    merged = merge_stale_write(AUTH, before, delivered, written, now=NOW)
    assert json.loads(merged.data) == {**json.loads(delivered), "prefix": "p"}
    assert merged == Merged(merged.data)
    again = compact(**{**OLD, "disabled": False})
    assert b'"t1"' in merge_stale_write(AUTH, before, delivered, again, now=NOW).data
    assert merge_stale_write(AUTH, before, delivered, before + b"\n", now=NOW) == Merged(delivered)


def test_what_a_stale_writer_changed_wins() -> None:
    before, delivered = b'{"a":1,"b":1,"c":1}', b'{"a":2,"b":2,"c":2}'
    merged = merge_stale_write(AUTH, before, delivered, b'{"a":3,"c":1}', now=NOW)
    assert merged == Merged(b'{"a":3,"c":2}', theirs_lost=True)


@pytest.mark.parametrize("ahead", [1, -1])
def test_a_stale_refresh_goes_by_rule_3(ahead: int) -> None:
    before = compact(**OLD)
    delivered = compact(**{**OLD, "access_token": jwt(NOW - 60), "note": "new"})
    written = compact(**{**OLD, "access_token": jwt(NOW - 60 + ahead), "note": "mine"})
    merged = merge_stale_write(AUTH, before, delivered, written, now=NOW)
    assert token_digest(merged.data) == token_digest(written if ahead > 0 else delivered)
    assert json.loads(merged.data)["note"] == "mine"
    assert (merged.ours_lost, merged.theirs_lost) == (ahead < 0, True)


def test_a_stale_write_that_cannot_be_merged_stands() -> None:
    merged = merge_stale_write("auths/odd", b"a", b"b", b"c", now=NOW)
    assert merged == Merged(b"c", theirs_lost=True)
    assert merge_stale_write("auths/odd", b"a", b"b", b"a", now=NOW) == Merged(b"b")
    assert merge_stale_write(AUTH, b'{"a":1}', b"[]", b"{}", now=NOW).data == b"{}"


def test_the_backends_token_group_stays_where_the_written_one_is_superseded() -> None:
    current = compact(access_token="t2", expired="2036-01-01", note="old", id_token="")
    written = (
        b'{\n  "note": "new",\n  "access_token": "t1",\n  "last_refresh": "x",\n  "n": 1.0\n}\n'
    )
    wanted = (
        b'{\n  "note": "new",\n  "access_token": "t2",\n  "n": 1.0,\n  "expired": "2036-01-01",'
        b'\n  "id_token": ""\n}\n'
    )
    assert keep_backend_tokens(AUTH, written, current) == Merged(wanted, ours_lost=True)
    assert keep_backend_tokens(AUTH, wanted, current) == Merged(wanted)
    with pytest.raises(NotMerged):
        keep_backend_tokens(AUTH, written, b"[]")


def test_a_refresh_is_no_edit() -> None:
    base = compact(**OLD)
    refreshed = compact(**{**OLD, "access_token": "t1", "expired": "2036-01-01", "disabled": False})
    assert only_tokens_changed(AUTH, base, refreshed)
    assert only_tokens_changed(AUTH, base, base + b" ")
    for edit in ({"disabled": True}, {"note": "x"}, {"more": False}):
        assert not only_tokens_changed(AUTH, base, compact(**{**OLD, "access_token": "t1", **edit}))
    assert not only_tokens_changed(AUTH, refreshed, base)
    assert not only_tokens_changed(AUTH, base, b"[]")
    assert not only_tokens_changed(CONFIG, b"token: 1\n", b"token: 2\n")


def test_token_digest_is_of_the_groups_value() -> None:
    one = token_digest(b'{"access_token":"\\u0061","token":{"b":1,"a":[2]},"note":1}')
    assert one == token_digest(b'{"note":2, "token": {"a": [2], "b": 1}, "access_token": "a"}')
    assert one != token_digest(b'{"access_token":"a","token":{"b":1.0,"a":[2]}}')
    assert one != token_digest(b'{"access_token":"a","token":{"b":"1","a":[2]}}')
    assert one != token_digest(b'{"access_token":"a"}')
    for none in (b'{"note":1}', b"[]", b"", b"\xff"):
        assert token_digest(none) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not at hand")
@pytest.mark.parametrize(
    "name", sorted(str(p.relative_to(SAMPLES)) for p in SAMPLES.rglob("*.json"))
)
def test_samples_merge_and_keep_every_other_byte(name: str) -> None:
    base = (SAMPLES / name).read_bytes()
    assert (token_digest(base) is None) == ("vertex" in name)
    ours = compact(**{**json.loads(base), "priority": 7})
    theirs = base.replace(b'"type"', b'"prefix": "x",\n "type"')
    merged = merge(f"auths/{name}", base, ours, theirs, now=NOW)
    assert problem(f"auths/{name}", merged.data) is None
    assert merged.data.count(b"priority") == 1
    # The proxy-like rewrite drops nothing of the frame but what it says otherwise.
    end = merged.data.rindex(b"priority")
    lead = merged.data[:end].rstrip(b'\n\t ",')
    assert theirs.startswith(lead)


# -- properties ------------------------------------------------------------------------------

_raws = st.sampled_from(["1", "1.0", "2", '"x"', '"\\u0078"', "[ 1 ]", "null", '{"k": 1}'])
_keys = st.sampled_from(["a", "b", "note"])
_iats = st.integers(0, 4).map(lambda age: NOW - age * 60)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    members = {key: draw(_raws) for key in draw(st.lists(_keys, unique=True))}
    if draw(st.booleans()):
        members["access_token"] = json.dumps(jwt(draw(_iats)))
        members["refresh_token"] = json.dumps(draw(st.sampled_from("rs")))
    order = draw(st.permutations(list(members)))
    gap, space = draw(st.sampled_from([("", ""), ("\n  ", " "), (" ", "")]))
    text = ",".join(f'{gap}"{key}":{space}{members[key]}' for key in order)
    return f"{{{text}{gap[:1]}}}{draw(st.sampled_from(['', chr(10)]))}".encode()


def value(data: bytes) -> dict[str, str]:
    """Members by key, numbers as written, so that 1 is not 1.0."""
    return {
        key: repr(one)
        for key, one in json.loads(
            data, parse_int=lambda n: ("n", n), parse_float=lambda n: ("n", n)
        ).items()
    }


def group(members: dict[str, str]) -> dict[str, str]:
    return {key: one for key, one in members.items() if key.endswith("_token")}


def issued(members: dict[str, str]) -> float | None:
    if "access_token" not in members:
        return None
    part = members["access_token"].strip("'").split(".")[1]
    return float(json.loads(base64.urlsafe_b64decode(part + "=="))["iat"])


def oracle(
    base: dict[str, str], ours: dict[str, str], theirs: dict[str, str], insist: bool
) -> dict[str, str] | None:
    result: dict[str, str] = {}
    for key in {*base, *ours, *theirs} - {"access_token", "refresh_token"}:
        old, mine, other = base.get(key), ours.get(key), theirs.get(key)
        if mine != old and other not in (old, mine) and not insist:
            return None
        chosen = other if mine == old else mine
        if chosen is not None:
            result[key] = chosen
    old_group, mine_group, other_group = group(base), group(ours), group(theirs)
    wins = mine_group != old_group
    if wins and other_group not in (old_group, mine_group):
        one, other_time = issued(ours), issued(theirs)
        wins = one is not None and other_time is not None and one > other_time
    return {**result, **(mine_group if wins else other_group)}


@settings(deadline=None)
@given(documents(), documents(), documents())
def test_merge_agrees_with_a_dictionary(base: bytes, ours: bytes, theirs: bytes) -> None:
    wanted = oracle(value(base), value(ours), value(theirs), insist=False)
    try:
        merged = ruled(base, ours, theirs)
    except NotMerged:
        assert wanted is None
        return
    assert problem(AUTH, merged.data) is None
    assert value(merged.data) == wanted
    pairs = json.loads(merged.data, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs)
    # Again, by the same machine or another: nothing moves.
    assert ruled(base, ours, merged.data).data == merged.data
    assert ruled(theirs, merged.data, theirs).data in (merged.data, theirs)
    assert value(ruled(ours, merged.data, ours).data) == wanted


@settings(deadline=None)
@given(documents(), documents(), documents())
def test_stale_writes_agree_with_a_dictionary(base: bytes, theirs: bytes, ours: bytes) -> None:
    wanted = oracle(value(base), value(ours), value(theirs), insist=True)
    merged = merge_stale_write(AUTH, base, theirs, ours, now=NOW)
    assert value(merged.data) == wanted
    assert problem(AUTH, merged.data) is None


@settings(deadline=None)
@given(documents(), documents())
def test_one_side_alone_is_taken_as_it_is(base: bytes, edited: bytes) -> None:
    assert ruled(base, base, edited).data == edited
    assert ruled(base, edited, edited).data == edited
    assert same_value(AUTH, ruled(base, edited, base).data, edited)
    if not same_value(AUTH, base, edited):
        assert ruled(base, edited, base).data == edited


@settings(deadline=None)
@given(documents(), documents(), documents())
def test_the_order_of_two_machines_does_not_matter(base: bytes, one: bytes, two: bytes) -> None:
    tie = issued(value(one)) is None or issued(value(two)) is None
    tie = tie or issued(value(one)) == issued(value(two))
    results = []
    for ours, theirs in ((one, two), (two, one)):
        try:
            results.append(value(ruled(base, ours, theirs).data))
        except NotMerged:
            results.append({})
    if tie:
        results = [{k: v for k, v in r.items() if not k.endswith("_token")} for r in results]
    assert results[0] == results[1]
