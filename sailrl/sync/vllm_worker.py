"""Methods that are added to vLLM's workers: load weights, seed sampling, exit when the actor dies."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import Any

import torch
from vllm.utils.torch_utils import set_random_seed


class WorkerExtension:
    """vLLM mixes this class into its worker, so ``self`` is vLLM's worker. Called through ``collective_rpc``."""

    model_runner: Any
    reload_weights: Any

    def sail_reseed(self, seed: int) -> None:
        """Sets the generators that sampling draws from: torch's, and numpy's, from which vLLM's Model Runner V2 takes
        the seeds of requests. (A seed per request kills vLLM 0.32 on CPU.)"""
        set_random_seed(seed)

    def sail_end_with(self, process: int) -> None:
        """Ends this worker and vLLM's engine core as soon as ``process``, which started the core, is dead.

        vLLM 0.32 does this for workers with several GPUs only, and then not for the core.
        """
        core = os.getpid() if os.getppid() == process else os.getppid()
        handle = os.pidfd_open(process)

        def watch() -> None:
            select.select([handle], [], [])
            os.kill(core, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, name="ends with its actor", daemon=True).start()

    def sail_load_weights(self, folder: str) -> None:
        """Replaces the model's weights with those in ``folder`` (safetensors, the names transformers saves)."""
        self.reload_weights(weights_path=folder)
        if next(self.model_runner.model.parameters()).device.type == "cpu":
            _rebuild_packed_copies(self.model_runner.model)


def _rebuild_packed_copies(model: torch.nn.Module) -> None:
    """On CPU vLLM keeps copies of some weights in another layout, and ``reload_weights`` of 0.32 does not update them:
    the output layer's when embeddings are tied, and the experts' after the first load."""
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)
        elif isinstance(method, UnquantizedFusedMoEMethod):
            kernel: Any = method.moe_kernel
            kernel.fused_experts.process_weights_after_loading(module)
