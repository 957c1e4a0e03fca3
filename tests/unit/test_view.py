"""The view of auth-dir: what is shown, what is stored, and when nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from storefs.content import problem
from storefs.view import show, unshow

HERE = "/mnt/proxy/auths"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"

WITH_KEY = b"""\
# ours
host: "127.0.0.1"   # this machine only
auth-dir: '~/.tokens'   # moved per machine
api-keys:
  - "EXAMPLE"
"""
WITHOUT_KEY = b'host: ""\nport: 8317\napi-keys: ["EXAMPLE"]'

ROUND = {
    "commented": WITH_KEY,
    "no last line end": WITHOUT_KEY,
    "crlf": WITH_KEY.replace(b"\n", b"\r\n"),
    "crlf, no key": WITHOUT_KEY.replace(b"\n", b"\r\n") + b"\r\n",
    "cr": WITH_KEY.replace(b"\n", b"\r"),
    "cr, no key": WITHOUT_KEY.replace(b"\n", b"\r"),
    "mixed line ends": b"a: 1\r\nb: 2\nc: 3\r",
    "one line": b"a: 1",
    "byte order mark": b"\xef\xbb\xbfauth-dir: x # y\na: 1\n",
    "byte order mark, no key": b"\xef\xbb\xbfa: 1\n",
    "non-ascii": "ä: 😀\nauth-dir: /größe/😀 # ü\nnach: ß\n".encode(),
    "no value": b"auth-dir:   # comment\na: 1\n",
    "no value at the end": b"a: 1\nauth-dir:",
    "null": b"auth-dir: ~\na: 1\n",
    "empty": b'auth-dir: ""\na: 1\n',
    "number": b"auth-dir: 12\na: 1\n",
    "over two lines": b'auth-dir: "/a\\\n  /b"\na: 1\n',
    "value on the next line": b"auth-dir:\n  /a/b\na: 1\n",
    "quoted key": b'"auth-dir" : /a\na: 1\n',
    "explicit key": b"? auth-dir\n: /a\na: 1\n",
    "this directory": b'auth-dir: "/mnt/proxy/auths"\n',
    "nested namesake": b"auth-dir: /a\nother:\n  auth-dir: /b\n",
    "nested namesake only": b"other:\n  auth-dir: /b\n",
    "markers": b"%YAML 1.1\n---\nauth-dir: /a\n...\n",
    "kept block at the end": b"a: |+\n  text\n\n\n",
    "anchors elsewhere": b"a: &a {x: 1}\nb: *a\nauth-dir: /a\nc: &c [*c]\n",
    "nested merge": b"a: &a {x: 1}\nb:\n  <<: *a\n",
}
REFUSED = {
    "empty": (b"", "holds no YAML document"),
    "comment only": (b"# nothing\n", "holds no YAML document"),
    "not UTF-8": (b"a: \xff\n", "not UTF-8"),
    "broken": (b'host: "127.0.0.1\nport: [8317\n', "is not YAML"),
    "list": (b"- auth-dir: x\n", "not a mapping"),
    "several": (b"auth-dir: x\n---\na: 1\n", "several"),
    "flow": (b'{host: "127.0.0.1", auth-dir: "/a", api-keys: ["EXAMPLE"]}\n', "flow style"),
    "flow, no key": (b"{}\n", "flow style"),
    "literal": (b"auth-dir: |-\n  /a\nb: 1\n", "block scalar"),
    "folded": (b"auth-dir: >\n  /a\n", "block scalar"),
    "mapping": (b"auth-dir: {a: 1}\n", "not a scalar"),
    "list value": (b"auth-dir:\n- /a\n", "not a scalar"),
    "twice": (b"auth-dir: /a\nb: 1\n'auth-dir': /b\n", "more than once"),
    "anchor": (b"auth-dir: &a /a\nb: *a\n", "anchor"),
    "unused anchor": (b"auth-dir: &a /a\n", "anchor"),
    "alias": (b"b: &a /a\nauth-dir: *a\n", "alias"),
    "tag": (b"auth-dir: !!str /a\n", "tag"),
    "merge": (b"a: &a {auth-dir: /a}\n<<: *a\n", "merge key"),
    "document end": (b"a: 1\n...\n", "would not be YAML"),
    "indented": (b"  a: 1\n  b: 2\n", "would not be YAML"),
    "open block at the end": (b"a: |\n  text", "would not be the same"),
    "explicit key without value": (b"? auth-dir\nb: 1\n", "would not be"),
    "too deep": (b"a: " + b"[" * 100_000, "levels deep"),
}


@pytest.mark.parametrize("stored", ROUND.values(), ids=ROUND.keys())
def test_shown_and_written_back_is_what_was_stored(stored: bytes) -> None:
    shown = show(stored, HERE)
    assert not shown.refused
    root = yaml.compose(shown.data.decode("utf-8-sig"))
    assert isinstance(root, yaml.MappingNode)
    assert [value.value for key, value in root.value if key.value == "auth-dir"] == [HERE]
    assert unshow(shown.data, HERE, stored) == stored


@pytest.mark.parametrize(("stored", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_viewed_is_shown_and_stored_as_it_is(stored: bytes, reason: str) -> None:
    shown = show(stored, HERE)
    assert shown.data == stored
    assert reason in shown.refused
    assert unshow(stored, HERE, stored) == stored
    other = b"auth-dir: /mnt/proxy/auths\n"
    assert unshow(other, HERE, stored) == other


def test_only_the_value_changes() -> None:
    for text in (WITH_KEY, WITH_KEY.replace(b"\n", b"\r\n")):
        assert show(text, HERE).data == text.replace(b"'~/.tokens'", b'"/mnt/proxy/auths"')


def test_a_missing_key_is_a_last_line_with_the_line_end_of_the_file() -> None:
    line = b'auth-dir: "/mnt/proxy/auths"'
    assert show(b"a: 1", HERE).data == b"a: 1\n" + line
    assert show(b"a: 1\n", HERE).data == b"a: 1\n" + line + b"\n"
    assert show(b"a: 1\r", HERE).data == b"a: 1\r" + line + b"\r"
    assert show(b"a: 1\r\nb: 2", HERE).data == b"a: 1\r\nb: 2\r\n" + line
    assert show(b"a: 1\r\n", HERE).data == b"a: 1\r\n" + line + b"\r\n"


@pytest.mark.parametrize(
    "directory", ['/a "b"\\c', "/tab\tline\nend", "/größe/😀", "/\u2028\ufeff\x7f\x85", ""]
)
def test_any_directory_can_be_shown(directory: str) -> None:
    shown = show(WITH_KEY, directory)
    assert yaml.safe_load(shown.data)["auth-dir"] == directory
    assert unshow(shown.data, directory, WITH_KEY) == WITH_KEY


def test_line_ends_and_marks_in_a_directory_are_escaped() -> None:
    shown = show(b"a: 1\n", "/\u2028\ufeff\x85").data
    assert shown == b'a: 1\nauth-dir: "/\\U00002028\\U0000feff\\U00000085"\n'


def test_a_directory_that_is_not_utf8_is_not_shown() -> None:
    shown = show(WITH_KEY, "/\udcff")
    assert (shown.data, shown.refused) == (WITH_KEY, "the directory to show is not UTF-8")


@pytest.mark.parametrize("value", [HERE, f"'{HERE}'", f'"{HERE}"', f'"{HERE[:-1]}\\x73"'])
def test_the_value_counts_however_it_is_quoted(value: str) -> None:
    written = f"auth-dir: {value} # c\nport: 1\n".encode()
    assert unshow(written, HERE, WITH_KEY) == b"auth-dir: '~/.tokens' # c\nport: 1\n"
    assert unshow(b"x: 1\nauth-dir: %s\ny: 2" % value.encode(), HERE, b"x: 1") == b"x: 1\ny: 2"


@pytest.mark.parametrize(
    ("written", "before", "stored"),
    [
        pytest.param(b"auth-dir: /b\n", WITH_KEY, b"auth-dir: /b\n", id="another value"),
        pytest.param(b"a: 1\n", WITH_KEY, b"a: 1\n", id="key removed"),
        pytest.param(b"a: [\n", WITH_KEY, b"a: [\n", id="broken"),
        pytest.param(b"", WITH_KEY, b"", id="truncated"),
        pytest.param(
            b"{a: 1, auth-dir: /mnt/proxy/auths}",
            WITH_KEY,
            b"{a: 1, auth-dir: '~/.tokens'}",
            id="rewritten in flow style",
        ),
        pytest.param(
            b"a: 1\nauth-dir: /mnt/proxy/auths\n",
            b"a: 1",
            b"a: 1\n",
            id="line end added behind the added line",
        ),
        pytest.param(
            b"a: 1\nauth-dir: /mnt/proxy/auths # mine\nb: 2\n",
            b"a: 1\n",
            b"a: 1\n# mine\nb: 2\n",
            id="comment added to the added line",
        ),
        pytest.param(
            b"auth-dir: /mnt/proxy/auths\n",
            b"a: 1\n",
            b"auth-dir: /mnt/proxy/auths\n",
            id="nothing else left: without the line it would be no config",
        ),
        pytest.param(
            b"{a: 1, auth-dir: /mnt/proxy/auths}",
            b"a: 1\n",
            b"{a: 1, auth-dir: /mnt/proxy/auths}",
            id="not on a line of its own",
        ),
        pytest.param(
            b"{a: 1,\nb: 2, auth-dir: /mnt/proxy/auths\n}",
            b"a: 1\n",
            b"{a: 1,\nb: 2, auth-dir: /mnt/proxy/auths\n}",
            id="behind another key on its line",
        ),
        pytest.param(
            b"a: 1\n? auth-dir\n: /mnt/proxy/auths\nb: 2\n",
            b"a: 1\n",
            b"a: 1\nb: 2\n",
            id="explicit key",
        ),
        pytest.param(
            b"a: 1\nauth-dir: '/mnt/proxy/auths'\n",
            b"auth-dir:\na: 1\n",
            b"a: 1\nauth-dir:\n",
            id="no value before",
        ),
        pytest.param(
            b"a: {x: 1}\nauth-dir: '/mnt/proxy/auths'\n",
            b"a: {x: 1}\nauth-dir: /a\n",
            b"a: {x: 1}\nauth-dir: /a\n",
            id="quoted by the writer",
        ),
    ],
)
def test_what_is_stored(written: bytes, before: bytes, stored: bytes) -> None:
    assert unshow(written, HERE, before) == stored


def test_without_a_config_before_nothing_is_put_back() -> None:
    assert unshow(b"auth-dir: /mnt/proxy/auths\n", HERE, None) == b"auth-dir: /mnt/proxy/auths\n"


def test_a_programs_own_marshalling_is_undone() -> None:
    stored = "port: 1\nname: 'ü'\nlist: [a, b]\nauth-dir: ~/x\n".encode()
    values = yaml.safe_load(show(stored, HERE).data)
    values["port"] = 2
    written = yaml.safe_dump(values, sort_keys=False).encode()
    result = yaml.safe_load(unshow(written, HERE, stored))
    assert result == {**yaml.safe_load(stored), "port": 2}


_WORDS = st.sampled_from(["x", "größe", "😀 b", "a\u2028b", "~", "=", "it''s", "c:d", "#e"])
_VALUES = st.one_of(
    _WORDS.map(lambda word: f"'{word}'"),
    st.sampled_from(
        [
            "",
            "plain",
            "~/.x",
            '"q\\"\\u00fc"',
            "12",
            "null",
            "[a, {b: c}]",
            "|{end}  text{end}  more",
        ]
    ),
)
_PATHS = st.sampled_from(["", "~/.x", "/a b/ü", "'/it''s'", '"/\\u00fc\\\\"', "5", "'😀'", "!t /a"])
_COMMENTS = st.sampled_from(["", "   # größe 😀", " #", "  "])
_BETWEEN = st.sampled_from(["", "# 😀 auth-dir: no", "  # in", "   "])
_NOISE = st.text("ab-:? \n'\"#&*!|>[]{},<\r", max_size=40).map(str.encode)
_DIRECTORIES = st.text(max_size=8) | st.just(HERE)


@st.composite
def _configs(draw: st.DrawFn) -> str:
    keys = draw(st.permutations(["edited", "größe", "'q k'", "last", "auth-dir"]))
    lines: list[str] = []
    for key in keys[: draw(st.integers(3, 5))]:
        value = "before" if key == "edited" else draw(_PATHS if key == "auth-dir" else _VALUES)
        comment = "" if value.startswith("|") else draw(_COMMENTS)
        lines += [f"{key}: {value}{comment}", draw(_BETWEEN)]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(line for line in lines if line).replace("{end}", end)
    return draw(st.sampled_from(["", "\ufeff"])) + text + draw(st.sampled_from(["", end, end * 2]))


def _edit(text: bytes) -> bytes:
    return text.replace(b"edited: before", "edited: 'after 😀'".encode())


@settings(deadline=None)
@given(_configs(), _DIRECTORIES)
def test_every_config_survives_the_round_and_keeps_its_edits(text: str, directory: str) -> None:
    stored = text.encode()
    shown = show(stored, directory)
    assert unshow(shown.data, directory, stored) == stored
    assert unshow(_edit(shown.data), directory, stored) == _edit(stored)
    assert shown.data == stored or not shown.refused
    event("refused" if shown.refused else "viewed")


@settings(deadline=None)
@given(st.binary(max_size=60) | _NOISE, _DIRECTORIES, st.sampled_from([b"", b"auth-dir: "]))
def test_no_bytes_are_changed_by_the_round(noise: bytes, directory: str, start: bytes) -> None:
    stored = start + noise
    assert unshow(show(stored, directory).data, directory, stored) == stored


def test_the_samples_survive_the_round() -> None:
    if not SAMPLES.is_dir():
        pytest.skip(f"no samples at {SAMPLES}")
    files = [SAMPLES / "config.example.yaml", *sorted((SAMPLES / "more").glob("config-*.yaml"))]
    for file in files:
        stored = file.read_bytes()
        shown = show(stored, HERE)
        assert bool(shown.refused) == (file.stem in ("config-flow", "config-broken")), file.name
        assert shown.refused or problem("config/config.yaml", shown.data) is None
        assert unshow(shown.data, HERE, stored) == stored
    example_text = files[0].read_bytes()
    shown_lines = show(example_text, HERE).data.splitlines()
    pairs = zip(shown_lines, example_text.splitlines(), strict=True)
    changed = [new for new, old in pairs if new != old]
    assert changed == [b'auth-dir: "/mnt/proxy/auths"']
