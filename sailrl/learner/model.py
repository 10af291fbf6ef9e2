"""The policy as the learner holds it: a transformers model, run up to its last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sailrl.algos.logprobs import token_logprobs
from sailrl.config.schema import LoraConfig
from sailrl.data.batch import Batch, Sample, collate
from sailrl.errors import LearnerError
from sailrl.learner import lora
from sailrl.learner.attention import bounds, use_packed
from sailrl.learner.moe import Routers
from sailrl.learner.vision import Vision
from sailrl.types import BANNED_LOGIT_BIAS, Prompt

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Policy(torch.nn.Module):
    """Log-probabilities of response tokens under a transformers model.

    Master weights are float32; the forward pass runs in ``dtype``. The vocabulary's logits are never materialised.

    Args:
        path: model folder or hub name.
        vision: turns image hashes into model inputs; None for a text-only model.
        banned_ids: ids that the engine never samples; they get no probability here either.
        frozen: parts that are not trained, out of ``vision``, ``projector`` and ``language_model``.
        adapter: train this addition to the model instead of the model.
    """

    def __init__(
        self,
        path: str,
        *,
        vision: Vision | None = None,
        dtype: str = "float32",
        temperature: float = 1.0,
        banned_ids: Sequence[int] = (),
        frozen: Sequence[str] = (),
        adapter: LoraConfig | None = None,
        trust_remote_code: bool = False,
        activation_checkpointing: bool = False,
        router_float32: bool = True,
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
        self.model: Any = auto.from_pretrained(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
        self.model.config.get_text_config().use_cache = False
        if activation_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        self.packs = use_packed(self.model)
        """Whether a batch may hold several samples."""
        self.routers = Routers(self.model, float32=router_float32)
        _freeze(self.model, frozen)
        self.has_adapter = adapter is not None
        if adapter is not None:
            lora.add_adapter(self.model, adapter)
        self._vision, self.dtype, self.temperature = vision, DTYPES[dtype], temperature
        head = self.model.get_output_embeddings().weight
        ban = torch.zeros(head.shape[0], device=head.device)
        ban[list(banned_ids)] = BANNED_LOGIT_BIAS  # what the engine adds to these logits
        self._ban: torch.Tensor | None
        self.register_buffer("_ban", ban if len(banned_ids) else None, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and where batches have to go."""
        return next(self.model.parameters()).device

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns ``(logp, entropy)``, both [B, R] float32 in nats, 0 where the mask is False."""
        hidden = self._hidden(batch)[batch.response_positions()]
        targets = batch.response_ids[batch.mask]
        weight = self._head(hidden.dtype)
        logp, entropy = token_logprobs(hidden, weight, targets, temperature=self.temperature, bias=self._ban)
        blank = torch.zeros(batch.mask.shape, dtype=logp.dtype, device=logp.device)
        return blank.masked_scatter(batch.mask, logp), blank.masked_scatter(batch.mask, entropy.detach())

    def response_logits(self, batch: Batch) -> torch.Tensor:
        """[N, V] float32 logits of the N response tokens before temperature: for a handful of samples only."""
        logits = self._hidden(batch)[batch.response_positions()].float() @ self._head(torch.float32).T
        return logits if self._ban is None else logits + self._ban

    @torch.no_grad()
    def prompt_logprobs(self, prompt: Prompt, *, head: torch.Tensor | None = None) -> list[float]:
        """[P-1] log-probabilities in nats, at temperature 1 and with nothing banned, of every token but the first.

        Args:
            head: stands in for the output layer's weight.
        """
        ids = np.asarray(prompt.token_ids, dtype=np.int32)
        whole = Sample(ids, ids[:0], np.zeros(0, np.float32), 0.0, tuple(prompt.images))
        hidden = self._hidden(collate([whole]))[:-1]
        weight = self._head(hidden.dtype) if head is None else head.to(hidden.dtype)
        logp, _ = token_logprobs(hidden, weight, torch.from_numpy(ids[1:]).long().to(hidden.device))
        return logp.tolist()

    def save(self, folder: str | Path) -> None:
        """Writes config and safetensors weights that transformers and vLLM load as they are; an adapter is merged."""
        self.model.save_pretrained(folder, state_dict=lora.merged(self.model, self.model.state_dict()))

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter in peft's format."""
        lora.save(self.model, self.model.state_dict(), folder)

    @torch.no_grad()
    def load_adapter(self, folder: Path) -> None:
        """Takes the adapter that ``save_adapter`` wrote."""
        parameters = dict(self.model.named_parameters())
        for name, tensor in lora.load(self.model, folder).items():
            parameters[name].copy_(tensor)

    def _head(self, dtype: torch.dtype) -> torch.Tensor:
        return self.model.get_output_embeddings().weight.to(dtype)

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """[N, H] last hidden states of the packed row."""
        if len(batch.lengths) > 1 and not self.packs:
            raise LearnerError(f"{type(self.model).__name__} was given {len(batch.lengths)} samples in one row")
        batch = batch.to(self.device)
        inputs: dict[str, Any] = bounds(batch) if self.packs else {}
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self._vision is None:
                inputs["position_ids"] = batch.positions()[None]
            else:
                inputs |= self._vision.inputs(self.model, batch)
            return self.model.base_model(input_ids=batch.input_ids[None], **inputs).last_hidden_state[0]


def _freeze(model: Any, parts: Sequence[str]) -> None:
    """Stops the training of whole parts. In Qwen-VL models the projector is the tower's ``merger`` modules."""
    for name, parameter in model.named_parameters():
        if ".visual." in name:
            part = "projector" if "merger" in name else "vision"
        else:
            part = "language_model"
        if part in parts:
            parameter.requires_grad_(False)
