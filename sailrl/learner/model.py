"""The learner's policy: a transformers model, run up to its last hidden states, and log-probabilities from those."""

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
from sailrl.families import family_at
from sailrl.families.packing import unpacked_note
from sailrl.learner import lora, ranks
from sailrl.learner.attention import layout, take, use_packed
from sailrl.learner.inventory import refuse_gaps, refuse_two_heads
from sailrl.learner.moe import Routers
from sailrl.learner.vision import Vision
from sailrl.learner.weights import publish_layout
from sailrl.types import BANNED_LOGIT_BIAS, Prompt

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Policy(torch.nn.Module):
    """Log-probabilities of response tokens under a transformers model.

    Master weights are float32; the forward pass runs in ``dtype``. The vocabulary's logits are never materialised.

    Args:
        path: model folder or hub name.
        vision: turns image hashes into model inputs; None for a text-only model.
        banned_ids: ids that the engine never samples; they get probability 0 here, too.
        frozen: parts that are not trained, out of ``vision``, ``projector`` and ``language_model``.
        adapter: train a LoRA adapter instead of the model's own weights.
        empty: shapes only, no weights; see ``shard``.

    Raises:
        ConfigError: the folder lacks tensors of its model.
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
        empty: bool = False,
    ) -> None:
        super().__init__()
        self.trust_remote_code = trust_remote_code
        """Whether Python code in the model folder, and in folders it is exported to, may run."""
        self.family = family = family_at(path)
        config = family.config(path, trust_remote_code=trust_remote_code)
        auto = family.model_class()
        options: Any = {"dtype": torch.float32, "trust_remote_code": trust_remote_code}
        self.model: Any
        if empty:
            with torch.device("meta"):
                self.model = auto.from_config(config, **options)
        else:
            loaded: Any = auto.from_pretrained(path, config=config, output_loading_info=True, **options)
            self.model, found = loaded
            refuse_gaps(path, self.model, found)
            refuse_two_heads(path, self.model)
        publish_layout(self.model)
        self.model.config.get_text_config().use_cache = False
        if activation_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        self.packs = family.packs(config)
        """Whether a batch may hold several samples; otherwise the model keeps its own attention."""
        if self.packs:
            use_packed(self.model)
        self.note = None if self.packs else unpacked_note(config.get_text_config())
        """What to tell about the model, in one line; None where all is as usual."""
        self.routers = Routers(self.model, float32=router_float32)
        for name, parameter in self.model.named_parameters():
            if family.part(name) in frozen:
                parameter.requires_grad_(False)
        self.has_adapter = adapter is not None
        if adapter is not None:
            lora.add_adapter(self.model, adapter, family)
        self._vision, self.dtype, self.temperature = vision, DTYPES[dtype], temperature
        ban = torch.zeros(self.model.get_output_embeddings().weight.shape[0])
        ban[list(banned_ids)] = BANNED_LOGIT_BIAS  # what the engine adds to these logits
        self._ban: torch.Tensor | None
        self.register_buffer("_ban", ban if len(banned_ids) else None, persistent=False)
        self._device_of: torch.Tensor
        self.register_buffer("_device_of", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it computes. Parameters may be kept elsewhere (``learner.offload``)."""
        return self._device_of.device

    def forward(self, batch: Batch, *, run_vision: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns ``(logp, entropy)``, both [B, R] float32 in nats, 0 where the mask is False.

        Args:
            run_vision: run the vision tower even on a batch without images, because another rank has some.
        """
        hidden = take(self._hidden(batch, run_vision=run_vision), batch.predictors)
        targets = batch.targets
        weight = self._head(hidden.dtype)
        logp, entropy = token_logprobs(hidden, weight, targets, temperature=self.temperature, bias=self._ban)
        blank = torch.zeros(batch.mask.shape, dtype=logp.dtype, device=logp.device)
        return blank.masked_scatter(batch.mask, logp), blank.masked_scatter(batch.mask, entropy)

    def response_logits(self, batch: Batch) -> torch.Tensor:
        """[n, V] float32 logits of the n response tokens before temperature: for a handful of samples only."""
        logits = take(self._hidden(batch), batch.predictors).float() @ self._head(torch.float32).T
        return logits if self._ban is None else logits + self._ban

    @torch.no_grad()
    def prompt_logprobs(self, prompt: Prompt, *, head: torch.Tensor | None = None) -> list[float]:
        """[P-1] log-probabilities in nats, at temperature 1 and with nothing banned, of every token but the first.

        Args:
            head: [V, H], used in place of the output layer's weight.
        """
        ids = np.asarray(prompt.token_ids, dtype=np.int32)
        whole = Sample(ids, ids[:0], np.zeros(0, np.float32), 0.0, tuple(prompt.images))
        hidden = self._hidden(collate([whole]))[:-1]
        weight = self._head(hidden.dtype) if head is None else head.to(hidden.dtype)
        logp, _ = token_logprobs(hidden, weight, torch.from_numpy(ids[1:]).long().to(hidden.device))
        return ranks.agreed(logp).tolist()

    def save(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Writes config and safetensors weights that transformers and vLLM load as they are; an adapter is merged.
        All ranks together; rank 0 writes, and holds all weights in ``dtype`` meanwhile, never in float32 besides."""
        state = self.plain_state(dtype)
        if ranks.first():
            self.model.save_pretrained(folder, state_dict=state)

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter in peft's format, as ``save`` does."""
        state = lora.adapter(self.model)
        if ranks.first():
            lora.save(self.model, state, folder)

    @torch.no_grad()
    def load_adapter(self, folder: Path) -> None:
        """Loads the adapter that ``save_adapter`` wrote. Raises CheckpointError."""
        parameters = dict(self.model.named_parameters())
        for name, tensor in lora.load(self.model, folder).items():
            parameters[name].copy_(ranks.placed(tensor, parameters[name]))

    @torch.no_grad()
    def plain_state(self, dtype: torch.dtype = torch.float32, *, everywhere: bool = False) -> dict[str, torch.Tensor]:
        """The weights in ``dtype``, an adapter merged: whole tensors in host memory, cast one by one (a collective).
        Empty on all ranks but rank 0 unless ``everywhere``."""
        wanted = everywhere or ranks.first()
        once: dict[int, Any] = {}  # tied weights stay one tensor: so transformers recognises them
        state: dict[str, torch.Tensor] = {}
        for name, tensor, addition in lora.plain(self.model):
            if id(tensor) not in once:
                value = ranks.gathered(tensor.detach())
                if addition is not None:
                    value = value + addition().to(value)
                once[id(tensor)] = value.to("cpu", dtype if value.is_floating_point() else value.dtype)
                once[id(tensor)] = once[id(tensor)] if wanted else None
            if wanted:
                state[name] = once[id(tensor)]
        return state

    def _head(self, dtype: torch.dtype) -> torch.Tensor:
        return self.model.get_output_embeddings().weight.to(dtype)

    def _hidden(self, batch: Batch, *, run_vision: bool = False) -> torch.Tensor:
        """[N, H] last hidden states of the packed row."""
        if len(batch.lengths) > 1 and not self.packs:
            raise LearnerError(f"{type(self.model).__name__} was given {len(batch.lengths)} samples in one row")
        batch = batch.to(self.device)
        self.routers.set_batch(batch)
        inputs: dict[str, Any] = layout(batch) if self.packs else {}
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            zero: torch.Tensor | None = None
            if self._vision is None:
                inputs["position_ids"] = batch.positions()[None]
            else:
                inputs |= self._vision.inputs(self.model, batch)
                if run_vision and not any(batch.images):
                    # Before the language model, as with images: ranks gather the layers in the same order.
                    zero = self._vision.blank(self.model, self.device)
            hidden: torch.Tensor = self.model.base_model(input_ids=batch.input_ids[None], **inputs).last_hidden_state[0]
            return hidden if zero is None else hidden + zero
