"""How long a run takes, from counted work and assumed speeds. An estimate to choose machines by, not a measurement.

Learning is bound by arithmetic: 6 operations per parameter and token for the forward and the backward pass (8 where
activations are recomputed), 2 for the old policy's log-probabilities, and the attention of a token to those before it.
Generation is bound by memory: every step of an engine reads its weights and the cache of all its sequences once.
"""

from __future__ import annotations

from dataclasses import dataclass

from sailrl.config.schema import RlvrConfig
from sailrl.plan import memory as m
from sailrl.plan.batch import batch_plan
from sailrl.plan.memory import ModelShape

PROMPT_TOKENS = 1024
RESPONSE_SHARE = 0.5
SAMPLED_PER_KEPT = 1.5
"""Assumed of the data: tokens of a prompt, a response's share of its limit, and groups sampled for one that is kept
where dynamic sampling is on."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one GPU, or all cores of a machine, are assumed to do."""

    name: str
    operations: float
    """Peak operations per second in the model's precision."""
    bandwidth: float
    """Peak bytes per second from memory."""
    compute_share: float
    """Of ``operations``: model FLOPs utilisation in learning and prefill."""
    memory_share: float
    """Of ``bandwidth``, in decoding."""

    @classmethod
    def of(cls, config: RlvrConfig, cores: int | None = None) -> Speed:
        """An A100's; with ``cores`` that of a machine without a GPU."""
        if cores is not None:
            return cls(f"{cores} CPU cores", 60e9 * cores, 20e9, 0.5, 0.5)
        operations = 19.5e12 if config.model.dtype == "float32" else 312e12
        return cls("each GPU an A100", operations, 2.0e12, 0.4, 0.6)


@dataclass(frozen=True, slots=True)
class TimePlan:
    """Seconds of an episode, and what they rest on."""

    generate_s: float
    learn_s: float
    together: bool
    """Whether generation goes on while the learner learns."""
    episodes: int
    prompt_tokens: int
    response_tokens: int
    sampled_per_kept: float
    tokens_per_s: float
    """Of one engine."""
    speed: Speed

    @property
    def episode_s(self) -> float:
        """Of an episode."""
        return max(self.generate_s, self.learn_s) if self.together else self.generate_s + self.learn_s


def time_plan(config: RlvrConfig, shape: ModelShape, speed: Speed, *, kv_tokens: int, machines: int = 0) -> TimePlan:
    """The estimate.

    Args:
        speed: of one GPU; of all cores where ``machines`` is 1.
        kv_tokens: that the cache of one engine holds.
        machines: 1 on a machine without a GPU, whose cores all ranks and engines share.
    """
    plan, rollout = batch_plan(config), config.rollout
    prompt = min(config.data.max_prompt_tokens, PROMPT_TOKENS)
    response = max(1, int(RESPONSE_SHARE * rollout.max_response_tokens))
    context = prompt + response // 2
    weights = matrix_parameters(shape)
    attention = 4 * shape.layers * shape.heads * shape.head_dim * context
    forward = 2 * weights + attention
    learned = plan.rollouts_per_episode * response + plan.prompts_per_episode * prompt
    backward = 3 if config.learner.activation_checkpointing else 2
    passes = plan.passes_per_episode * (1 + backward) + (plan.updates_per_episode > 1)
    ranks = machines or config.learner.ranks
    compute = speed.operations * speed.compute_share
    sampled = SAMPLED_PER_KEPT if rollout.dynamic_sampling.enabled else 1.0
    width = machines or rollout.workers * rollout.engine.tensor_parallel
    share = -(-int(sampled * plan.rollouts_per_episode) // rollout.workers)
    together = max(1, min(share, rollout.engine.max_concurrent, kv_tokens // (prompt + response)))
    c = m.BYTES[config.model.dtype]
    read = c * shape.parameters + together * context * m.cache_per_token(shape, config) * rollout.engine.tensor_parallel
    per_engine = width / rollout.workers
    step_s = max(read / (speed.bandwidth * speed.memory_share), together * forward / compute) / per_engine
    decode_s = share * response / together * step_s
    prefill_s = sampled * plan.prompts_per_episode * prompt * forward / (width * compute)
    return TimePlan(
        generate_s=decode_s + prefill_s,
        learn_s=learned * passes * forward / (ranks * compute),
        together=rollout.max_staleness > 0 and not machines,
        episodes=plan.episodes,
        prompt_tokens=prompt,
        response_tokens=response,
        sampled_per_kept=sampled,
        tokens_per_s=together / step_s,
        speed=speed,
    )


def matrix_parameters(shape: ModelShape) -> int:
    """Parameters that one token is multiplied with: of its own experts only, and of the output layer."""
    each = 3 * shape.hidden * shape.inner // max(1, shape.experts_per_token)
    idle = shape.layers * (shape.experts - shape.experts_per_token) * each
    return shape.decoder - idle + shape.vocabulary * shape.hidden
