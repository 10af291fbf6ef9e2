"""How the engine is told to treat images: as the processor does, on which everything else relies."""

from __future__ import annotations

from typing import Any

from sailrl.config.schema import RlvrConfig
from sailrl.data.processor import Processor


def image_options(config: RlvrConfig, processor: Processor) -> dict[str, Any]:
    """Keyword arguments for vLLM; none for a text-only model."""
    if processor.image_id is None:
        return {}
    options: dict[str, Any] = {"limit_mm_per_prompt": {"image": config.rollout.engine.images_per_prompt, "video": 0}}
    if config.data.min_pixels is not None or config.data.max_pixels is not None:
        size = processor.full.image_processor.size
        # Both edges, though only one may be configured: vLLM hands them on as they are.
        options["mm_processor_kwargs"] = {
            "size": {"shortest_edge": size["shortest_edge"], "longest_edge": size["longest_edge"]}
        }
    return options
