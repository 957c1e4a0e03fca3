"""A config template: what is filled in, what is left alone, and who is named when it goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from storefs.errors import Exit, Quit
from storefs.template import Template, Unset, fill

pytestmark = pytest.mark.user

EXAMPLE = Path(__file__).parents[2] / "deploy/config.template.yaml"
ENV = {"SET": "value", "EMPTY": "", "TRICKY": "a$b${SET}\\1"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${SET}", "value"),
        ("a${SET}b${SET}", "avaluebvalue"),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${NONE:-other one}", "other one"),
        ("${NONE:-}", ""),
        ("${SET:-other}", "value"),
        ("$${SET}", "${SET}"),
        ("$SET $ $$ ${ ${} ${1} ${a b} ${SET-x}", "$SET $ $$ ${ ${} ${1} ${a b} ${SET-x}"),
        ("${TRICKY}", "a$b${SET}\\1"),
        ("$$$${SET}", "$$${SET}"),
    ],
)
def test_only_variables_are_filled_in(text: str, result: str) -> None:
    assert fill(text, ENV) == result


def test_an_unset_variable_is_named_with_its_line() -> None:
    with pytest.raises(Unset, match="line 3: NONE is not set"):
        fill("a\n# ${SET}\nb: ${NONE}\n", ENV)


def refusal(tmp_path: Path, text: bytes, **env: str) -> str:
    file = tmp_path / "t.yaml"
    file.write_bytes(text)
    with pytest.raises(Quit) as caught:
        Template(file, env).fill()
    assert caught.value.code is Exit.SETTINGS
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_the_variable_that_breaks_the_yaml_is_named_and_not_its_value(tmp_path: Path) -> None:
    text = b"port: 1\na: '${GOOD}'\nb: '${BAD}'\n"
    said = refusal(tmp_path, text, GOOD="fine", BAD="hush'hush")
    assert "line 3: with the value of BAD the result is not YAML" in said
    assert "hush" not in said


@pytest.mark.parametrize(
    ("text", "env", "said"),
    [
        (
            b"${ALL}",
            {"ALL": "- list"},
            "with ALL in line 1 filled in the result holds YAML that is",
        ),
        (b"- ${SET}\n", {"SET": "x"}, "with SET in line 1 filled in the result holds YAML that is"),
        (
            b"a: ${A}\nb: ${B}",
            {"A": "x", "B": "{"},
            "line 2: with the value of B the result is not",
        ),
        (b"a: \xff\n", {}, "is not UTF-8 text"),
        (b"a: 1\nb: ${NONE}\n", {}, "line 2: NONE is not set"),
        (b"- a\n", {}, "which has no variables, holds YAML that is not a mapping"),
        (b"", {}, "is empty"),
    ],
)
def test_what_is_no_mapping_is_refused(
    tmp_path: Path, text: bytes, env: dict[str, str], said: str
) -> None:
    assert said in refusal(tmp_path, text, **env)


def test_a_template_that_is_missing_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Quit, match="cannot be read: No such file"):
        Template(tmp_path / "none", {}).fill()


def test_the_example_is_filled_to_a_config() -> None:
    env = {"MANAGEMENT_PASSWORD": 'p#: "\\', "OPENROUTER_API_KEY": "sk-or-1", "PROXY_API_KEY": "k"}
    values = yaml.safe_load(Template(EXAMPLE, env).fill())
    assert values["remote-management"]["secret-key"] == 'p#: "\\'
    (provider,) = values["openai-compatibility"]
    assert provider["api-key-entries"] == [{"api-key": "sk-or-1"}]
    assert (values["host"], values["port"], values["api-keys"]) == ("127.0.0.1", 8317, ["k"])
    for name in env:
        with pytest.raises(Quit, match=f"{name} is not set"):
            Template(EXAMPLE, {key: value for key, value in env.items() if key != name}).fill()
