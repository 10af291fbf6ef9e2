"""vLLM's engine core in the process that asks it, instead of in one of its own.

On a CPU the two processes would share the cores, and spend part of them on telling each other about every token
through sockets. vLLM 0.32 can do without for its synchronous front only; this is the same for ``AsyncLLM``.
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
"""Longest wait for the thread to end."""


def open_here(arguments: Any, *, threads: int) -> Any:
    """An ``AsyncLLM`` of these ``AsyncEngineArgs`` without a process of its own. One at a time: much of vLLM is global.

    Args:
        threads: with which it computes.
    """
    from vllm.v1.core.sched import output
    from vllm.v1.engine import async_llm

    scheduled: Any = output
    # vLLM spares its processes the pixels of images that lie in shared blocks of a prompt. When weights change these
    # blocks are dropped, and on a CPU a request that goes on then has nothing to compute them from.
    scheduled.strip_covered_mm_data = lambda features, *_, **__: features
    module: Any = async_llm
    # AsyncLLM has its connection made by this class, and takes no other.
    factory = module.EngineCoreClient
    module.EngineCoreClient = SimpleNamespace(make_async_mp_client=partial(InProcessCore, threads=threads))
    try:
        return module.AsyncLLM.from_engine_args(arguments)
    finally:
        module.EngineCoreClient = factory


class InProcessCore:
    """What an ``AsyncLLM`` takes for its connection to the core: ``X_async`` of the connection is ``X`` of the core.

    As in vLLM's own process one thread does all that the core does: step after step, and between steps what it is
    called for, in the order of the calls. What fails in a step, or in taking a request, is the end of it.
    """

    def __init__(self, vllm_config: Any, executor_class: Any, log_stats: bool, *, threads: int, **_: Any) -> None:
        self.resources = SimpleNamespace(engine_dead=False)
        self._loop = asyncio.get_running_loop()
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()
        self._calls: queue.SimpleQueue[Callable[[Any], None]] = queue.SimpleQueue()
        self._stopped = False
        ready: Future[None] = Future()
        # A configuration of its own, as a process would have: reloading weights changes it, and the front, which looks
        # up image processors in it, must not see that.
        mine = copy.deepcopy(vllm_config)
        self._thread = threading.Thread(
            target=self._live, args=(mine, executor_class, log_stats, threads, ready), daemon=True
        )
        self._thread.start()
        ready.result()

    async def get_output_async(self) -> Any:
        """What the next step has made."""
        output = await self._outputs.get()
        if isinstance(output, BaseException):
            raise output
        return output

    async def add_request_async(self, request: Any) -> None:
        """Does not wait for the step that is under way."""
        self._calls.put(lambda core: core.add_request(*core.preprocess_add_request(request)))

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_async"):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return partial(self._call, name.removesuffix("_async"))

    def shutdown(self, timeout: float | None = None) -> None:
        """Ends the thread and what the core holds; a second call does nothing."""
        self._stopped = self.resources.engine_dead = True
        self._calls.put(lambda core: None)
        self._thread.join(STOP_S if timeout is None else timeout)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.resources.engine_dead:
            raise RolloutError(f"vLLM has stopped and cannot be asked for {method}")
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

    def _live(self, vllm_config: Any, executor_class: Any, log_stats: bool, threads: int, ready: Future[None]) -> None:
        set_threads: Any = torch.set_num_threads
        try:
            from vllm.v1.engine.core import EngineCore

            set_threads(threads)  # for this thread and those it will start; OpenMP counts by thread
            core = EngineCore(vllm_config, executor_class, log_stats)
            torch.set_num_threads = set_threads  # which vLLM has taken from the whole process
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while not self._stopped:
                if core.scheduler.has_requests() and self._calls.empty():  # none that could go on while paused
                    outputs, executed = core.step_fn()
                    core.post_step(executed)
                    for output in (outputs or {}).values():
                        self._tell(output)
                else:
                    self._calls.get()(core)
        except BaseException as error:
            self.resources.engine_dead = True
            self._tell(error)
        finally:
            core.shutdown()

    def _tell(self, output: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._outputs.put_nowait, output)
