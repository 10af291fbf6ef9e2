"""Values in a model's config.json that transformers refuses are one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sailrl.errors import ConfigError
from sailrl.families import family_at


@pytest.mark.parametrize(
    ("values", "said"),
    [({"hidden_size": "64"}, "expected int, got str"), ({"num_hidden_layers": 3}, r"`num_hidden_layers` \(3\)")],
)
def test_a_wrong_value_is_named_with_the_model(tiny_folder: Path, tmp_path: Path, values: Any, said: str) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    family = family_at(tmp_path)
    with pytest.raises(ConfigError, match=f"transformers cannot use config.json of the model {tmp_path}: .*{said}"):
        family.config(tmp_path)
    assert family.config(tiny_folder).hidden_size == config["hidden_size"]
