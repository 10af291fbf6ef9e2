"""``docs/python.md``: the public Python interface, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import sailrl
from data_filters.decontaminate import Decontaminate
from data_filters.dedup import ExactDuplicates, NearDuplicates
from data_filters.fusion import Fusion
from data_filters.images import ImageDuplicates
from data_filters.length import BalanceLengths, LengthBounds
from data_filters.mcq import McqToFree
from data_filters.mcq_rewrite import RewriteMcq
from data_filters.pass_at_k import PassAtK, PassAtKByTask, pass_at_k
from data_filters.pipeline import Pipeline
from data_filters.redundancy import Redundant
from data_filters.rejection import Rejection
from data_filters.tags import NormaliseTags
from docs.generate.docstrings import body, field_table, signature
from docs.generate.markdown import one_line
from rewards.boxed import BoxedAnswer
from rewards.think_format import ThinkFormat
from sailrl import errors, types
from sailrl.algos.advantages import decoupled_advantages, group_advantages
from sailrl.algos.cispo import cispo_loss
from sailrl.algos.dapo import dapo_loss
from sailrl.algos.dr_grpo import dr_grpo_loss
from sailrl.algos.grpo import grpo_loss
from sailrl.algos.gspo import gspo_loss, gspo_token_loss
from sailrl.algos.logprobs import token_logprobs
from sailrl.algos.regularise import kl_loss
from sailrl.algos.sapo import sapo_loss
from sailrl.algos.vespo import vespo_loss
from sailrl.config.load import load_config
from sailrl.scoring.contract import check_reward

INTRODUCTION = """\
# Python interface

What can be imported without Ray and vLLM. `rewards`, `data_filters`, `sailrl.types`, `sailrl.errors`, `sailrl.config`
and `sailrl.scoring` need `pip install -e .` only; `sailrl.algos` also needs torch (`pip install -e '.[train]'`). This
page is generated from the docstrings. Names that are not on it may change.

The commands are functions. They take a YAML file, a mapping with its keys, or what `load_config` returned:

```text
import sailrl

result = sailrl.run({"kind": "rlvr", "run": {"dir": "runs/mine"}, ...})
result.metrics[-1]["reward/mean"], result.best
```

```python
import sailrl
from rewards.boxed import BoxedAnswer
from sailrl.types import Problem

rows = sailrl.score([{"response": "<think>2 + 2 is 4.</think> \\\\boxed{4}", "answer": "4"}])
# [{'response': ..., 'answer': '4', 'reward': 1.0, 'scores': {'boxed': {'value': 1.0, ...}, 'think_format': ...}}]

BoxedAnswer()("<think>2 + 2 is 4.</think> \\\\boxed{4}", Problem(answer="4"))
# Score(value=1.0, status='scored', reason='exact')
```
"""
GROUPS: dict[str, tuple[Any, ...]] = {
    "Commands": (sailrl.run, sailrl.score, sailrl.filter, sailrl.eval, sailrl.RunResult),
    "Records": (types.Problem, types.Score, types.Verdict),
    "Interfaces of plug-ins": (types.Reward, types.Combine, types.Filter),
    "Rewards": (BoxedAnswer, ThinkFormat, check_reward),
    "Data filters": (
        pass_at_k,
        PassAtK,
        PassAtKByTask,
        McqToFree,
        RewriteMcq,
        ExactDuplicates,
        NearDuplicates,
        ImageDuplicates,
        Decontaminate,
        NormaliseTags,
        Redundant,
        LengthBounds,
        BalanceLengths,
        Rejection,
        Fusion,
        Pipeline,
    ),
    "Losses": (
        dapo_loss,
        gspo_loss,
        gspo_token_loss,
        grpo_loss,
        dr_grpo_loss,
        cispo_loss,
        sapo_loss,
        vespo_loss,
        kl_loss,
    ),
    "Advantages and log-probabilities": (group_advantages, decoupled_advantages, token_logprobs),
    "Configuration": (load_config,),
}


def python_page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for title, objects in GROUPS.items():
        parts += [f"## {title}\n", *map(_object, objects)]
    parts += ["## Errors\n", "All are in `sailrl.errors`.\n", *_errors()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _object(of: Any) -> str:
    module = "sailrl" if of in GROUPS["Commands"] else of.__module__
    text = [f"### {of.__name__}\n", f"`from {module} import {of.__name__}`\n"]
    if of in (*GROUPS["Records"], sailrl.RunResult):
        return "\n".join([*text, body(of.__doc__), field_table(of)])
    if of not in GROUPS["Interfaces of plug-ins"]:
        text.append(_code(signature(of, of.__name__)))
    text.append(body(of.__doc__))
    if inspect.isclass(of):
        init, call = vars(of).get("__init__"), vars(of).get("__call__")
        text += [body(init.__doc__)] if init and not hasattr(of, "__dataclass_fields__") else []
        text += [_code(signature(call, "__call__")), body(call.__doc__)] if call else []
    return "\n".join(text)


def _code(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _errors() -> list[str]:
    classes = [c for c in vars(errors).values() if inspect.isclass(c)]
    return [
        f"- `{c.__name__}`, a kind of `{c.__mro__[1].__name__}`: {_first_paragraph(c.__doc__)}" for c in classes
    ] + [""]


def _first_paragraph(text: str | None) -> str:
    return one_line(body(text).partition("\n\n")[0])
