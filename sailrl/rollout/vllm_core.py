"""vLLM's engine core in the same process as its ``AsyncLLM``, instead of in a second one.

On a CPU the two processes would share the cores, and use part of them to send every token through sockets. vLLM 0.32
has an in-process core for its synchronous ``LLM`` only; this is the same for ``AsyncLLM``.
"""

from __future__ import annotations

import asyncio
import copy
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from sailrl.errors import RolloutError

STOP_S = 30.0
"""Seconds to wait for the thread to end."""


def open_here(arguments: Any, *, threads: int) -> Any:
    """An ``AsyncLLM`` with its core in this process. Only one at a time: much of vLLM's state is global.

    Args:
        arguments: vLLM's ``AsyncEngineArgs``.
        threads: CPU threads that the core computes with.
    """
    from vllm.v1.core.sched import output
    from vllm.v1.engine import async_llm

    scheduled: Any = output
    # vLLM does not send the pixels of images whose KV blocks are cached. When weights change these blocks are dropped,
    # and on a CPU a request in flight could then not compute them again.
    scheduled.strip_covered_mm_data = lambda features, *_, **__: features
    module: Any = async_llm
    # AsyncLLM makes its client through this class; there is no argument for it.
    factory = module.EngineCoreClient
    module.EngineCoreClient = SimpleNamespace(make_async_mp_client=partial(InProcessCore, threads=threads))
    try:
        return module.AsyncLLM.from_engine_args(arguments)
    finally:
        module.EngineCoreClient = factory


class InProcessCore:
    """Stands in for vLLM's client of the core: a call of ``X_async`` runs ``X`` of the core.

    As in vLLM's own process, one thread runs the core: it runs steps, and between two steps the calls in their order.
    An error in a step, or in adding a request, ends the core.
    """

    def __init__(self, vllm_config: Any, executor_class: Any, log_stats: bool, *, threads: int, **_: Any) -> None:
        self.resources = SimpleNamespace(engine_dead=False)
        self._loop = asyncio.get_running_loop()
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()
        self._calls: queue.SimpleQueue[Callable[[Any], None]] = queue.SimpleQueue()
        self._stopped = False
        ready: Future[None] = Future()
        # A copy, as a process would have: reloading weights changes it, and AsyncLLM, which caches image processors by
        # it, must not see the change.
        config = copy.deepcopy(vllm_config)
        self._thread = threading.Thread(
            target=self._main, args=(config, executor_class, log_stats, threads, ready), daemon=True
        )
        self._thread.start()
        ready.result()

    async def get_output_async(self) -> Any:
        """The outputs of the next step; raises the error that ended the core."""
        output = await self._outputs.get()
        if isinstance(output, BaseException):
            raise output
        return output

    async def add_request_async(self, request: Any) -> None:
        """Returns at once, without waiting for the running step."""
        self._calls.put(lambda core: core.add_request(*core.preprocess_add_request(request)))

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_async"):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return partial(self._call, name.removesuffix("_async"))

    def shutdown(self, timeout: float | None = None) -> None:
        """Ends the thread and frees the core; a second call does nothing."""
        self._stopped = self.resources.engine_dead = True
        self._calls.put(lambda core: None)
        self._thread.join(STOP_S if timeout is None else timeout)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.resources.engine_dead:
            raise RolloutError(f"vLLM has stopped, so {method} cannot be called")
        done: Future[Any] = Future()

        def call(core: Any) -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(getattr(core, method)(*args, **kwargs))
            except Exception as error:
                done.set_exception(error)

        self._calls.put(call)
        return await asyncio.wrap_future(done)

    def _main(self, vllm_config: Any, executor_class: Any, log_stats: bool, threads: int, ready: Future[None]) -> None:
        set_threads: Any = torch.set_num_threads
        try:
            from vllm.v1.engine.core import EngineCore

            set_threads(threads)  # for this thread and those it will start; OpenMP counts by thread
            core = EngineCore(vllm_config, executor_class, log_stats)
            torch.set_num_threads = set_threads  # vLLM has replaced it for the whole process
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while not self._stopped:
                if core.scheduler.has_requests() and self._calls.empty():  # False for requests that are paused
                    outputs, executed = core.step_fn()
                    core.post_step(executed)
                    for output in (outputs or {}).values():
                        self._put(output)
                else:
                    self._calls.get()(core)
        except BaseException as error:
            self.resources.engine_dead = True
            self._put(error)
        finally:
            core.shutdown()

    def _put(self, output: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._outputs.put_nowait, output)
