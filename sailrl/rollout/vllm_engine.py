"""vLLM as an ``Engine``."""

from __future__ import annotations

import asyncio
import itertools
import os
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sailrl.errors import RolloutError
from sailrl.families.vllm_plugin import advice
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.rollout.vllm_core import open_here
from sailrl.types import BANNED_LOGIT_BIAS, Completion, FinishReason


class VllmEngine:
    """One vLLM ``AsyncLLM``.

    Args:
        model: folder or hub name of the policy.
        max_tokens: longest prompt plus response.
        options: further keyword arguments of vLLM's ``AsyncEngineArgs``.
        kv_cache_gib: size of the KV cache on CPU, a whole number.
        worker_extension: dotted name of the class mixed into vLLM's workers (weight loading and reseeding).
        load_image: content hash to image.
        crowding: arguments of vLLM's image processor for a prompt with so many images.
        threads: CPU threads that it computes with. On a CPU vLLM runs in this process, which can have no other engine
            at the same time. With tensor parallelism, or ``distributed_executor_backend`` among the options, it starts
            its own processes, as on GPUs.
        sleeps: whether it shares its GPU and ``sleep`` will be called. Works on GPUs only; elsewhere it stays awake.
    """

    def __init__(
        self,
        model: str,
        *,
        max_tokens: int,
        options: dict[str, Any],
        kv_cache_gib: float,
        worker_extension: str,
        load_image: Callable[[str], Any],
        crowding: Callable[[int], dict[str, Any]],
        threads: int = 1,
        sleeps: bool = False,
    ) -> None:
        self._model, self._max_tokens, self._options = model, max_tokens, options
        self._kv_cache_gib, self._worker_extension = kv_cache_gib, worker_extension
        self._load_image, self._crowding = load_image, crowding
        self._threads, self._sleeps = threads, sleeps
        self._numbers = itertools.count()
        self._images = asyncio.Lock()
        """Held while images enter vLLM's two caches, or both are cleared: else one has images that the other lacks."""
        self._version = 0

    async def start(self) -> None:
        """Loads the model; see Engine.start.

        Raises:
            RolloutError: vLLM cannot start.
        """
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(int(self._kv_cache_gib))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM

            if current_platform.is_cpu() and self._options.get("enforce_eager"):
                # Even then vLLM compiles its sampler: that takes seconds at the first batch, and needs a C++ compiler.
                os.environ["TORCHDYNAMO_DISABLE"] = "1"
            several = self._options.get("tensor_parallel_size", 1) > 1
            in_process = current_platform.is_cpu() and not several and _BACKEND not in self._options
            if in_process:
                self._set_in_process_options()
            elif current_platform.is_cpu():
                # vLLM would bind each process to a NUMA node of its own, and refuse machines with too few.
                os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
            self._sleeps = self._sleeps and current_platform.is_sleep_mode_available()
            arguments = AsyncEngineArgs(
                model=self._model,
                max_model_len=self._max_tokens,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",  # sampling follows our configuration; the model's file adds stop ids only
                worker_extension_cls=self._worker_extension,
                enable_log_requests=False,
                disable_log_stats=True,
                enable_sleep_mode=self._sleeps,
                **self._options,
            )
            if in_process:
                self._llm = open_here(arguments, threads=self._threads)
            else:
                self._llm = AsyncLLM.from_engine_args(arguments)
                await self._llm.collective_rpc("sail_end_with", kwargs={"process": os.getpid()})
            self._tokenizer: Any = self._llm.get_tokenizer()
            await self._llm.update_weight_version(str(self._version))
        except Exception as error:  # vLLM's own errors may not pickle: keep their text only
            text = f"{type(error).__name__}: {error}"
            raise RolloutError(f"vLLM cannot start with {self._model}: {text}{advice(text)}") from None
        _check_dtype(str(self._options.get("dtype", "auto")), str(self._llm.model_config.dtype))

    def _set_in_process_options(self) -> None:
        # A group shares whole blocks of its prompt only: so the smallest size that vLLM's kernels take, not 128.
        self._options["block_size"] = 32
        # Model and scheduler in one process. In two, the default, they wait for each other in busy loops, on cores that
        # other processes need.
        self._options[_BACKEND] = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
        self._options["async_scheduling"] = False  # it needs a second thread to overlap with

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        """Yields completions as prompts finish; see Engine.generate."""
        if seed is not None:
            # Queue the whole wave while the scheduler is paused, so that every run forms the same batches.
            await self.freeze()
            await self._llm.collective_rpc("sail_reseed", kwargs={"seed": seed})
        params = self._sampling_params(sampling)
        queues = [(r, await self._submit(r, params)) for r in requests]
        if seed is not None:
            await self._llm.resume_generation()
        tasks = [asyncio.ensure_future(self._finish(request, queue)) for request, queue in queues]
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
        _check_alignment(request, len(output.prompt_token_ids))
        rows = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
        return [row[token].logprob for token, row in rows]

    async def load_weights(self, folder: str, version: int) -> None:
        """Requests in flight are paused, not dropped, while the weights change; see Engine.load_weights."""
        await self.freeze()
        try:
            await self._llm.collective_rpc("sail_load_weights", kwargs={"folder": folder})
        except BaseException:
            await self._llm.resume_generation()
            raise
        await self.thaw(version)

    async def freeze(self) -> None:
        """Stops computing, keeps requests and drops all caches, the KV cache of requests in flight included."""
        # AsyncLLM.pause_generation without its sleep of 20 ms, which lets results arrive before it returns.
        async with self._images:
            await self._llm.renderer.clear_mm_cache_async()
            await self._llm.engine_core.pause_scheduler_async(mode="keep", clear_cache=True)

    async def transfer(self, step: str, payload: Any) -> None:
        """One step of an update through vLLM's weight transfer engine.

        Args:
            step: name of the method: init_weight_transfer_engine, start_weight_update, update_weights or
                finish_weight_update.
            payload: of the first and the third of them; see ``sync.transfer.EngineClient``.

        Raises:
            RolloutError: there is no such step.
        """
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest

        match step:
            case "init_weight_transfer_engine":
                await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=payload))
            case "start_weight_update":
                await self._llm.start_weight_update()
            case "update_weights":
                await self._llm.update_weights(WeightTransferUpdateRequest(update_info=payload))
            case "finish_weight_update":
                await self._llm.finish_weight_update()
            case _:
                raise RolloutError(f"{step} is not a step of a weight transfer")

    async def thaw(self, version: int) -> None:
        """See DirectEngine.thaw."""
        await self._llm.reset_encoder_cache()
        async with self._images:
            await self._llm.reset_mm_cache()
        await self._llm.update_weight_version(str(version))
        self._version = version
        await self._llm.resume_generation()

    async def sleep(self) -> bool:
        """Moves weights to host memory and drops the cache; see Engine.sleep.

        vLLM's level 2 would drop the weights, too. They are needed when the learner refuses an update: the diagnosis
        then compares log-probabilities with the weights published last.
        """
        if self._sleeps:
            await self._llm.sleep(level=1)
        return self._sleeps

    async def wake(self, stage: Stage) -> None:
        """See Engine.wake; the scheduler continues after the last stage."""
        if self._sleeps:
            await self._llm.wake_up([stage])

    def alive(self) -> bool:
        """Whether vLLM's process, or thread, is running."""
        return not self._llm.errored

    async def stop(self) -> None:
        """Ends vLLM's processes, or its thread."""
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
            stop_token_ids=list(sampling.stop_ids),
            logprobs=0,  # the sampled token's only
            flat_logprobs=True,
            detokenize=False,  # decoded once in _finish, not token by token
            output_kind=RequestOutputKind.FINAL_ONLY,
            logit_bias=dict.fromkeys(sampling.banned_ids, BANNED_LOGIT_BIAS) or None,
        )

    async def _submit(self, request: Request, params: Any) -> Any:
        name, prompt = f"sail-{next(self._numbers)}", dict[str, Any](prompt_token_ids=list(request.token_ids))
        if not request.images:
            return await self._llm.add_request(name, prompt, params)
        prompt["multi_modal_data"] = {"image": [self._load_image(digest) for digest in request.images]}
        prompt["multi_modal_uuids"] = {"image": list(request.images)}  # each image is processed once
        if crowding := self._crowding(len(request.images)):
            prompt["mm_processor_kwargs"] = crowding
        async with self._images:
            return await self._llm.add_request(name, prompt, params)

    async def _finish(self, request: Request, queue: Any) -> tuple[int, list[Completion]]:
        output = await self._last(queue)
        _check_alignment(request, len(output.prompt_token_ids))
        parts = sorted(output.outputs, key=lambda part: part.index)
        texts = self._tokenizer.batch_decode([p.token_ids for p in parts], skip_special_tokens=True)
        return request.index, [self._completion(part, text) for part, text in zip(parts, texts, strict=True)]

    def _completion(self, part: Any, text: str) -> Completion:
        spans = [(span.start, int(span.version)) for span in part.weight_versions or ()] or [(0, self._version)]
        return Completion(
            # Arrays, not lists: they are pickled as one block of bytes.
            token_ids=array("i", part.token_ids),
            logprobs=array("f", part.logprobs.logprobs),
            text=text,
            finish_reason=_FINISH.get(part.finish_reason, "abort"),
            version=spans[0][1],
            switches=tuple(spans[1:]),
            experts=_by_layer(part.routed_experts),
        )

    @staticmethod
    async def _last(queue: Any) -> Any:
        while True:
            output = queue.get_nowait() or await queue.get()
            if output.finished:
                return output


def _by_layer(experts: Any) -> Any:
    """[layers, tokens, K] from vLLM's [tokens, layers, K]; None where it returned none."""
    return None if experts is None else experts.swapaxes(0, 1).copy()


def _check_dtype(asked: str, used: str) -> None:
    """vLLM may fall back on another precision where the machine lacks one; the learner would not follow it."""
    used = used.removeprefix("torch.")
    if asked not in ("auto", used):
        raise RolloutError(
            f"vLLM computes in {used} on this machine, and model.dtype is {asked}. Write model.dtype: {used}."
        )


def _check_alignment(request: Request, seen: int) -> None:
    expected = len(request.token_ids) if request.expanded is None else request.expanded
    if seen != expected:
        raise RolloutError(
            f"the engine computed a prompt of {seen} tokens, the learner would train on {expected} "
            f"({len(request.images)} images). Pixel limits or processors differ: run `sailrl check --data`."
        )


_BACKEND = "distributed_executor_backend"
_FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}
