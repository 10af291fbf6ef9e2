"""The generated pages under docs/ are what the code says now."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from docs.generate.config_page import UNITS, config_page, unit
from docs.generate.pages import DOCS, pages
from sailrl.config.kinds import KINDS
from sailrl.config.messages import all_keys
from sailrl.config.yaml_text import parse

CONFIGS = sorted((DOCS.parent / "configs").glob("*.yaml"))
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8") if (DOCS / name).is_file() else None
    assert written == PAGES[name], f"docs/{name} is out of date: run `python -m docs.generate`"


def test_no_schema_stands_there_for_a_kind_that_is_gone() -> None:
    assert {path.stem for path in (DOCS / "schema").iterdir()} == set(KINDS)


def test_the_reference_names_every_key_of_every_kind() -> None:
    page = PAGES["config.md"]
    for kind, model in KINDS.items():
        for keys in all_keys(model):
            if kind != "recipe" or keys[0] != "stages":
                assert f"| `{keys[-1]}` |" in page, f"{kind}: {'.'.join(map(str, keys))}"


def test_a_row_gives_value_default_unit_effect_and_kinds() -> None:
    row = next(line for line in PAGES["config.md"].splitlines() if line.startswith("| `max_response_tokens` |"))
    _, _key, value, default, tokens, effect, kinds, _ = row.split("|")
    assert (value.strip(), default.strip(), tokens.strip()) == ("whole number ≥ 1", "`4096`", "tokens")
    assert effect.strip() == "Longest response."
    assert kinds.strip() == "rlvr, filter, eval"


def test_a_key_that_only_some_members_of_a_choice_have_says_which() -> None:
    rows = [line for line in PAGES["config.md"].splitlines() if line.startswith("| `schedule_episodes` |")]
    assert [row.split("|")[-2].strip() for row in rows] == [
        "rlvr: `dapo`, `gspo`, `gspo_token`, `grpo`, `dr_grpo` with `schedule`"
    ]


def test_a_description_that_changes_would_be_seen() -> None:
    schemas = {kind: json.loads(PAGES[f"schema/{kind}.json"]) for kind in KINDS}
    assert config_page(schemas) == PAGES["config.md"]
    schemas["rlvr"]["properties"]["placement"]["description"] = "Something else."
    assert config_page(schemas) != PAGES["config.md"]


def test_every_unit_belongs_to_a_key_that_exists() -> None:
    names = {str(keys[-1]) for model in KINDS.values() for keys in all_keys(model)}
    assert not [
        end for end in UNITS if not any(name == end or (end[0] == "_" and name.endswith(end)) for name in names)
    ]
    assert unit("max_tokens_per_microbatch", {"type": "integer"}) == "tokens"
    assert unit("keep", {"type": "array"}) == ""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_configuration_names_its_schema_and_fits_it(path: Path) -> None:
    text = path.read_text()
    data, _ = parse(text, path.name)
    first = text.partition("\n")[0]
    assert first == f"# yaml-language-server: $schema=../docs/schema/{data['kind']}.json"
    schema = json.loads((path.parent / first.partition("$schema=")[2]).read_text())
    jsonschema.Draft202012Validator(schema).validate(data)


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    data, _ = parse((DOCS.parent / "configs" / "rlvr_8b.yaml").read_text(), "rlvr_8b.yaml")
    schema = jsonschema.Draft202012Validator(json.loads(PAGES["schema/rlvr.json"]))
    assert schema.is_valid(data)
    assert not schema.is_valid(data | {"placment": "split"})
    assert not schema.is_valid(data | {"batch": data["batch"] | {"group_size": 1}})
