"""``docs/metrics.md``: the table that the metrics log itself is made from."""

from __future__ import annotations

from docs.generate.markdown import code, one_line, table
from sailrl.report.metric_table import EVAL_METRICS, SFT_METRICS, UPDATE_METRICS, Metric

INTRODUCTION = """\
# Metrics

A run appends one JSON object per line to `metrics.jsonl` in its folder, and writes the same numbers as TensorBoard
events. `sailrl report RUN_DIR` draws them. This page is generated from `sailrl/report/metric_table.py`.

- Keys in **bold** are on every line of their kind, and their names do not change.
- `<name>` stands for any text without a slash.
- `null` is a number that was not measured. Where it is null because it was not finite, the line also has
  `nonfinite: {"<key>": "nan" | "inf" | "-inf"}`.
- "Healthy" is the usual range or course. It is a reason to look, not a limit, unless it says that the run stops.
- `k_t` is the probability that the learner gives to a sampled token, divided by the engine's.
"""


def metrics_page() -> str:
    """The page."""
    parts = [
        INTRODUCTION,
        "## One line per update (`kind: rlvr`)\n",
        _table(UPDATE_METRICS),
        "## One line per evaluation on held-out problems (`kind: rlvr`)\n",
        "There is one line before the first update and one after the last; `eval.every_episodes` sets those between.\n",
        _table(EVAL_METRICS),
        "## One line per step of a supervised stage (`kind: sft`)\n",
        _table(SFT_METRICS),
    ]
    return "\n".join(parts)


def _table(metrics: tuple[Metric, ...]) -> str:
    head = ("key", "meaning", "unit", "healthy", "only with")
    rows = (
        (
            f"**{code(metric.key)}**" if metric.fixed else code(metric.key),
            one_line(metric.meaning),
            metric.unit,
            metric.healthy,
            metric.when,
        )
        for metric in metrics
    )
    return table(head, rows)
