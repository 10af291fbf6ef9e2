"""The commands as functions: ``sailrl.run``, ``sailrl.filter``, ``sailrl.eval`` and ``sailrl.score``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sailrl.commands.result import RunResult
from sailrl.commands.run import filter_settings, ready
from sailrl.commands.scored import rows_of, score_rows, scoring_spec
from sailrl.config.load import Source
from sailrl.scoring.scorer import Scorer


def run(config: Source, overrides: Sequence[str] = (), *, allow_changes: bool = False) -> RunResult:
    """Runs the job that a configuration describes, as `sailrl run` does. A run folder with a checkpoint is resumed.

    Args:
        config: a YAML file, a mapping with the same keys, or what `load_config` returned. Without a file, `run.dir`
            must name the run folder.
        overrides: `section.key=value`, over the configuration.
        allow_changes: resume although data, rewards or the like differ from what the run began with.

    Raises:
        SailError: with a message for the user; nothing that was saved is lost.
        Fault: an error that nothing expected; its traceback is in the run folder.
    """
    return ready(config, overrides, allow_changes=allow_changes).run()


def filter(config: Source, overrides: Sequence[str] = (), *, scored: str | Path | None = None) -> RunResult:
    """Keeps the problems that the model can learn from, as `sailrl filter` does; `outputs["kept"]` is their file.

    Args:
        config: of `kind: filter`; see `run`.
        overrides: `section.key=value`, over the configuration.
        scored: scored responses to decide on, instead of sampling.

    Raises:
        SailError: with a message for the user.
    """
    return ready(config, overrides, verb="filter", settings=filter_settings(scored)).run()


def eval(config: Source, overrides: Sequence[str] = ()) -> RunResult:
    """Tries models side by side on held-out problems, as `sailrl eval` does; `evals` has a row for each.

    Args:
        config: of `kind: eval`; see `run`.
        overrides: `section.key=value`, over the configuration.

    Raises:
        SailError: with a message for the user.
    """
    return ready(config, overrides, verb="eval").run()


def score(
    rows: str | Path | Iterable[Mapping[str, Any]],
    rewards: Mapping[str, float] | None = None,
    *,
    config: Source | None = None,
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Scores responses as `sailrl score` and training do: the same rows in their order, with `reward` and `scores`.

    Args:
        rows: `response` and the problem's fields; or a file of such rows. Pictures are paths relative to the file, or
            to the working folder.
        rewards: names and weights, `{"boxed": 0.9, "my_reward.py:MyReward": 0.1}`. Default: boxed 0.9 and
            think_format 0.1.
        config: a configuration with a section `rewards`, instead.
        workers: processes; default 2, or the configuration's.

    Raises:
        SailError: the file cannot be read, or a reward cannot be loaded.
    """
    spec, _ = scoring_spec(rewards, config)
    with Scorer(spec, workers=workers) as scorer:
        return [row for _, row, _ in score_rows(*rows_of(rows), scorer)]
