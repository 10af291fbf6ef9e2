"""What every engine must do. A test class for a new engine inherits ``EngineContract`` and gives a ``bench``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sailrl.rollout.engine import Engine, Request, Sampling, Stage
from sailrl.types import BANNED_LOGIT_BIAS, Completion

T = TypeVar("T")
EXACT = 1e-4
"""Nats; float32 on both sides agrees to about 1e-6."""


@dataclass
class Bench:
    """An engine that was started with the weights in ``folder``, and the event loop it lives on."""

    engine: Engine
    folder: Path
    loop: asyncio.Runner

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(coroutine)

    def wave(
        self, requests: list[Request], sampling: Sampling, seed: int | None = 1
    ) -> list[tuple[int, list[Completion]]]:
        """One wave, in the order in which prompts finished."""

        async def collect() -> list[tuple[int, list[Completion]]]:
            return [item async for item in self.engine.generate(requests, sampling, seed=seed)]

        return self.call(collect())

    def prompt_logprobs(self, ids: list[int]) -> list[float]:
        return self.call(self.engine.prompt_logprobs(_request(0, ids)))


def altered(folder: Path, out: Path, *, part: str = "", scale: float = 0.05, seed: int = 0) -> Path:
    """Writes a copy of a model in which all parameters with ``part`` in their name have moved."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out


def _request(index: int, ids: list[int]) -> Request:
    return Request(index, ids, (), len(ids))


def _requests(count: int) -> list[Request]:
    """Prompts of different lengths; indices are the caller's own and need not start at 0."""
    return [_request(10 * number + 3, list(range(20, 25 + number))) for number in range(count)]


def _model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _worst(folder: Path, request: Request, completion: Completion, sampling: Sampling) -> float:
    """The largest difference between the engine's log-probabilities and those of transformers, in nats."""
    ids = [*request.token_ids, *completion.token_ids]
    with torch.no_grad():
        logits = _model(folder)(torch.tensor([ids])).logits[0, len(request.token_ids) - 1 : -1]
    logits[:, list(sampling.banned_ids)] += BANNED_LOGIT_BIAS
    logp = (logits / sampling.temperature).log_softmax(-1)
    mine = logp.gather(1, torch.tensor(list(completion.token_ids))[:, None])[:, 0]
    return float((mine - torch.tensor(list(completion.logprobs))).abs().max())


