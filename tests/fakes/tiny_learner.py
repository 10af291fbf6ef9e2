"""A learner around the tiny model, and samples for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sailrl.config.learner import LearnerConfig
from sailrl.config.losses import Algorithm, Dapo, MismatchConfig
from sailrl.config.schema import LoraConfig
from sailrl.data.batch import Sample
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.types import Problem, Prompt


def make_learner(
    folder: str | Path,
    algorithm: Algorithm | None = None,
    mismatch: MismatchConfig | None = None,
    *,
    temperature: float = 1.0,
    adapter: LoraConfig | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    **config: Any,
) -> Learner:
    """A learner on the model in ``folder``; ``config`` are fields of the learner section."""
    policy = Policy(
        str(folder), dtype=dtype, temperature=temperature, adapter=adapter, trust_remote_code=trust_remote_code
    )
    section = LearnerConfig(**({"learning_rate": 1e-2, "max_tokens_per_microbatch": 1000} | config))
    return Learner(
        policy, Objective(algorithm or Dapo(), mismatch or MismatchConfig(), max_response_tokens=12), section
    )


def in_float64(policy: Policy) -> Policy:
    """Makes a policy compute in float64 throughout, so that only the order of additions is left to differ.
    transformers' norms go through float32 in any case."""

    def exact(norm: Any, x: torch.Tensor) -> torch.Tensor:
        return norm.weight * x * (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()

    for module in policy.double().modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(exact, module)
    return policy


def make_samples(count: int, *, seed: int = 0, vocabulary: int = 250, group: int = 2) -> list[Sample]:
    """Random prompts of 3 to 9 tokens with ``group`` responses of 1 to 12 to each, every second one the better one."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> np.ndarray:
        return np.array([draw.randrange(vocabulary) for _ in range(draw.randint(low, high))], dtype=np.int32)

    samples, prompt = [], ids(0, 0)
    for number in range(count):
        prompt = prompt if number % group else ids(3, 9)
        response = ids(1, 12)
        logp = np.array([draw.gauss(-5.7, 0.3) for _ in response], dtype=np.float32)  # log(1/300) is -5.7
        samples.append(Sample(prompt, response, logp, advantage=1.0 if number % 2 else -0.6))
    return samples


def make_prompt(ids: Sequence[int], problem: Problem | None = None) -> Prompt:
    """A prompt of these ids."""
    return Prompt(problem=problem or Problem(prompt="?"), token_ids=list(ids), engine_ids=list(ids))


def make_scope(samples: Sequence[Sample], *, low: float = 0.2, high: float = 0.28) -> UpdateScope:
    """The scope of an update on all of ``samples``."""
    return UpdateScope(
        tokens=sum(len(s.response_ids) for s in samples), sequences=len(samples), clip_low=low, clip_high=high
    )


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    """A copy of all weights by name."""
    return {name: value.detach().clone() for name, value in learner.policy.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two copies are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
