"""vLLM's worker without our repair of packed copies and its caches: for tests that show what they are for."""

from __future__ import annotations

from typing import Any

from sailrl.sync.vllm_worker import WorkerExtension


class CarelessExtension(WorkerExtension):
    """Can also load weights and leave packed copies as they are."""

    def careless_load_weights(self, folder: str, left_out: str) -> None:
        """Loads weights and repairs all packed copies but those of ``left_out``, ``head`` or ``experts``."""
        from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
        from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

        self.model_runner.reload_weights(weights_path=folder)
        for module in self.model_runner.model.modules():
            method = getattr(module, "quant_method", None)
            if isinstance(method, UnquantizedEmbeddingMethod) and left_out != "head":
                dispatch_cpu_unquantized_gemm(module, remove_weight=False)
            if isinstance(method, UnquantizedFusedMoEMethod) and left_out != "experts":
                kernel: Any = method.moe_kernel
                kernel.fused_experts.process_weights_after_loading(module)

    def load_weights_and_keep_images(self, folder: str) -> None:
        """Loads weights and leaves the features that the old vision tower has made where they are."""
        features = dict(self.model_runner.encoder_cache)
        self.sail_load_weights(folder)
        self.model_runner.encoder_cache.update(features)