class EngineContract:
    """The suite."""

    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError

    def test_every_request_comes_back_once_with_all_its_samples(self, bench: Bench) -> None:
        requests = _requests(7)
        finished = bench.wave(requests, Sampling(samples=3, temperature=1.0, max_tokens=5))
        assert Counter(index for index, _ in finished) == Counter(request.index for request in requests)
        assert all(len(completions) == 3 for _, completions in finished)

    @pytest.mark.parametrize("seed", [None, 1])
    def test_every_token_has_a_logprob_and_the_end_of_turn_is_a_token(self, bench: Bench, seed: int | None) -> None:
        tokenizer = AutoTokenizer.from_pretrained(bench.folder)
        end = tokenizer.eos_token_id
        # All but ten ids are banned, so that one token in ten ends the turn.
        banned = [i for i in range(len(tokenizer)) if i not in (end, *range(40, 49))]
        sampling = Sampling(samples=8, temperature=1.0, max_tokens=6, banned_ids=banned)
        completions = [c for _, cs in bench.wave(_requests(4), sampling, seed) for c in cs]
        assert {c.finish_reason for c in completions} == {"stop", "length"}
        for completion in completions:
            ids = list(completion.token_ids)
            assert len(completion.logprobs) == len(ids)
            assert (end in ids) == (completion.finish_reason == "stop")
            assert end not in ids[:-1]
            assert len(ids) == 6 or ids[-1] == end
            assert completion.text == tokenizer.decode(ids, skip_special_tokens=True)

    def test_a_further_id_ends_a_response_as_the_models_own_end_does(self, bench: Bench) -> None:
        tokenizer = AutoTokenizer.from_pretrained(bench.folder)
        ends = {tokenizer.eos_token_id, 45}
        banned = [i for i in range(len(tokenizer)) if i not in (*ends, *range(40, 49))]
        sampling = Sampling(samples=8, temperature=1.0, max_tokens=20, banned_ids=banned, stop_ids=[45])
        completions = [c for _, cs in bench.wave(_requests(4), sampling) for c in cs]
        assert {c.token_ids[-1] for c in completions if c.finish_reason == "stop"} == ends
        assert all(not ends & set(c.token_ids[:-1]) for c in completions)

    def test_banned_ids_are_never_sampled(self, bench: Bench) -> None:
        banned = list(range(0, 277, 2))
        sampling = Sampling(samples=8, temperature=1.0, max_tokens=12, banned_ids=banned)
        ids = {i for _, completions in bench.wave(_requests(4), sampling) for c in completions for i in c.token_ids}
        assert not ids & set(banned)
        assert len(ids) > 30

    def test_a_seeded_wave_is_repeatable_bit_for_bit(self, bench: Bench) -> None:
        sampling = Sampling(samples=4, temperature=1.0, max_tokens=8)

        def sampled(seed: int) -> list[Any]:
            wave = sorted(bench.wave(_requests(6), sampling, seed), key=lambda item: item[0])
            return [(i, [(list(c.token_ids), list(c.logprobs), c.text) for c in cs]) for i, cs in wave]

        first = sampled(1)
        bench.wave(_requests(2), sampling, 5)  # whatever happens in between
        bench.prompt_logprobs([20, 21, 22, 23, 24])
        assert sampled(1) == first
        assert sampled(2) != first

    @pytest.mark.parametrize("temperature", [1.0, 0.7])
    def test_logprobs_are_those_of_the_model_after_temperature_and_bans(self, bench: Bench, temperature: float) -> None:
        requests = _requests(3)
        sampling = Sampling(samples=2, temperature=temperature, max_tokens=8, banned_ids=(30, 31, 32))
        by_index = {request.index: request for request in requests}
        for index, completions in bench.wave(requests, sampling):
            for completion in completions:
                assert _worst(bench.folder, by_index[index], completion, sampling) < EXACT

    def test_temperature_zero_takes_the_likeliest_token(self, bench: Bench) -> None:
        request = _requests(1)[0]
        ((_, (completion,)),) = bench.wave([request], Sampling(samples=1, temperature=0.0, max_tokens=4))
        ids, model = list(request.token_ids), _model(bench.folder)
        for token in completion.token_ids:
            with torch.no_grad():
                assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)

    def test_prompt_logprobs_are_those_of_the_model(self, bench: Bench) -> None:
        ids = [20, 21, 40, 41, 100, 101, 7]
        with torch.no_grad():
            logp = _model(bench.folder)(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = [float(logp[place, token]) for place, token in enumerate(ids[1:])]
        assert bench.prompt_logprobs(ids) == pytest.approx(expected, abs=EXACT)

    def test_an_engine_wakes_up_with_the_weights_it_fell_asleep_with(self, bench: Bench) -> None:
        """Also one that says that it cannot sleep, and stays awake."""
        ids = [20, 21, 22, 23, 24, 25]
        before = bench.prompt_logprobs(ids)
        assert bench.call(bench.engine.sleep()) in (True, False)
        for stage in get_args(Stage):
            bench.call(bench.engine.wake(stage))
        assert bench.prompt_logprobs(ids) == pytest.approx(before, abs=EXACT)

    def test_loaded_weights_are_computed_with_and_stamped_on_completions(self, bench: Bench, tmp_path: Path) -> None:
        ids = [20, 21, 22, 23, 24, 25]
        new = altered(bench.folder, tmp_path / "new")
        sampling = Sampling(samples=1, temperature=1.0, max_tokens=8)
        before = bench.prompt_logprobs(ids)
        try:
            bench.call(bench.engine.load_weights(str(new), 7))
            after = bench.prompt_logprobs(ids)
            assert max(abs(a - b) for a, b in zip(after, before, strict=True)) > 0.1
            request = _requests(1)[0]
            ((_, (completion,)),) = bench.wave([request], sampling)
            assert completion.version == 7
            assert _worst(new, request, completion, sampling) < EXACT
        finally:
            bench.call(bench.engine.load_weights(str(bench.folder), 0))
        assert bench.prompt_logprobs(ids) == pytest.approx(before, abs=EXACT)
