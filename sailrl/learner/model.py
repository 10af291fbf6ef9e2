"""The policy as the learner holds it: a transformers model, run up to its last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sailrl.algos.logprobs import token_logprobs
from sailrl.data.batch import Batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Policy(torch.nn.Module):
    """Log-probabilities of response tokens under a transformers model.

    Master weights are float32; the forward pass runs in ``dtype``. The vocabulary's logits are never materialised.

    Args:
        path: model folder or hub name.
        banned_ids: ids that the engine never samples; they get no probability here either.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str = "float32",
        temperature: float = 1.0,
        banned_ids: Sequence[int] = (),
        trust_remote_code: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
        self.model: Any = auto.from_pretrained(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
        self.model.config.use_cache = False
        if activation_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        self.dtype, self.temperature = DTYPES[dtype], temperature
        self.pad_id = _pad_id(self.model)
        head = self.model.get_output_embeddings().weight
        ban = torch.zeros(head.shape[0], device=head.device)
        ban[list(banned_ids)] = -1.0e4  # what the engine adds to these logits
        self._ban: torch.Tensor | None
        self.register_buffer("_ban", ban if len(banned_ids) else None, persistent=False)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns ``(logp, entropy)``, both [B, R] float32 in nats, 0 where the mask is False."""
        rows, positions = batch.response_positions()
        hidden = self._hidden(batch.input_ids, batch.attention_mask)[rows, positions]
        targets = batch.response_ids[batch.mask]
        logp, entropy = token_logprobs(
            hidden, self._head(hidden.dtype), targets, temperature=self.temperature, bias=self._ban
        )
        blank = torch.zeros(batch.mask.shape, dtype=logp.dtype, device=logp.device)
        return blank.masked_scatter(batch.mask, logp), blank.masked_scatter(batch.mask, entropy.detach())

    @torch.no_grad()
    def prompt_logprobs(self, token_ids: Sequence[int], *, head: torch.Tensor | None = None) -> list[float]:
        """[P-1] log-probabilities in nats, at temperature 1 and with nothing banned, of every token but the first.
        ``head`` stands in for the output layer's weight."""
        ids = torch.as_tensor(list(token_ids), dtype=torch.long)[None]
        hidden = self._hidden(ids, torch.ones_like(ids))[0, :-1]
        weight = self._head(hidden.dtype) if head is None else head.to(hidden.dtype)
        logp, _ = token_logprobs(hidden, weight, ids[0, 1:])
        return logp.tolist()

    def save(self, folder: str | Path) -> None:
        """Writes config and safetensors weights that transformers and vLLM load as they are."""
        self.model.save_pretrained(folder)

    def _head(self, dtype: torch.dtype) -> torch.Tensor:
        return self.model.get_output_embeddings().weight.to(dtype)

    def _hidden(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model.base_model(
                input_ids=input_ids.to(device), attention_mask=attention_mask.to(device)
            ).last_hidden_state


def _pad_id(model: Any) -> int:
    pad = model.config.get_text_config().pad_token_id
    return 0 if pad is None else int(pad)
