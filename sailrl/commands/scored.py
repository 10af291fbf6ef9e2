"""Rows with their scores, for ``sailrl score`` and ``sailrl.score`` alike, and what scores them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from sailrl.config.load import Source, name_of, read_mapping
from sailrl.config.messages import explain
from sailrl.config.rewards import RewardsConfig
from sailrl.config.yaml_text import Where
from sailrl.data.rows import BadRow, Row, read_rows
from sailrl.errors import ConfigError
from sailrl.scoring.requests import out_row, request_from_row
from sailrl.scoring.scorer import Scored, Scorer, ScoreRequest
from sailrl.scoring.spec import PartSpec, ScoringSpec, needs_no_arguments, resolve
from sailrl.types import Score, scored_fields

DEFAULT_REWARDS = {"boxed": 0.9, "think_format": 0.1}
Numbered: TypeAlias = tuple[int, Row | BadRow]
"""A row with its line."""


def rows_of(source: str | Path | Iterable[Mapping[str, Any]]) -> tuple[Iterator[Numbered], str, Path]:
    """The rows of a file or of a program, the name of where they are, and the folder that their pictures are in.

    Raises:
        DataError: the file cannot be read.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return read_rows(path), path.name, path.parent.absolute()
    return enumerate(map(dict, source), start=1), "row", Path.cwd()


def requests(rows: Iterator[Numbered], name: str, folder: Path) -> Iterator[tuple[Numbered, ScoreRequest | Score]]:
    """What to score of each row, or the verdict on one that cannot be scored."""
    for line, row in rows:
        yield (line, row), request_from_row(row, where=f"{name}:{line}", folder=folder)


def score_rows(
    rows: Iterator[Numbered], name: str, folder: Path, scorer: Scorer
) -> Iterator[tuple[Numbered, Row, Scored]]:
    """Each row with its line, the row of the result, and all that scoring says of it, in order."""
    for (line, row), scored in scorer.score_stream(requests(rows, name, folder)):
        yield (line, row), out_row(row, scored_fields(scored.total.value, scored.scores)), scored


def scoring_spec(weights: Mapping[str, float] | None, config: Source | None) -> tuple[ScoringSpec, str]:
    """The rewards to score with, and the one that counts as accuracy.

    Raises:
        ConfigError: both say what to score with, or a reward cannot be loaded or needs arguments.
    """
    if config is not None:
        if weights:
            raise ConfigError("the config and the rewards that are named both say what to score with; use one of them.")
        return _from_config(config)
    parts: dict[str, PartSpec] = {}
    for name, weight in (weights or DEFAULT_REWARDS).items():
        if not math.isfinite(weight):
            raise ConfigError(f"the weight of the reward {name!r} is {weight}; it must be a finite number.")
        use = resolve(name)
        needs_no_arguments(use)
        key = name if ":" not in name else use.rpartition(":")[2]
        if key in parts:
            raise ConfigError(f"the reward {key!r} is named twice; every reward has a name of its own in the result.")
        parts[key] = PartSpec(use, {}, weight)
    return ScoringSpec(parts), next(iter(parts))


def _from_config(source: Source) -> tuple[ScoringSpec, str]:
    data, places = read_mapping(source)
    if "rewards" not in data:
        raise ConfigError(f"{name_of(source)} has no section `rewards`. Score with a training config, or name rewards.")
    inner = {keys[1:]: place for keys, place in places.items() if keys[:1] == ("rewards",)}
    try:
        config = RewardsConfig.model_validate(data["rewards"])
    except ValidationError as error:
        raise ConfigError("\n\n".join(explain(error, RewardsConfig, Where(name_of(source), inner)))) from None
    return ScoringSpec.from_config(config), config.accuracy_part
