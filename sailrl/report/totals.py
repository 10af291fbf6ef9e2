"""How the scores of a benchmark's rows become one number, and how sure that number is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sailrl.config.benchmarks import Benchmark, Total


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """The score of one response to a row of a benchmark."""

    row: Mapping[str, Any]
    """The row's other columns."""
    value: float
    """From 0 to 1."""


def total(benchmark: Benchmark, scored: Sequence[ScoredResponse]) -> tuple[float | None, float | None]:
    """The benchmark's number, from 0 to 1, and its standard error; None where there is too little to tell."""
    if benchmark.total == "mean":
        return _mean([one.value for one in scored])
    if benchmark.total == "all_of_group":
        return _mean(_all_right((_group(benchmark, one.row), one.value) for one in scored))
    return _jackknife(*_JOINED[benchmark.total], scored)


def _mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard error, sqrt(sum (x - mean)^2 / (n - 1) / n)."""
    if not values:
        return None, None
    mean, n = sum(values) / len(values), len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else None


def _jackknife(count: _Count, key: _Key, scored: Sequence[ScoredResponse]) -> tuple[float | None, float | None]:
    """A number over rows that belong together in groups, and sqrt((m - 1) / m * sum (t_i - mean t)^2) with t_i the
    number without group i of m (Efron, The Jackknife, 1982, section 3)."""
    groups: dict[Hashable, list[ScoredResponse]] = defaultdict(list)
    for one in scored:
        groups[key(one.row)].append(one)
    without = [count([one for name, rows in groups.items() if name != left_out for one in rows]) for left_out in groups]
    known = [value for value in without if value is not None]
    if len(known) < 2:
        return count(scored), None
    centre, m = sum(known) / len(known), len(known)
    return count(scored), math.sqrt((m - 1) / m * sum((value - centre) ** 2 for value in known))


def _group(benchmark: Benchmark, row: Mapping[str, Any]) -> Hashable:
    column, _, size = (benchmark.group or "").partition(" % ")
    value = row.get(column)
    return int(str(value)) % int(size) if size and str(value).isdigit() else str(value)


def _hallusion(scored: Sequence[ScoredResponse]) -> float | None:
    """The mean of the accuracy over answers, over figures and over questions that are asked of several figures (aAcc,
    fAcc and qAcc; HallusionBench, arXiv 2310.14566, section 4)."""
    keys = [_hallusion_keys(one.row) for one in scored]
    values = [one.value for one in scored]
    figures = _all_right(((of, figure), value) for (of, figure, _), value in zip(keys, values, strict=True))
    questions = _all_right(((of, asked), value) for (of, _, asked), value in zip(keys, values, strict=True))
    means = [_mean(part)[0] for part in (values, figures, questions)]
    return sum(mean or 0.0 for mean in means) / 3 if values else None


def _hallusion_keys(row: Mapping[str, Any]) -> tuple[Hashable, str, str]:
    """Category and set, figure, question: the last three parts of the row's ``index`` are the last three."""
    *_, of, figure, asked = ["", "", "", *str(row.get("index", "")).split("_")]
    return (str(row.get("l2-category", "")), of), figure, asked


def _wemath(scored: Sequence[ScoredResponse]) -> float | None:
    """We-Math's strict score (arXiv 2407.01284, section 3): 1 for a problem that is right with all its steps, a half
    where only the problem itself is wrong, else 0."""
    steps: dict[Hashable, list[float]] = defaultdict(list)
    whole: dict[Hashable, float] = {}
    for one in scored:
        if str(one.row.get("key", "")).endswith("_multi"):
            whole[_wemath_key(one.row)] = one.value
        else:
            steps[_wemath_key(one.row)].append(one.value)
    points = [
        (1.0 if value == 1.0 else 0.5) * all(step == 1.0 for step in steps[name]) for name, value in whole.items()
    ]
    return sum(points) / len(points) if points else None


def _wemath_key(row: Mapping[str, Any]) -> Hashable:
    return str(row.get("key", "")).partition("_")[0], str(row.get("ID", ""))


def _all_right(values: Iterable[tuple[Hashable, float]]) -> list[float]:
    """For each group, 1 where every value is 1, else 0."""
    groups: dict[Hashable, bool] = {}
    for group, value in values:
        groups[group] = groups.get(group, True) and value == 1.0
    return [float(right) for right in groups.values()]


_Count: TypeAlias = Callable[[Sequence[ScoredResponse]], float | None]
_Key: TypeAlias = Callable[[Mapping[str, Any]], Hashable]
_JOINED: dict[Total, tuple[_Count, _Key]] = {
    "hallusion": (_hallusion, lambda row: _hallusion_keys(row)[0]),
    "wemath": (_wemath, _wemath_key),
}
