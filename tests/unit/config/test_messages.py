# ruff: noqa: E501 - a message is compared as a whole, on the line of its cause
"""Each kind of mistake in a file gets one paragraph: what, where, the rule, and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from sailrl.config.base import Section
from sailrl.config.messages import explain, line, show
from sailrl.config.yaml_text import Where, parse


class Fixed(Section):
    mode: Literal["fixed"] = "fixed"
    low: float = Field(default=0.2, gt=0, lt=1)


class Moving(Section):
    mode: Literal["moving"] = "moving"
    speed: float = Field(gt=0)


class Inner(Section):
    size: int = Field(default=8, ge=2)
    """How many."""
    steps: int = Field(default=4, ge=1, multiple_of=4)
    width: float = Field(gt=0)
    """How wide."""


class Part(Section):
    use: str
    """Where it lives."""
    share: float = Field(default=1.0, le=1)


class Whole(Section):
    inner: Inner = Inner(width=1.0)
    """The inside."""
    needed: Inner | None = None
    clip: Annotated[Fixed | Moving, Field(discriminator="mode")] = Fixed()
    color: Literal["red", "green"] = "red"
    parts: dict[str, Part] = Field(default_factory=dict)
    pair: tuple[float, float] = Field(default=(0.9, 0.99), strict=False)
    name: str | None = None
    fast: bool = False
    limit: int | Literal["none"] = 3


def explained(text: str) -> list[str]:
    data, places = parse(text, "f.yaml")
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(data)
    return explain(error.value, Whole, Where("f.yaml", places))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # unknown keys
        ("inner: {width: 1, siez: 3}", "the section inner has no key `siez`. Did you mean `size`?"),
        ("inner: {width: 1, color: red}", "the section inner has no key `color`, but the top of the file has. Write it as `color`."),
        ("speed: 3", "the configuration has no key `speed`, but the section clip has. Write it as `clip.speed`."),
        ("sped: 3", "the configuration has no key `sped`. Did you mean `clip.speed`?"),
        ("parts: {a: {use: x, usee: 1}}", "the section parts.a has no key `usee`. Did you mean `use`?"),
        ("size: 3", "the configuration has no key `size`, but the section inner has. Write it as `inner.size`."),
        (
            "parts: {a: {use: x, zzz: 1}}",
            "the section parts.a has no key `zzz`. It has use, share; remove the line or use one of these.",
        ),
        ("inner: {width: 1, size:3}", "the section inner has no key `size:3`. A colon needs a space behind it: `size: 3`."),
        # missing keys
        ("inner: {size: 3}", "the section inner has no `width`, which it needs. How wide. Add `width: ...`."),
        ("parts: {a: {}}", "the section parts.a has no `use`, which it needs. Where it lives. Add `use: ...`."),
        # numbers
        ("inner: {width: 1, size: 1}", "inner.size is 1, but it must be at least 2. How many. The default is `size: 8`."),
        ("inner: {width: 1, steps: 6}", "inner.steps is 6, but it must be a multiple of 4. The default is `steps: 4`."),
        ("inner: {width: 0}", "inner.width is 0, but it must be above 0. How wide. Write a number above 0."),
        ("parts: {a: {use: x, share: 2}}", "parts.a.share is 2, but it must be at most 1. The default is `share: 1.0`."),
        ("inner: {width: 1, size: 1e1}", "inner.size is 10.0, but it must be a whole number. How many. Write `size: 10`."),
        ("inner: {width: 1, size: 2.5}", "inner.size is 2.5, but it must be a whole number. How many. The default is `size: 8`."),
        ("inner: {width: 1, size: '4'}", "inner.size is the text '4', but it must be a whole number. How many. Write it without quotes: `size: 4`."),
        ("inner: {width: '1e-6'}", "inner.width is the text '1e-6', but it must be a number. How wide. Write it without quotes: `width: 1e-6`."),
        ("inner: {width: 1_000}", "inner.width is the text '1_000', but it must be a number. How wide. Write it without separators: `width: 1000`."),
        ("inner: {width: big}", "inner.width is the text 'big', but it must be a number. How wide. Write `width: ...` with a number."),
        ("inner: {width: true}", "inner.width is true, but it must be a number. How wide. Write `width: ...` with a number."),
        ("inner: {width: .inf}", "inner.width is inf, but it must be a finite number. How wide. Write `width: ...` with a finite number."),
        ("inner: {width: 1, size: null}", "inner.size is empty (null), but it must be a whole number. How many. The default is `size: 8`."),
        # other types
        ("fast: yes", "fast is the text 'yes', but it must be true or false. Write `fast: true`."),
        ("fast: 0", "fast is 0, but it must be true or false. Write `fast: false`."),
        ("name: 2024", "name is 2024, but it must be text. Put it in quotes if that text is meant: `name: '2024'`."),
        ("name: true", "name is true, but it must be text. Put it in quotes if that text is meant: `name: 'true'`."),
        ("name: {a: 1}", "name is a section with the keys a, but it must be text. Write `name: ...` with text."),
        ("color: gren", "color is the text 'gren', but it must be one of red, green. Write `color: green`."),
        ("color: 5", "color is 5, but it must be one of red, green. Write `color: red`."),
        ("inner:", "inner is empty (null), but it must be a section with keys of its own. The inside. Give it keys: size, steps, width, or remove the line."),
        ("inner: 5", "inner is 5, but it must be a section with keys of its own. The inside. Give it keys: size, steps, width."),
        ("parts: [a]", "parts is a list of 1, but it must be a section with keys of its own. Give it keys."),
        ("pair: 3", "pair is 3, but it must be a list. Write `pair: ...` with a list."),
        ("pair: [0.9]", "pair is too short a list: value number 2 is missing. Add it."),
        ("pair: [0.9, x]", "pair.1 is the text 'x', but it must be a number. Write `1: ...` with a number."),
        # tagged unions
        ("clip: {low: 0.1}", "clip does not say which one it is: the key `mode` is missing, one of fixed, moving. Write `mode: fixed`."),
        ("clip: {mode: movin}", "clip.mode is the text 'movin', but it must be one of fixed, moving. Write `mode: moving`."),
        ("clip: {mode: moving, speed: -1}", "clip.speed is -1, but it must be above 0. Write a number above 0."),
        ("clip: {mode: fixed, speed: 1}", "the section clip has no key `speed`. It has mode, low; remove the line or use one of these."),
        ("clip: {mode: moving}", "the section clip has no `speed`, which it needs. Add `speed: ...`."),
    ],
)  # fmt: skip
def test_a_mistake_is_explained_in_one_paragraph(text: str, message: str) -> None:
    assert explained(text) == [f"f.yaml, line 1: {message}"]


def test_a_value_that_fits_no_member_of_a_union_is_explained_once() -> None:
    assert explained("limit: nine") == [
        "f.yaml, line 1: limit is the text 'nine', but it must be a whole number or one of none. Write `limit: none`."
    ]


def test_all_mistakes_are_reported_each_with_its_line() -> None:
    found = explained("inner:\n  width: 1\n  size: 1\ncolor: blue\nneeded:\n  width: 0\n")
    assert [text.split(" ", 3)[2] for text in found] == ["3:", "4:", "6:"]


def test_a_missing_key_has_the_line_of_its_section() -> None:
    assert explained("name: x\ninner:\n  size: 3\n")[0].startswith("f.yaml, line 2: the section inner has no `width`")


def test_values_are_shown_so_that_text_and_numbers_differ() -> None:
    assert (show("1"), show(1), show(True), show(None), show({})) == (
        "the text '1'", "1", "true", "empty (null)", "an empty section"
    )  # fmt: skip
    assert show("x" * 100) == f"the text '{'x' * 57}...'"


def test_a_line_is_written_as_in_the_file() -> None:
    assert (line("a", 1e-6), line("a", "on"), line("a", True)) == ("`a: 1e-06`", "`a: 'on'`", "`a: true`")


def test_the_real_schema_explains_its_own_model_validators(tmp_path: Path) -> None:
    from sailrl.config.load import load_config
    from sailrl.errors import ConfigError

    path = tmp_path / "f.yaml"
    path.write_text(
        "kind: rlvr\nmodel: {path: a/b}\ndata: {train: {path: x.jsonl}}\n"
        "rewards:\n  parts:\n    a: {use: 'm:A', weight: 0.5}\n    b: {use: 'm:B', weight: 0.4}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == (
        f"{path}, line 4: rewards: the weights of the parts sum to 0.9, the rule is 1; "
        "scale them, or mark a part that is added on top with penalty: true."
    )
