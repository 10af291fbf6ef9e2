"""The tokens and positions that vLLM computes for a prompt with images, on the CPU and without weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from sailrl.data.alignment import View


class VllmPrompts:
    """vLLM's part of ``sailrl check --data``.

    Args:
        model: folder or hub name.
        options: keyword arguments of vLLM's ``ModelConfig``, as the engine gets them.
        crowding: see ``VllmEngine``.
    """

    def __init__(self, model: str, options: dict[str, Any], crowding: Callable[[int], dict[str, Any]]) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm.config import ModelConfig
        from vllm.model_executor.model_loader.utils import get_model_cls
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.plugins import load_general_plugins

        self._crowding = crowding
        load_general_plugins()
        config = ModelConfig(model=model, **options)
        self._processor = MULTIMODAL_REGISTRY.create_processor(config)
        # The class without its layers: it computes positions from the configuration alone.
        self._model: Any = object.__new__(get_model_cls(config))
        self._model.__dict__["config"] = config.hf_config

    def view(self, engine_ids: Sequence[int], images: Sequence[Any]) -> View:
        """The prompt after vLLM has expanded the placeholders of its images.

        Args:
            engine_ids: [P'] with one placeholder per image.
            images: as PIL has them.
        """
        from vllm.multimodal.processing import ProcessorInputs, TimingContext

        items = self._processor.info.parse_mm_data({"image": list(images)})
        given = ProcessorInputs(list(engine_ids), items, hf_processor_mm_kwargs=self._crowding(len(images)))
        out: Any = self._processor.apply(given, TimingContext(enabled=False))
        ids = list(out["prompt_token_ids"])
        placeholders, data = (out[part].get("image", []) for part in ("mm_placeholders", "mm_kwargs"))
        return View("vLLM", ids, [p.get_num_embeds() for p in placeholders], self._positions(ids, placeholders, data))

    def _positions(self, ids: list[int], placeholders: Sequence[Any], data: Sequence[Any]) -> list[list[int]] | None:
        from vllm.multimodal.inputs import MultiModalFeatureSpec

        if not hasattr(self._model, "get_mrope_input_positions"):
            return None
        features = [
            MultiModalFeatureSpec(data=item, modality="image", identifier=str(number), mm_position=placeholder)
            for number, (item, placeholder) in enumerate(zip(data, placeholders, strict=True))
        ]
        positions, _ = self._model.get_mrope_input_positions(ids, features)
        return positions.tolist()
