"""YAML as people mean it: no surprises of version 1.1, and the line of every key."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sailrl.config.yaml_text import Dumper, Where, dotted, parse
from sailrl.errors import ConfigError


def value_of(text: str) -> Any:
    return parse(f"x: {text}", "f.yaml")[0]["x"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1E3", 1000.0),
        ("-2.5e+4", -25000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("16_384", "16_384"),
        ("1.2.3", "1.2.3"),
        ("'1e-6'", "1e-6"),
        ("!!str 7", "7"),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


def test_the_stock_loader_differs_where_it_surprises() -> None:
    # The negative control: these are the traps that the table above closes.
    assert yaml.safe_load("1e-6") == "1e-6"
    assert yaml.safe_load("off") is False
    assert yaml.safe_load("010") == 8


def test_every_key_knows_its_line() -> None:
    _, places = parse("a: 1\nb:\n  c: {d: 2}\n\n  e: 3\n", "f.yaml")
    assert places == {
        ("a",): "f.yaml, line 1",
        ("b",): "f.yaml, line 2",
        ("b", "c"): "f.yaml, line 3",
        ("b", "c", "d"): "f.yaml, line 3",
        ("b", "e"): "f.yaml, line 5",
    }


def test_a_value_that_was_not_written_has_the_line_of_its_section() -> None:
    where = Where("f.yaml", {("a",): "f.yaml, line 1"})
    assert where.of(("a", "b", 0)) == "f.yaml, line 1"
    assert where.of(("z",)) == "f.yaml"


def test_anchors_and_merge_keys_work_and_written_keys_win() -> None:
    data, _ = parse("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n", "f.yaml")
    assert data["use"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml, line 3: the key 'a' is already on line 1; a key is written once."),
        ("a: [1, 2\nb: 3\n", "f.yaml, line 2: this is not YAML: "),
        ("a:\n\tb: 1\n", "Indent with spaces, not tabs."),
        ("a: 1\n---\nb: 2\n", "f.yaml, line 2: this is not YAML: but found another document"),
        ("1: x\n", "f.yaml, line 1: the key '1' is not text"),
        ("true: x\n", "the key 'true' is not text"),
        ("[1]: x\n", "the key a list or mapping is not text"),
        ("a: !env HOME\n", "f.yaml, line 1: the tag !env is not supported."),
        ("a: !!set {x}\n", "the tag !!set is not supported."),
        ("a: !!int abc\n", "f.yaml, line 1: 'abc' is not of the type its tag says."),
        ("a: &x [*x]\n", "the anchor refers to itself"),
        ("a: *nowhere\n", "found undefined alias"),
        ("a: \x00\n", "f.yaml: this is not YAML: unacceptable character"),
        ("a: " + "[" * 1500, "nested too deeply"),
    ],
)
def test_what_is_not_a_configuration_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, "f.yaml")
    assert message in str(error.value)


def test_an_empty_file_is_null() -> None:
    assert parse("# only a comment\n", "f.yaml") == (None, {})


def test_dotted_paths_join_keys_and_positions() -> None:
    assert dotted(("a", "b", 0)) == "a.b.0"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_ 1e-~=", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_is_dumped_reads_back_the_same_here_and_in_a_stock_reader(value: Any) -> None:
    text = yaml.dump({"x": value}, Dumper=Dumper, allow_unicode=True)
    assert parse(text, "f.yaml")[0] == {"x": value}
    assert yaml.safe_load(text) == {"x": value}


@pytest.mark.parametrize("text", ["1e-6", "on", "010", "1:30", "null", "0o7", "<<", "="])
def test_text_that_looks_like_something_else_is_dumped_in_quotes(text: str) -> None:
    assert yaml.dump({"x": text}, Dumper=Dumper) == f"x: '{text}'\n"
