"""SAIL-VL2 for vLLM, registered by ``families.vllm_plugin`` under the names of the published architectures.

The tower is vLLM's own AIMv2, whose modules have the published names; so no weight is renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.models.aimv2 import AIMv2Model
from vllm.model_executor.models.interfaces import SupportsMultiModal, SupportsPP
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import AutoWeightsLoader, init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
)

from sailrl.families.sail_vl2.modeling import unshuffle
from sailrl.families.sail_vl2.processing import IMAGE, SailVl2Processor


class ProcessingInfo(BaseProcessingInfo):
    """Which processor a model has, and how large its pictures can be."""

    @cached_property
    def processor(self) -> SailVl2Processor:
        """Our processor of the model."""
        config = self.ctx.model_config
        return SailVl2Processor.from_pretrained(
            config.model, tokenizer=self.get_tokenizer(), **({"revision": config.revision} if config.revision else {})
        )

    def get_hf_processor(self, **kwargs: object) -> SailVl2Processor:
        return self.processor

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None}

    def largest(self) -> tuple[int, int]:
        """Width and height of a picture with the most tiles."""
        limit = self.ctx.get_merged_mm_kwargs({}).get("max_dynamic_patch")
        side, most = self.processor.image_processor.image_size, self.processor.image_processor.max_dynamic_patch
        return side * (limit or most), side


class DummyInputs(BaseDummyInputsBuilder[ProcessingInfo]):
    """The largest input, with which vLLM measures memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return IMAGE * mm_counts.get("image", 0)

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]) -> Any:
        width, height = self.info.largest()
        return {
            "image": self._get_dummy_images(
                width=width, height=height, num_images=mm_counts.get("image", 0), overrides=mm_options.get("image")
            )
        }


class PromptProcessor(BaseMultiModalProcessor[ProcessingInfo]):
    """Expands the one placeholder of each picture by as many tokens as its tiles fill."""

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Any:
        return {
            "pixel_values": MultiModalFieldConfig.flat_from_sizes(
                "image", hf_inputs.get("num_patches", torch.empty(0))
            ),
            "num_patches": MultiModalFieldConfig.batched("image", keep_on_cpu=True),
        }

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        image = self.info.get_tokenizer().convert_tokens_to_ids(IMAGE)
        tokens = self.info.processor.image_processor.tokens_per_tile
        numbers = out_mm_kwargs.get_data().get("num_patches", ())
        return [
            PromptReplacement(
                modality="image", target=[image], replacement=lambda number: [image] * (int(numbers[number]) * tokens)
            )
        ]


@MULTIMODAL_REGISTRY.register_processor(PromptProcessor, info=ProcessingInfo, dummy_inputs=DummyInputs)
class SailVl2ForVllm(nn.Module, SupportsMultiModal, SupportsPP):
    """Tower, projector and vLLM's language model of the kind that ``llm_config`` names."""

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        return f"<img>{IMAGE}</img>" if modality.startswith("image") else None

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: Any = vllm_config.model_config.hf_config
        tower, quant = config.vision_config, vllm_config.quant_config
        tower.qkv_bias = tower.mlp_bias = False
        self.config, self.ratio = config, config.downsample_ratio
        wide, hidden = tower.hidden_size * round(1 / self.ratio) ** 2, config.llm_config.hidden_size
        with self._mark_tower_model(vllm_config, "image"):
            self.vision_model = AIMv2Model(
                tower, quant, require_post_norm=True, prefix=maybe_prefix(prefix, "vision_model")
            )
            self.mlp1 = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        with self._mark_language_model(vllm_config):
            self.language_model: Any = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=config.llm_config,
                prefix=maybe_prefix(prefix, "language_model"),
            )
        self.make_empty_intermediate_tensors: Any = self.language_model.make_empty_intermediate_tensors

    def embed_multimodal(self, **kwargs: Any) -> Any:
        """Of each picture [tokens, hidden]."""
        pixels, numbers = kwargs.get("pixel_values"), kwargs.get("num_patches")
        if pixels is None or numbers is None:
            return []
        seen = self.mlp1(unshuffle(self.vision_model(pixels), self.ratio))
        return [part.flatten(0, 1) for part in seen.split([int(number) for number in numbers])]

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        """Hidden states of the language model."""
        return self.language_model.model(
            input_ids=input_ids,
            positions=positions,
            intermediate_tensors=intermediate_tensors,
            inputs_embeds=None if intermediate_tensors is not None else inputs_embeds,
        )

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """[n, V]."""
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Loads weights under their published names."""
        return AutoWeightsLoader(self).load_weights(weights)

    def get_mm_mapping(self) -> MultiModelKeys:
        """Where the parts lie."""
        return MultiModelKeys.from_string_field(
            language_model="language_model", connector="mlp1", tower_model="vision_model"
        )
