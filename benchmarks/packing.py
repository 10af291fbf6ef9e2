"""Packed rows beside padded batches: tokens per second of forward and backward, on CPU in float32 with one thread.

    python benchmarks/packing.py                        # 64 samples, 37,000 tokens: three minutes
    python benchmarks/packing.py --samples 12 --max 1024 --repeat 1     # seconds

Samples: a prompt of 40 tokens and a response of log-normal length, median 300, sigma 1.1, cut at 4,096 (the longest of
64 reaches it): the middles of 64 equally likely slices, in random order. The model is a random Qwen3 of 4 million
parameters. All sides have the same weights, the same token budget per micro-batch, the same
head (log-probabilities of response tokens only) and the same DAPO loss; they differ in how samples become tensors:

- packed: this project's way (sailrl.data.pack, sailrl.learner.attention).
- padded: samples in the order they arrive, as many as fit the budget when padded to the longest of them, through
  transformers' own model with an attention mask. It is kinder than the usual: TRL pads to the longest sample of the
  whole generation batch, verl (without remove_padding) to the configured maximum.
- sorted: the same after sorting by length, so that little is padded: nobody's default, but the best padding can do.
- dense: packed, but through transformers' own block-diagonal mask over the whole row (positions that start again).

Time is processor seconds of one thread, sides in turn, each one's best round: on a shared machine wall time measures
the neighbours too. Tokens are those of the samples; padding counts for nothing.

Goals: packed at least 2.0 times padded; loss and gradient within 1e-5 of the samples one by one. The last line is the
ratio packed over padded. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from sailrl.algos.dapo import dapo_loss
from sailrl.algos.logprobs import token_logprobs
from sailrl.data.batch import Batch, Sample, collate
from sailrl.data.pack import micro_batches
from sailrl.learner.model import Policy

RATIO_GOAL, ERROR_GOAL = 2.0, 1e-5
PROMPT_TOKENS, MEDIAN, SIGMA, VOCABULARY = 40, 300, 1.1, 4096
Logp = Callable[[Sequence[Sample]], torch.Tensor]


def draw(count: int, longest: int) -> list[Sample]:
    """Samples in order of arrival, half of them better than the other half."""
    random = np.random.default_rng(0)
    slices = [NormalDist(np.log(MEDIAN), SIGMA).inv_cdf((i + 0.5) / count) for i in range(count)]
    lengths = np.clip(np.exp(random.permutation(slices)), 8, longest).astype(int)

    def ids(n: int) -> np.ndarray:
        return random.integers(0, VOCABULARY, n).astype(np.int32)

    return [
        Sample(ids(PROMPT_TOKENS), ids(n), np.full(n, -np.log(VOCABULARY), np.float32), 1.0 if i % 2 else -0.6)
        for i, n in enumerate(lengths)
    ]


def padded_batches(samples: Sequence[Sample], order: Sequence[int], budget: int) -> list[list[int]]:
    """Rows in this order, each micro-batch as long as it stays within the budget once padded."""
    batches: list[list[int]] = []
    for row in order:
        last = [*batches[-1], row] if batches else []
        if last and len(last) * max(samples[i].length for i in last) <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def padded_logp(model: Any, samples: Sequence[Sample]) -> torch.Tensor:
    """[B, R] as TRL and verl compute it: one row per sample, filled up on the right, and a mask."""
    batch = collate(samples)
    rows = torch.nn.utils.rnn.pad_sequence(batch.input_ids[batch.places].split(batch.lengths), batch_first=True)
    mask = (torch.arange(rows.shape[1]) < torch.tensor(batch.lengths)[:, None]).long()
    hidden = model.base_model(input_ids=rows, attention_mask=mask).last_hidden_state
    row, offset = batch.mask.nonzero(as_tuple=True)
    return _filled(batch, model, hidden[row, batch.prompt_lengths[row] + offset - 1])


def dense_logp(model: Any, samples: Sequence[Sample]) -> torch.Tensor:
    """[B, R] from one row; transformers sees where positions start again and builds a block-diagonal mask."""
    batch = collate(samples)
    hidden = model.base_model(input_ids=batch.input_ids[None], position_ids=batch.positions()[None])
    return _filled(batch, model, hidden.last_hidden_state[0, batch.predictors])


def _filled(batch: Batch, model: Any, hidden: torch.Tensor) -> torch.Tensor:
    logp, _ = token_logprobs(hidden, model.get_output_embeddings().weight, batch.targets)
    return torch.zeros(batch.mask.shape).masked_scatter(batch.mask, logp)


def step(model: torch.nn.Module, logp: Logp, samples: Sequence[Sample], split: list[list[int]]) -> tuple[float, float]:
    """``(loss, processor seconds)`` of forward and backward over all micro-batches; gradients are left in the model."""
    model.zero_grad()
    tokens = sum(len(s.response_ids) for s in samples)
    start, total = time.process_time(), 0.0
    for rows in split:
        part = [samples[i] for i in rows]
        batch = collate(part)
        parts = (batch.engine_logp, batch.advantage, batch.mask)
        loss, _ = dapo_loss(logp(part), *parts, clip_low=0.2, clip_high=0.28, denominator=tokens)
        loss.backward()
        total += loss.item()
    return total, time.process_time() - start


def gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--max", type=int, default=4096, help="longest response")
    parser.add_argument("--budget", type=int, default=16384, help="tokens per micro-batch")
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
    )
    with tempfile.TemporaryDirectory() as folder:
        Qwen3ForCausalLM(config).save_pretrained(folder)
        policy = Policy(folder)
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()

    samples = draw(options.samples, options.max)
    lengths = [s.length for s in samples]
    arrival, by_length = range(len(samples)), sorted(range(len(samples)), key=lambda i: -lengths[i])
    tight = micro_batches(samples, options.budget)
    sides: dict[str, tuple[torch.nn.Module, Logp, list[list[int]]]] = {
        "packed": (policy.model, lambda part: policy(collate(part))[0], tight),
        "padded": (plain, lambda part: padded_logp(plain, part), padded_batches(samples, arrival, options.budget)),
        "sorted": (plain, lambda part: padded_logp(plain, part), padded_batches(samples, by_length, options.budget)),
        "dense": (plain, lambda part: dense_logp(plain, part), tight),
    }

    alone, _ = step(plain, lambda part: padded_logp(plain, part), samples, [[i] for i in arrival])
    expected = gradient(plain)
    packed, _ = step(*sides["packed"][:2], samples, tight)
    loss_error = abs(packed - alone)
    gradient_error = float((gradient(policy.model) - expected).abs().max())

    best = dict.fromkeys(sides, float("inf"))
    for _ in range(options.repeat):
        for name, (model, logp, split) in sides.items():
            best[name] = min(best[name], step(model, logp, samples, split)[1])

    print(
        f"{len(samples)} samples, {sum(lengths):,} tokens, longest {max(lengths):,}, median {int(np.median(lengths))}"
    )
    for name, (_, _, split) in sides.items():
        filled = [sum(lengths[i] for i in rows) for rows in split]
        if name in ("padded", "sorted"):
            filled = [len(rows) * max(lengths[i] for i in rows) for rows in split]
        print(
            f"{name:7} {len(split):3} micro-batches, {sum(filled):8,} tokens computed, {best[name]:6.1f} s, "
            f"{sum(lengths) / best[name]:6,.0f} tokens/s"
        )
    print(f"error of packed against one by one: loss {loss_error:.1e}, gradient {gradient_error:.1e}")
    print(
        f"packed over sorted: {best['sorted'] / best['packed']:.2f}x, over dense: {best['dense'] / best['packed']:.2f}x"
    )
    ratio = best["padded"] / best["packed"]
    print(f"tokens/s, packed over padded: {ratio:.2f}x (goal {RATIO_GOAL}x)")
    return 0 if ratio >= RATIO_GOAL and max(loss_error, gradient_error) <= ERROR_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
