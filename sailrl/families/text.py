"""Language models of text: every causal one that transformers and vLLM both know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sailrl.families.base import Family

_OTHER_SENSES = ("vision", "visual", "img_processor", "mm_", "audio", "speech", "thinker_config")
"""How keys begin that only models have which take more than text."""
_SPEAKS = ("ForCausalLM", "LMHeadModel")
"""How class names of language models end."""


class Text(Family):
    """Recognised last, by what it is not: no other sense, no encoder, no other task."""

    title = "causal language models of text (Qwen2, Qwen3, Qwen3-MoE, Llama, Mistral, Gemma 3, ...)"

    def knows(self, config: Mapping[str, Any]) -> bool:
        if config.get("is_encoder_decoder") or any(key.startswith(_OTHER_SENSES) for key in config if config[key]):
            return False
        architectures = config.get("architectures")
        return not architectures or str(architectures[0]).endswith(_SPEAKS)
