"""``docs/rewards.md``: each reward from its docstrings and its signature, with the reasons it gives."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from docs.generate.docstrings import arguments, body, field_table, fields
from docs.generate.markdown import code, one_line, table
from docs.generate.reasons import REASONS, Reasons
from rewards.answer import RuleOrJudge
from rewards.benchmark import BenchmarkAnswer
from rewards.boxed import BoxedAnswer
from rewards.judge import Judge
from rewards.judge_api.settings import JudgeSettings
from rewards.judging import Judging
from rewards.mix import Cascade, Weighted
from rewards.overlong import SoftOverlong
from rewards.repetition import Repetition
from rewards.think_format import ThinkFormat
from rewards.thinking import Thinking

INTRODUCTION = """\
# Rewards

A reward scores one response. The configuration names it, gives it a weight, and passes arguments; this page is
generated from the rewards' own docstrings.

```yaml
rewards:
  parts:
    boxed: {use: "rewards.boxed:BoxedAnswer", weight: 0.9, args: {deadline_s: 2.0}}
    think_format: {use: "rewards.think_format:ThinkFormat", weight: 0.1}
```

Each score has a value, a **status** and a **reason**:

| status | meaning | value |
| --- | --- | --- |
| `scored` | The reward decided. | a number |
| `unscorable` | The row is at fault: no rule can use it. | none |
| `failed` | Our side is at fault: a judge that cannot be reached, a worker that died. | none |
| `timed_out` | The deadline passed. | none |

A response without a value leaves its group and is counted. It is never a 0. The run stops when more than
`rewards.max_unscored_rate` of an episode's responses have no reward. The reason is one of a few fixed words: metrics
count them, and `sailrl score FILE --explain ROW` shows how one was reached.
"""
PARTS: dict[str, type] = {
    "boxed": BoxedAnswer,
    "think_format": ThinkFormat,
    "overlong": SoftOverlong,
    "repetition": Repetition,
    "judge": Judge,
    "thinking": Thinking,
    "judging": Judging,
    "answer": RuleOrJudge,
    "benchmark": BenchmarkAnswer,
}
COMBINES: dict[str, type] = {"weighted": Weighted, "cascade": Cascade}
JUDGES = """\
## Settings of a judge

`judge`, `thinking`, `judging` and `answer` ask a model over an OpenAI-compatible API. They take these arguments. The
API key is not among them: `api_key_env` names the environment variable that holds it.
"""
OWN = """\
## Your own reward

A reward is a function `(response, problem)`, named as `my_reward.py:short_enough`, or a class with such a `__call__`,
whose `__init__` takes the `args`. It returns a `Score`, which has a reason, or a plain number, or None where the
response cannot be scored. A plain one runs in worker processes that are killed and replaced at the deadline; an `async`
one runs on an event loop. These extras are found by their names:

- a keyword-only parameter `response_tokens` gets the length of the response in tokens;
- a method `fast(response, problem)` answers cheap rows in the caller's process, or returns None;
- a method `dry_run(problem)` does the work that scoring any response to the problem takes, so that a response which is
  too slow or too large scores 0 and a problem which is, is `unscorable`;
- a method `warm_up()` does slow imports, in the worker, before its first response;
- `tasks`, the names in a row's `task` that it knows: a row with nearly one of them is told to the user;
- a method `explain(response, problem)` returns lines for `--explain`;
- a method `metrics()` returns numbers for the metrics, and `aclose()` ends what an async reward has open.

[check_reward](python.md#check_reward) runs a reward on ordinary and on hostile responses and lists the rules that it
breaks, each once, with the first row that broke it.
"""


def rewards_page() -> str:
    """The page."""
    parts = [INTRODUCTION, "## Any reward\n", _reasons(REASONS["any reward"])]
    parts += [_reward(name, cls, "##") for name, cls in PARTS.items()]
    parts += [JUDGES, field_table(JudgeSettings), "They also share these reasons.\n", _reasons(REASONS["judges"])]
    parts += ["## How scores become one reward\n", "`rewards.combine` names one of these, or your own.\n"]
    parts += [_reward(name, cls, "###") for name, cls in COMBINES.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*parts, OWN]))


def _reward(name: str, cls: type, level: str) -> str:
    of = sys.modules[cls.__module__]
    alone = [c for c in (*PARTS.values(), *COMBINES.values()) if c.__module__ == cls.__module__] == [cls]
    text = [f"{level} {code(name)}\n", f'`use: "{cls.__module__}:{cls.__name__}"`\n']
    text += [body(of.__doc__)] if alone else []
    text.append(body(cls.__doc__).partition("**Args:**")[0])
    if rows := _arguments(cls):
        text.append(table(("argument", "default", "effect"), rows))
    return "\n".join([*text, _reasons(REASONS[name])])


def _arguments(cls: Any) -> list[tuple[str, str, str]]:
    """The keyword arguments of a reward. Those that all judges share are in a table of their own."""
    meanings = arguments(cls.__doc__) | arguments(cls.__init__.__doc__)
    parameters = inspect.signature(cls).parameters.values()
    asks = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    shared = fields(JudgeSettings) if asks else {}
    rows = []
    for parameter in parameters:
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and parameter.name not in shared:
            default = "*required*" if parameter.default is parameter.empty else code(repr(parameter.default))
            rows.append((code(parameter.name), default, meanings[parameter.name]))
    return [*rows, ("...", "", "The [settings of a judge](#settings-of-a-judge).")] if asks else rows


def _reasons(reasons: Reasons) -> str:
    if not reasons:
        return "Its reasons are those of `boxed`, `judge` and all judges.\n"
    rows = ((code(word), gives, one_line(meaning)) for word, (gives, meaning) in reasons.items())
    return table(("reason", "gives", "when"), rows)
