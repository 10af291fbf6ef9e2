"""A toy of every family: its real architecture from a configuration, small, with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sailrl.demo import tiny_sail_vl2, tiny_text, tiny_vlm
from sailrl.families import family_at
from sailrl.families.intern_vl import InternVl
from sailrl.families.qwen_vl import Qwen2Vl, Qwen3Vl, Qwen25Vl
from sailrl.families.sail_vl2.family import SailVl2
from sailrl.families.text import Text
from sailrl.learner.weights import publish_layout

Build = Callable[[Path], None]
QWEN25_TOWER: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 64}
QWEN25_TOWER |= {"fullatt_block_indexes": [1], "window_size": 56}
GEMMA3: dict[str, Any] = {
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "sliding_window": 16,
}
GEMMA3 |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}


def text(config: str, **changes: Any) -> Build:
    """A language model of a kind that transformers has, under the tokenizer of the demo."""

    def build(folder: Path) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        tiny_text.build(folder, hidden_size=64, layers=1)  # its tokenizer stays
        tokenizer = AutoTokenizer.from_pretrained(folder)
        size: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 160}
        size |= {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
        size |= {"max_position_embeddings": 2048, "tie_word_embeddings": False, "bos_token_id": None}
        size |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(config, **(size | changes))).save_pretrained(folder)

    return build


def qwen2_vl(kind: str, tower: dict[str, Any]) -> Build:
    """A Qwen2-VL or Qwen2.5-VL, with the pictures and the tokenizer of the demo's toy."""

    def build(folder: Path) -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
        from transformers.models.qwen2_5_vl import Qwen2_5_VLProcessor
        from transformers.models.qwen2_vl import Qwen2VLProcessor
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

        tiny_vlm.build(folder)
        there = AutoProcessor.from_pretrained(folder)
        given = json.loads((folder / "config.json").read_text())
        text = {key: given["text_config"][key] for key in ("vocab_size", "pad_token_id", "eos_token_id")}
        text |= {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 2}
        text |= {"num_key_value_heads": 1, "max_position_embeddings": 2048, "bos_token_id": None}
        text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 4, 4]}}
        tower_size = {"depth": 3, "num_heads": 4, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}
        names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        config = AutoConfig.for_model(
            kind, text_config=text, vision_config=tower_size | tower, **{name: given[name] for name in names}
        )
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
        size = there.image_processor.size
        video = Qwen2VLVideoProcessor(patch_size=14, merge_size=2, temporal_patch_size=2, size=dict(size))
        whole: Any = Qwen2_5_VLProcessor if kind == "qwen2_5_vl" else Qwen2VLProcessor
        whole(there.image_processor, there.tokenizer, video, chat_template=there.chat_template).save_pretrained(folder)
        (folder / "video_preprocessor_config.json").unlink(missing_ok=True)

    return build


def intern_vl(folder: Path) -> None:
    """An InternVL 3 on Qwen2, with tiles as large as the demo's pictures."""
    from transformers import GotOcr2ImageProcessor, InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor
    from transformers.models.internvl import InternVLVideoProcessor

    from sailrl.demo import additions
    from sailrl.demo import tokenizer as tokens

    marks: dict[str, Any] = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
    }
    marks |= {"video_token": "<video>"}
    tokenizer = tokens.build_tokenizer(
        (row["prompt"] for row in additions.rows(200, seed=0)), pixels=tuple(marks.values())
    )
    tokenizer._set_model_specific_special_tokens(special_tokens=marks)
    template = tokens.CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>")
    text: dict[str, Any] = {"model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 64}
    text |= {"intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1}
    text |= {"max_position_embeddings": 2048, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": False}
    tower: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96}
    tower |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    tower |= {"image_size": [84, 84], "patch_size": [14, 14]}
    kind: Any = InternVLConfig
    config = kind(
        text_config=text,
        vision_config=tower,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=9,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 84, "width": 84}
    InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=9,
        chat_template=template,
    ).save_pretrained(folder)


@dataclass(frozen=True, slots=True)
class Toy:
    """A model that passes the contract of its family."""

    family: str
    """The family's title."""
    build: Build
    in_ci: bool = False
    """Checked with every change; the others in the long tests only."""


TOYS: dict[str, Toy] = {
    "SAIL-VL2": Toy(SailVl2.title, tiny_sail_vl2.build, in_ci=True),
    "SAIL-VL2 with a tied output layer": Toy(SailVl2.title, partial(tiny_sail_vl2.build, tied=True)),
    "SAIL-VL2 on a MoE (A3B)": Toy(SailVl2.title, partial(tiny_sail_vl2.build, experts=4)),
    "SAIL-VL 1.6": Toy(SailVl2.title, partial(tiny_sail_vl2.build, release="1.6")),
    "Qwen3-VL": Toy(Qwen3Vl.title, tiny_vlm.build, in_ci=True),
    "Qwen3-VL-MoE": Toy(Qwen3Vl.title, partial(tiny_vlm.build, experts=4)),
    "Qwen2.5-VL": Toy(Qwen25Vl.title, qwen2_vl("qwen2_5_vl", QWEN25_TOWER)),
    "Qwen2-VL": Toy(Qwen2Vl.title, qwen2_vl("qwen2_vl", {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2})),
    "InternVL 3": Toy(InternVl.title, intern_vl),
    "Qwen3": Toy(Text.title, partial(tiny_text.build, hidden_size=64)),
    "Qwen3-MoE": Toy(Text.title, partial(tiny_text.build, hidden_size=64, experts=4)),
    "Qwen2": Toy(Text.title, text("qwen2")),
    "Llama": Toy(Text.title, text("llama")),
    "Mistral": Toy(Text.title, text("mistral", sliding_window=None)),
    "Mistral with windows": Toy(Text.title, text("mistral", sliding_window=16)),
    "Gemma 3 (text)": Toy(Text.title, text("gemma3_text", **GEMMA3)),
}
BAD_SAMPLING = {"do_sample": True, "top_k": 1, "top_p": 0.1, "temperature": 0.2, "repetition_penalty": 3.0}
"""What a checkpoint may ask for in its generation_config.json, and what must not change how responses are drawn."""
SECOND_END = 40
"""A second id that ends a turn, by the same file."""


def build_toy(name: str, folder: Path) -> Path:
    """Writes a toy into ``folder`` and returns it. Its weights are larger than at an initialisation: at that, a model
    hardly says anything, and one with a fault would say the same."""
    TOYS[name].build(folder)
    family = family_at(folder)
    assert family.title == TOYS[name].family
    model = family.model_class().from_pretrained(folder, config=family.config(folder), dtype=torch.float32)
    publish_layout(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() >= 2 else 1.0)
    model.save_pretrained(folder)
    ends = [model.config.get_text_config().eos_token_id, SECOND_END]
    (folder / "generation_config.json").write_text(json.dumps(BAD_SAMPLING | {"eos_token_id": ends}))
    return folder
