"""vLLM behind the Engine protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from sailrl.errors import RolloutError
from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion, FinishReason

BANNED_LOGIT_BIAS = -1.0e4  # far below any logit, and finite in float16: exp() of it is exactly 0 on both sides


class VllmEngine:
    """One vLLM ``AsyncLLM``.

    Args:
        model: folder or hub name of the policy.
        max_tokens: longest prompt plus response.
        options: further keyword arguments of vLLM's ``AsyncEngineArgs``.
        kv_cache_gib: size of the KV cache on CPU.
        worker_extension: dotted name of the class mixed into vLLM's workers (weight loading and reseeding).
    """

    def __init__(
        self,
        model: str,
        *,
        max_tokens: int,
        options: dict[str, Any],
        kv_cache_gib: float,
        worker_extension: str,
    ) -> None:
        self._model, self._max_tokens, self._options = model, max_tokens, options
        self._kv_cache_gib, self._worker_extension = kv_cache_gib, worker_extension
        self._numbers = itertools.count()
        self._version = 0

    async def start(self) -> None:
        """Loads the model; see Engine.start."""
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(self._kv_cache_gib)))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            self._llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(
                    model=self._model,
                    max_model_len=self._max_tokens,
                    logprobs_mode="processed_logprobs",
                    worker_extension_cls=self._worker_extension,
                    enable_log_requests=False,
                    disable_log_stats=True,
                    **self._options,
                )
            )
            self._tokenizer: Any = self._llm.get_tokenizer()
        except Exception as error:  # vLLM's own errors may not pickle, so their text goes into one of ours
            raise RolloutError(f"vLLM cannot start with {self._model}: {type(error).__name__}: {error}") from None

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        """Yields completions as prompts finish; see Engine.generate."""
        if seed is not None:
            # Queue the whole wave while the scheduler stands still: every run then forms the same batches.
            await self._llm.pause_generation(mode="keep", clear_cache=True)
            await self._llm.collective_rpc("sail_reseed", kwargs={"seed": seed})
        params = self._sampling_params(sampling)
        queues = [(r.index, await self._submit(r, params)) for r in requests]
        if seed is not None:
            await self._llm.resume_generation()
        tasks = [asyncio.ensure_future(self._finish(index, queue)) for index, queue in queues]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for task in tasks:
                task.cancel()

    async def prompt_logprobs(self, request: Request) -> list[float]:
        """Log-probabilities of the prompt itself; see Engine.prompt_logprobs."""
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        output = await self._last(await self._submit(request, params))
        rows = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
        return [row[token].logprob for token, row in rows]

    async def load_weights(self, folder: str, version: int) -> None:
        """In-flight requests are frozen, not dropped, while the weights change; see Engine.load_weights."""
        await self._llm.pause_generation(mode="keep", clear_cache=True)
        try:
            await self._llm.collective_rpc("sail_load_weights", kwargs={"folder": folder})
            await self._llm.reset_encoder_cache()
            await self._llm.reset_mm_cache()
        finally:
            await self._llm.resume_generation()
        self._version = version

    async def stop(self) -> None:
        """Ends vLLM's processes."""
        self._llm.shutdown()

    def _sampling_params(self, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=sampling.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or 0,
            max_tokens=sampling.max_tokens,
            logprobs=0,  # the sampled token's only
            flat_logprobs=True,
            detokenize=False,  # decoded here once, not token by token there
            output_kind=RequestOutputKind.FINAL_ONLY,
            logit_bias=dict.fromkeys(sampling.banned_ids, BANNED_LOGIT_BIAS) or None,
        )

    async def _submit(self, request: Request, params: Any) -> Any:
        prompt: Any = {"prompt_token_ids": list(request.token_ids)}
        return await self._llm.add_request(f"sail-{next(self._numbers)}", prompt, params)

    async def _finish(self, index: int, queue: Any) -> tuple[int, list[Completion]]:
        output = await self._last(queue)
        parts = sorted(output.outputs, key=lambda part: part.index)
        texts = self._tokenizer.batch_decode([p.token_ids for p in parts], skip_special_tokens=True)
        return index, [
            Completion(
                token_ids=np.asarray(part.token_ids, dtype=np.int32),
                logprobs=np.asarray(part.logprobs.logprobs, dtype=np.float32),
                text=text,
                finish_reason=_FINISH.get(part.finish_reason, "abort"),
                version=self._version,
            )
            for part, text in zip(parts, texts, strict=True)
        ]

    @staticmethod
    async def _last(queue: Any) -> Any:
        while True:
            output = queue.get_nowait() or await queue.get()
            if output.finished:
                return output


_FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}
