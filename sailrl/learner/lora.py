"""LoRA (arXiv 2106.09685) with peft's layers inside the transformers model: the base is frozen, and a low-rank addition
to chosen weights is trained.

Engines get plain weights. The addition is merged into copies, tensor by tensor, ``W + (alpha / rank) B A``: the base in
memory does not change, so rounding errors do not add up over publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sailrl.config.schema import LoraConfig
from sailrl.errors import CheckpointError, LearnerError
from sailrl.learner.ranks import gathered

WEIGHTS = "adapter_model.safetensors"
_ADAPTER = "default"
_PREFIX = "base_model.model."
"""What peft puts before the names of a transformers model."""


def add_adapter(model: Any, config: LoraConfig) -> None:
    """Freezes ``model`` and gives it an adapter, which changes no output at first; the same one on every rank.

    Raises:
        LearnerError: the model has none of the modules, or one that cannot be adapted.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    names = list(config.target_modules)
    linear = {
        name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    } - {"lm_head"}  # log-probabilities read the head's weight directly, without an adapter
    if missing := sorted(set(names) - linear):
        raise LearnerError(
            f"model.lora.target_modules has {', '.join(missing)}, but this model's linear layers are "
            f"{', '.join(sorted(linear))}. Name some of these."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inject_adapter_in_model(PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names), model)


def merged(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain model's weights under its own names, from the whole tensors of ``model``'s state dict. Those that
    have no adapter are the very same tensors; of a model without one all are."""
    plain = {name: tensor for name, tensor in state.items() if not _is_adapter(name)}
    for name, addition in _additions(model, state):
        weight = plain.pop(f"{name}.base_layer.weight")
        plain[f"{name}.weight"] = weight + addition.to(weight)
        if f"{name}.base_layer.bias" in plain:
            plain[f"{name}.bias"] = plain.pop(f"{name}.base_layer.bias")
    return plain


def unmerged(model: Any, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The opposite: base weights, under the names of ``model``, with which its present adapter would make ``plain``."""
    state = dict(plain)
    adapter = {name: gathered(tensor) for name, tensor in model.state_dict().items() if _is_adapter(name)}
    for name, addition in _additions(model, adapter):
        weight = state.pop(f"{name}.weight")
        state[f"{name}.base_layer.weight"] = weight - addition.to(weight)
        if f"{name}.bias" in state:
            state[f"{name}.base_layer.bias"] = state.pop(f"{name}.bias")
    return state


def save(model: Any, state: Mapping[str, Tensor], folder: Path) -> None:
    """Writes the adapter as peft does, with the name of its base: ``PeftModel.from_pretrained(base, folder)``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config[_ADAPTER]
    config.base_model_name_or_path = model.config.name_or_path
    config.save_pretrained(str(folder))
    tensors = {name: tensor for name, tensor in state.items() if _is_adapter(name)}
    save_file({_in_file(name): tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def load(model: Any, folder: Path) -> dict[str, Tensor]:
    """What ``save`` wrote, whole tensors under the names of ``model``'s parameters.

    Raises:
        CheckpointError: it is missing or damaged, or is the adapter of another model or of another shape.
    """
    try:
        found = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} holds no adapter that can be read: {error}. Remove the checkpoint to fall back on an older one."
        ) from error
    mine = {name: parameter for name, parameter in model.named_parameters() if _is_adapter(name)}
    shapes = {_in_file(name): tuple(parameter.shape) for name, parameter in mine.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in found.items()}:
        raise CheckpointError(
            f"{folder} holds an adapter for other modules or of another rank than model.lora asks for. "
            "Set model.lora back, or start a new run with another run.dir."
        )
    return {name: found[_in_file(name)] for name in mine}


def _additions(model: Any, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """``(module name, addition to its weight)`` of every adapted module, from whole tensors."""
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            down, up = (state[f"{name}.lora_{side}.{_ADAPTER}.weight"].float() for side in "AB")
            yield name, module.scaling[_ADAPTER] * (up @ down)


def _is_adapter(name: str) -> bool:
    return f".lora_A.{_ADAPTER}." in name or f".lora_B.{_ADAPTER}." in name


def _in_file(name: str) -> str:
    return _PREFIX + name.replace(f".{_ADAPTER}.", ".")
