"""``sailrl schema``: the JSON Schema of a configuration, for editors and for other programs."""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from sailrl.config.kinds import KINDS, kind_class


def schema_text(kind: str | None) -> str:
    """The JSON Schema of ``kind``, or of all kinds in one schema for None; the descriptions are the fields' docstrings.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind is None:
        any_kind: Any = reduce(or_, KINDS.values())
        schema = TypeAdapter(Annotated[any_kind, Field(discriminator="kind")]).json_schema()
    else:
        schema = kind_class(kind).model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
