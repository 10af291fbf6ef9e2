"""SAIL-VL2 for transformers. Modules have the names of the published weights; ``RENAMED`` says where they differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from sailrl.families.sail_vl2.configuration import SailVitConfig, SailVl2Config, SailVl16Config


class RMSNorm(nn.Module):
    """Root mean square in float32, scaled in the precision of the input."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class Patchifier(nn.Module):
    """[T, 3, S, S] pixels to [T, patches, hidden], row by row."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        side = config.patch_size
        self.proj = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=side, stride=side)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.proj(pixels).flatten(2).transpose(1, 2))


class Preprocessor(nn.Module):
    """Patches, and the learned position of each."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        self.patchifier = Patchifier(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, (config.image_size // config.patch_size) ** 2, config.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patchifier(pixels) + self.pos_embed


class Attention(nn.Module):
    """Every patch of a tile attends to all of them."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.fc3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.silu(self.fc1(x)) * self.fc3(x))


class Block(GradientCheckpointingLayer):
    """One layer of the tower."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm_1 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)
        self.norm_2 = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Trunk(nn.Module):
    """All layers, and the norm behind the last."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.post_trunk_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.post_trunk_norm(x)


class SailVit(nn.Module):
    """The vision tower: [T, 3, S, S] tiles to [T, patches, hidden]."""

    def __init__(self, config: SailVitConfig) -> None:
        super().__init__()
        self.preprocessor = Preprocessor(config)
        self.trunk = Trunk(config)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.trunk(self.preprocessor(pixels))


def unshuffle(patches: Tensor, ratio: float) -> Tensor:
    """[T, h x w, C] to [T, (h x w) ratio^2, C / ratio^2]: each square of patches becomes one token, which has the rows
    of the square one after the other (``ps_version`` v2)."""
    square, side = round(1 / ratio), round(patches.shape[1] ** 0.5)
    grid = patches.unflatten(1, (side // square, square, side // square, square))
    return grid.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)


class SailVlPreTrainedModel(PreTrainedModel):
    """What both models below share."""

    config: SailVl2Config
    config_class = SailVl2Config
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules: Any = ("Block",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Preprocessor):
            init.normal_(module.pos_embed, mean=0.0, std=self.config.vision_config.initializer_range)


class SailVl2Model(SailVlPreTrainedModel):
    """Tower, projector and the language model without its head."""

    def __init__(self, config: SailVl2Config) -> None:
        super().__init__(config)
        self.vision_model = SailVit(config.vision_config)
        wide, hidden = config.vision_config.hidden_size * round(1 / config.downsample_ratio) ** 2, config.llm_config
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(wide),
            nn.Linear(wide, hidden.hidden_size),
            nn.GELU(),
            nn.Linear(hidden.hidden_size, hidden.hidden_size),
        )
        self.language_model = AutoModel.from_config(config.llm_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """[T, tokens, hidden] of tiles [T, 3, S, S]."""
        return self.mlp1(unshuffle(self.vision_model(pixel_values), self.config.downsample_ratio))

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        image_features: Tensor | None = None,
        image_places: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Runs the language model.

        Args:
            image_features: [n, hidden], put where ``image_places`` [B, N], which has n ones, is not 0.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if image_features is not None and image_places is not None:
            places = image_places.bool()[..., None].expand_as(inputs_embeds)
            inputs_embeds = inputs_embeds.masked_scatter(places, image_features.to(inputs_embeds.dtype))
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)


TIED = {"lm_head.weight": "model.language_model.embed_tokens.weight"}


class SAILVLModel(SailVlPreTrainedModel):
    """The whole model, under the name that published configurations give it.

    Published names differ from the modules' in their beginnings only: see ``RENAMED``.
    """

    _tied_weights_keys: Any = TIED

    def __init__(self, config: SailVl2Config) -> None:
        super().__init__(config)
        self.model = SailVl2Model(config)
        self.lm_head = nn.Linear(config.llm_config.hidden_size, config.llm_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """See ``SailVl2Model``."""
        return self.model.get_image_features(pixel_values)

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> CausalLMOutputWithPast:
        """Logits of every token; the arguments are those of ``SailVl2Model``."""
        hidden = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(hidden))

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As published: the output layer is written even where it is the embedding, which transformers leaves out."""
        state = dict(kwargs.pop("state_dict", None) or self.state_dict())
        if self.config.llm_config.tie_word_embeddings:
            state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"].clone()
        super().save_pretrained(save_directory, *args, **(kwargs | {"state_dict": state}))


class SailVLModel(SAILVLModel):
    """SAIL-VL 1.6."""

    config: SailVl16Config
    config_class = SailVl16Config


RENAMED = {
    r"^vision_model\.": "model.vision_model.",
    r"^mlp1\.": "model.mlp1.",
    r"^language_model\.model\.": "model.language_model.",
    r"^language_model\.lm_head\.": "lm_head.",
}
"""Beginnings of published names, and what they are here."""


def register() -> None:
    """Makes transformers know the models. May be called again."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    AutoConfig.register(SailVl2Config.model_type, SailVl2Config, exist_ok=True)
    for config, model in ((SailVl2Config, SAILVLModel), (SailVl16Config, SailVLModel)):
        AutoModelForImageTextToText.register(config, model, exist_ok=True)
        renamings: list[Any] = [WeightRenaming(theirs, ours) for theirs, ours in RENAMED.items()]
        register_checkpoint_conversion_mapping(model.__name__, renamings, overwrite=True)
