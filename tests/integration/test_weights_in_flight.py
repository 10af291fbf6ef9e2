"""Weights that change while a real vLLM engine is sampling: every token is of the weights that its span names."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion
from tests.contract.engine_suite import EXACT, Bench, altered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_every_token_has_the_logprob_of_the_weights_that_its_span_names(vllm_bench: Bench, tmp_path: Path) -> None:
    """What was sampled before a publish is read again by the new weights: nothing of the old ones' cache is left."""
    engine, folders = vllm_bench.engine, [vllm_bench.folder, altered(vllm_bench.folder, tmp_path / "other")]
    end = AutoTokenizer.from_pretrained(vllm_bench.folder).eos_token_id
    sampling = Sampling(samples=4, temperature=1.0, max_tokens=100, banned_ids=[end])
    requests = [Request(number, list(range(20, 26 + number)), (), 6 + number) for number in range(4)]

    async def publish_while_sampling() -> dict[int, list[Completion]]:
        async def sample() -> dict[int, list[Completion]]:
            return {index: done async for index, done in engine.generate(requests, sampling, seed=None)}

        sampled, version = asyncio.ensure_future(sample()), 0
        while not sampled.done():
            await asyncio.sleep(0.15)
            version += 1
            await engine.load_weights(str(folders[version % 2]), version)
        return await sampled

    try:
        vllm_bench.call(engine.load_weights(str(folders[0]), 0))
        sampled = vllm_bench.call(publish_while_sampling())
    finally:
        vllm_bench.call(engine.load_weights(str(vllm_bench.folder), 0))

    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for folder in folders]
    assert any(c.switches for completions in sampled.values() for c in completions)
    for request in requests:
        for completion in sampled[request.index]:
            ids = list(completion.token_ids)
            assert len(ids) == 100
            table = []
            for model in models:
                with torch.no_grad():
                    logits = model(torch.tensor([[*request.token_ids, *ids]])).logits[
                        0, len(request.token_ids) - 1 : -1
                    ]
                logits[:, end] = -torch.inf
                table.append(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0])
            assert float((table[0] - table[1]).abs().max()) > 0.1  # the two would be told apart
            starts = [(0, completion.version), *completion.switches, (len(ids), -1)]
            assert [start for start, _ in starts] == sorted({start for start, _ in starts})
            for (start, version), (stop, _) in pairwise(starts):
                theirs = torch.tensor(list(completion.logprobs[start:stop]))
                assert float((table[version % 2][start:stop] - theirs).abs().max()) < EXACT, (start, stop, version)
