"""``sailrl schema``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sailrl.cli import app
from sailrl.commands.schema import schema_text
from sailrl.config.kinds import KINDS
from sailrl.errors import ConfigError


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_of_a_kind_carries_the_docstrings(kind: str) -> None:
    done = CliRunner().invoke(app, ["schema", kind])
    schema = json.loads(done.stdout)
    assert schema["properties"]["kind"]["const"] == kind
    sections = [schema, *schema["$defs"].values()]
    fields = [(name, field) for section in sections for name, field in section["properties"].items()]
    # pydantic leaves the description out where it is that of the section which the field refers to
    assert not [name for name, field in fields if not {"description", "$ref"} & field.keys()]


def test_without_a_kind_one_schema_describes_them_all() -> None:
    schema = json.loads(schema_text(None))
    assert set(schema["discriminator"]["mapping"]) == set(KINDS)


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"kind is the text 'rlv', but the kinds of job are: rlvr, sft.*Did you mean `kind: rlvr`"
    ):
        schema_text("rlv")
