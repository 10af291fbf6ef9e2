"""``docs/benchmarks.md``: each public benchmark from its record."""

from __future__ import annotations

from docs.generate.markdown import code, table
from sailrl.config.benchmarks import AVERAGES, BENCHMARKS, TABLE_10, Benchmark

INTRODUCTION = f"""\
# Benchmarks

`sailrl eval` tries models on public benchmarks by name, alone or beside problems of your own:

```yaml
kind: eval
models:
  mine: {{path: runs/rlvr_8b/checkpoints/episode-000273/model}}
  base: {{path: Qwen/Qwen3-VL-8B-Thinking}}
benchmarks: [mathvista_mini, mathvision, mathverse, dynamath, wemath, logicvista]
benchmarks_folder: ~/LMUData       # VLMEvalKit's files: pictures in base64, options in columns
rollout: {{max_response_tokens: 16384}}
```

A file that is not there is named with the command that downloads it. Every response is kept in `responses.jsonl`, every
number in `evals.jsonl` with its standard error; run again, the same command tries what is missing. The table at the end
has a column with what SAIL-VL2 8B has published ({TABLE_10}), where it has, and a row with the mean
of all six of OpenCompass's reasoning benchmarks.

The final answer is the last `\\boxed{{}}` behind the thinking; without one it is the text behind `Answer:` in the last
line, or a response of one line. Most of these benchmarks ask a language model to find it, so figures of other tools
differ. What else is ours and not the benchmark's is said below. Columns and prompts follow VLMEvalKit's code and were
tested on small tables of the same form; the published files themselves were not at hand.
"""
_TOTALS = {
    "mean": "mean of the rows",
    "all_of_group": "share of groups with every row right",
    "hallusion": "mean of aAcc, fAcc and qAcc",
    "wemath": "strict score",
}


def benchmarks_page() -> str:
    """The page."""
    head = ("name", "file", "compared", "total", "published", "ours")
    means = [
        f"- mean of {title}: {figure}% published, over {', '.join(map(code, parts))}"
        for title, (parts, figure) in AVERAGES.items()
    ]
    return "\n".join([INTRODUCTION, table(head, map(_row, BENCHMARKS)), *means, ""])


def _row(name: str) -> tuple[str, ...]:
    one = BENCHMARKS[name]
    published = "" if one.published is None else f"{one.published}"
    return code(name), " or ".join(map(code, one.files)), _compared(one), _total(one), published, one.ours


def _compared(one: Benchmark) -> str:
    rule = {"same": "by meaning", "contains": "looked for in the answer"}.get(one.rule, one.rule)
    places = "" if one.precision is None else f", to {one.precision} decimals"
    return rule + places + (", one of several is enough" if one.alternatives else "")


def _total(one: Benchmark) -> str:
    group = f" (`{one.group}`)" if one.group else ""
    only = f", rows with `{one.only[0]}` = `{one.only[1]}`" if one.only else ""
    return _TOTALS[one.total] + group + only
