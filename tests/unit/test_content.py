"""Which bytes may be sent, and which mean the same."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storefs.content import NotConfig, compose, problem, same_value

AUTH = "auths/team/claude-a@example.com.json"
CONFIG = "config/config.yaml"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
MIB = 1 << 20

VALID_OBJECTS = [
    b"{}",
    b' {"a": 1}\r\n',
    b'{"a": 1, "a": 2}',
    b'{"half": "\\ud83d"}',
    b'{"nul": "\\u0000"}',
    '{"name": "Zoë"}'.encode(),
    b'{"n": 1e999, "m": -0.0}',
    b'{"n": ' + b"9" * 5000 + b"}",
]
INVALID_OBJECTS = [
    (b"", "is empty"),
    (b" ", "is not JSON (line 1, column 2)"),
    (b'{"a": 1,\n "b"}', "is not JSON (line 2, column 5)"),
    (b'{"a": 1} {}', "is not JSON (line 1, column 10)"),
    (b'{"a": 01}', "is not JSON (line 1, column 8)"),
    (b"{'a': 1}", "is not JSON (line 1, column 2)"),
    (b'{"a": 1,}', "is not JSON (line 1, column 9)"),
    (b'{"a": "\n"}', "is not JSON (line 1, column 8)"),
    (b'{"a": NaN}', "holds NaN, which is not JSON"),
    (b'{"a": [Infinity]}', "holds Infinity, which is not JSON"),
    (b'{"a": -Infinity}', "holds -Infinity, which is not JSON"),
    (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    (b'{"name": "Zo\xeb"}', "is not UTF-8 (byte 12)"),
    (b'{"a": "\xed\xa0\x80"}', "is not UTF-8 (byte 7)"),
    ("{}".encode("utf-16"), "is not UTF-8 (byte 0)"),
    ("{}".encode("utf-16-le"), "is not JSON (line 1, column 2)"),
    (b"[1, 2]", "is not a JSON object"),
    (b"null", "is not a JSON object"),
    (b'"a"', "is not a JSON object"),
    (b'{"a": ' + b"[" * 100_000, "is nested too deeply"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested too deeply"),
]
VALID_CONFIGS = [
    b"port: 8317\n",
    b"{port: 8317}",
    b"\xef\xbb\xbfport: 8317\r\n",
    b"---\nport: 8317\n...\n",
    b"mark: =\nkind: !tag x\nday: 2024-13-45\n",
    b"base: &b {a: 1}\nmore:\n  <<: *b\n",
    b"a: 1\na: 2\n",
    b"loop: &l [*l]\n",
    "größe: 1\n".encode(),
    b"many:\n" + b"  - [x]\n" * 300,
]
INVALID_CONFIGS = [
    (b"", "is empty"),
    (b"# only a comment\n", "holds no YAML document"),
    (b"- a\n", "holds YAML that is not a mapping"),
    (b"text\n", "holds YAML that is not a mapping"),
    (b"a: 1\n---\nb: 2\n", "holds several YAML documents"),
    (b'host: "127.0.0.1\nport: [8317\n', "is not YAML (line 3, column 1)"),
    (b"a: *nowhere\n", "is not YAML (line 1, column 4)"),
    (b"a:\n\t- 1\n", "is not YAML (line 2, column 1)"),
    (b"a: \x00\n", "is not YAML (a character that YAML forbids)"),
    (b"a: \xff\n", "is not UTF-8 (byte 3)"),
    (b"a: " + b"[" * 100_000, "is nested more than 200 levels deep"),
    (b"a:\n  " + b"- " * 100_000, "is nested more than 200 levels deep"),
]


@pytest.mark.parametrize("data", VALID_OBJECTS)
def test_a_json_object_may_be_sent(data: bytes) -> None:
    assert problem(AUTH, data) is None


@pytest.mark.parametrize(("data", "reason"), INVALID_OBJECTS)
def test_anything_else_has_a_reason(data: bytes, reason: str) -> None:
    assert problem(AUTH, data) == reason


@pytest.mark.parametrize("data", VALID_CONFIGS)
def test_a_config_is_composed_never_constructed(data: bytes) -> None:
    assert problem(CONFIG, data) is None


@pytest.mark.parametrize(("data", "reason"), INVALID_CONFIGS)
def test_what_is_no_mapping_has_a_reason(data: bytes, reason: str) -> None:
    assert problem(CONFIG, data) == reason


def test_no_reason_repeats_content() -> None:
    secret = b"sk-very-secret"
    for data in (b'{"t": %s}', b'{"t": "\\%s"}', b"[%s", b'{"a": "\\u%s"}'):
        assert "secret" not in (problem(AUTH, data % secret) or "secret")
    for data in (b"a: *%s\n", b"a: !%s!x 1\n", b'a: "%s\n', b"a: &%s 1\nb: &%s 2\n"):
        text = data.replace(b"%s", secret)
        assert "secret" not in (problem(CONFIG, text) or "secret")


@pytest.mark.parametrize("path", ["auths/.hidden", "auths/notes.txt", "config/other.yaml"])
def test_a_foreign_document_is_bytes(path: str) -> None:
    assert problem(path, b"\xff\x00") is None
    assert problem(path, b"") == "is empty"


def test_sixteen_mebibytes_are_only_large() -> None:
    begun = time.monotonic()
    assert problem(AUTH, b'{"n": ' + b"1" * (16 * MIB) + b"}") is None
    assert problem(AUTH, b'{"s": "' + b"x" * (16 * MIB) + b'"}') is None
    assert problem(CONFIG, b"a: " + b"x" * (16 * MIB)) is None
    assert problem(CONFIG, b"# comment line\n" * MIB + b"a: 1\n") is None
    assert problem(CONFIG, b"[" * (16 * MIB)) == "is nested more than 200 levels deep"
    assert problem(CONFIG, b"? " * (8 * MIB)) == "is nested more than 200 levels deep"
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}\n'),
        (b'{"a": 1, "a": 2}', b'{"a": 2}'),
        (b'{"a": "\\u00e9"}', '{"a": "é"}'.encode()),
        (b'{"a": {"x": 1, "y": [1.50]}}', b'{"a":{"y":[1.50],"x":1}}'),
        (b"not json", b"not json"),
    ],
)
def test_the_same_value(one: bytes, other: bytes) -> None:
    assert same_value(AUTH, one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1}', b'{"a": 1.0}'),
        (b'{"a": 1}', b'{"a": true}'),
        (b'{"a": 0}', b'{"a": false}'),
        (b'{"a": 1}', b'{"a": "1"}'),
        (b'{"a": [1]}', b'{"a": ["1"]}'),
        (b'{"a": 1}', b'{"a": ["1"]}'),
        (b'{"a": 12345678901234567890}', b'{"a": 12345678901234567000}'),
        (b'{"a": 1e5}', b'{"a": 100000.0}'),
        (b'{"a": [1, 2]}', b'{"a": [2, 1]}'),
        (b'{"a": null}', b"{}"),
        (b'{"a": 1}', b"{"),
        (b'{"a": NaN}', b'{"a":NaN}'),
        (b"[" * 100_000, b"[" * 99_999),
        (b"\xff", b"{}"),
    ],
)
def test_not_the_same_value(one: bytes, other: bytes) -> None:
    assert not same_value(AUTH, one, other)
    assert not same_value(AUTH, other, one)


@pytest.mark.parametrize("path", [CONFIG, "auths/notes.txt"])
def test_outside_of_auth_documents_only_bytes_count(path: str) -> None:
    assert same_value(path, b'{"a": 1}', b'{"a": 1}')
    assert not same_value(path, b'{"a": 1}', b'{"a":1}')


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), _JSON), st.sampled_from([None, 2]), st.booleans())
def test_writing_a_value_another_way_keeps_it(
    value: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    plain = json.dumps(value).encode()
    turned = dict(reversed(value.items()))
    other = json.dumps(turned, indent=indent, ensure_ascii=ascii_only).encode()
    assert problem(AUTH, plain) is None
    assert same_value(AUTH, plain, other)


@settings(deadline=None)
@given(st.dictionaries(st.text(), _JSON), st.dictionaries(st.text(), _JSON))
def test_two_values_are_told_apart(one: dict[str, object], other: dict[str, object]) -> None:
    texts = [json.dumps(value, sort_keys=True) for value in (one, other)]
    same = same_value(AUTH, json.dumps(one).encode(), json.dumps(other).encode())
    assert same == (texts[0] == texts[1])


def test_compose_says_where_the_text_begins() -> None:
    config = compose("\ufeffgröße: x\n".encode())
    key, value = config.root.value[0]
    assert config.bom == "\ufeff"
    assert config.text[value.start_mark.index : value.end_mark.index] == "x"
    assert key.value == "größe"


def test_compose_refuses_a_list() -> None:
    with pytest.raises(NotConfig):
        compose(b"[a]")


def test_the_samples_are_judged_as_they_are_named() -> None:
    if not SAMPLES.is_dir():
        pytest.skip(f"no samples at {SAMPLES}")
    for file in sorted((SAMPLES / "auths").rglob("*.json")):
        assert problem(AUTH, file.read_bytes()) is None, file.name
    more = SAMPLES / "more"
    for name in ("array.json", "bom.json", "invalid.json", "latin1.json"):
        assert problem(AUTH, (more / name).read_bytes()) is not None, name
    for file in sorted(more.glob("config-*.yaml")):
        valid = problem(CONFIG, file.read_bytes()) is None
        assert valid == ("broken" not in file.name), file.name
