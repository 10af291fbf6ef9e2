"""Methods that vLLM mixes into its worker processes: load published weights, make sampling repeatable."""

from __future__ import annotations

from typing import Any

import torch


class WorkerExtension:
    """Named in the engine's arguments; ``self`` is vLLM's worker. Called through ``collective_rpc``."""

    model_runner: Any

    def sail_reseed(self, seed: int) -> None:
        """Sets the generator that sampling draws from. (A seed per request kills vLLM 0.32 on CPU.)"""
        torch.manual_seed(seed)

    def sail_load_weights(self, folder: str) -> None:
        """Replaces the model's weights with those in ``folder`` (safetensors, the names transformers saves)."""
        self.model_runner.reload_weights(weights_path=folder)
        if next(self.model_runner.model.parameters()).device.type == "cpu":
            _rebuild_packed_copies(self.model_runner.model)


def _rebuild_packed_copies(model: torch.nn.Module) -> None:
    """On CPU vLLM keeps re-laid-out copies of some weights that ``reload_weights`` of 0.32 leaves stale, silently:
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
