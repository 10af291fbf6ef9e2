"""What vLLM would make of a prompt with images: its multimodal processor and positions, on the CPU, without weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sailrl.data.alignment import View


class VllmPrompts:
    """vLLM's side of ``sailrl check --data``.

    Args:
        model: folder or hub name.
        options: keyword arguments that the engine gets as well, as far as they concern its inputs.
    """

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm.config import ModelConfig
        from vllm.model_executor.model_loader.utils import get_model_cls
        from vllm.multimodal import MULTIMODAL_REGISTRY

        config = ModelConfig(model=model, **options)
        self._processor = MULTIMODAL_REGISTRY.create_processor(config)
        # The class without its layers: positions are computed from the configuration alone.
        self._model: Any = object.__new__(get_model_cls(config))
        self._model.__dict__["config"] = config.hf_config

    def view(self, engine_ids: Sequence[int], images: Sequence[Any]) -> View:
        """The prompt after vLLM has put the features of its images in place."""
        from vllm.multimodal.processing import ProcessorInputs, TimingContext

        items = self._processor.info.parse_mm_data({"image": list(images)})
        out: Any = self._processor.apply(ProcessorInputs(list(engine_ids), items), TimingContext(enabled=False))
        ids = list(out["prompt_token_ids"])
        places, data = (out[part].get("image", []) for part in ("mm_placeholders", "mm_kwargs"))
        return View("vLLM", ids, [place.length for place in places], self._positions(ids, places, data))

    def _positions(self, ids: list[int], places: Sequence[Any], data: Sequence[Any]) -> list[list[int]] | None:
        from vllm.multimodal.inputs import MultiModalFeatureSpec

        if not hasattr(self._model, "get_mrope_input_positions"):
            return None
        features = [
            MultiModalFeatureSpec(data=item, modality="image", identifier=str(number), mm_position=place)
            for number, (item, place) in enumerate(zip(data, places, strict=True))
        ]
        positions, _ = self._model.get_mrope_input_positions(ids, features)
        return positions.tolist()
