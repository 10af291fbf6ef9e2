"""LoRA (arXiv 2106.09685) with peft's layers inside the transformers model: the base is frozen, and a low-rank addition
to chosen weights is trained.

Engines get plain weights. The addition is merged into copies, tensor by tensor, ``W + (alpha / rank) B A``: the base in
memory does not change, so rounding errors do not add up over publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sailrl.config.schema import LoraConfig
from sailrl.errors import CheckpointError, LearnerError
from sailrl.families.base import Family
from sailrl.learner.ranks import gathered

WEIGHTS = "adapter_model.safetensors"
Addition: TypeAlias = Callable[[], Tensor]
_ADAPTER = "default"
_PREFIX = "base_model.model."
"""What peft puts before the names of a transformers model."""


def add_adapter(model: Any, config: LoraConfig, family: Family) -> None:
    """Freezes ``model`` and gives it an adapter, which changes no output at first; the same one on every rank.

    A name that the language model and a vision tower both have means the language model's layers.

    Raises:
        LearnerError: the model has none of the modules, or one that cannot be adapted.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    names = list(config.target_modules)
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    speaking = {name.rpartition(".")[2] for name in layers if family.part(name) == "language_model"}
    linear = {name.rpartition(".")[2] for name in layers} - {"lm_head"}  # its weight is read without an adapter
    seeing = [name for name in layers if family.part(name) != "language_model" and name.rpartition(".")[2] in speaking]
    if missing := sorted(set(names) - linear):
        raise LearnerError(
            f"model.lora.target_modules has {', '.join(missing)}, but this model's linear layers are "
            f"{', '.join(sorted(linear))}. Name some of these."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chosen = PeftConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=names, exclude_modules=seeing or None
        )
        inject_adapter_in_model(chosen, model)


def plain(model: Any) -> Iterator[tuple[str, Tensor, Addition | None]]:
    """``(name, tensor, addition)`` of everything that the plain model has, under its own names: ``model``'s tensors,
    which may be shards, and what computes the whole addition to one (a collective); None where there is no adapter."""
    additions = dict(_additions(model))
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not _is_adapter(name):
            module, base, kind = name.rpartition(".base_layer.")
            addition = additions[module] if base and kind == "weight" else None
            yield f"{module}.{kind}" if base else name, tensor, addition


def unmerged(model: Any, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The opposite: base weights, under the names of ``model``, with which its present adapter would make ``plain``."""
    state = dict(plain)
    for name, addition in _additions(model):
        weight = state.pop(f"{name}.weight")
        state[f"{name}.base_layer.weight"] = weight - addition().to(weight)
        if f"{name}.bias" in state:
            state[f"{name}.base_layer.bias"] = state.pop(f"{name}.bias")
    return state


def adapter(model: Any) -> dict[str, Tensor]:
    """The adapter's whole tensors in host memory, under their names in ``model`` (a collective)."""
    return {name: gathered(tensor).cpu() for name, tensor in model.state_dict().items() if _is_adapter(name)}


def save(model: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes an adapter as peft does, with the name of its base: ``PeftModel.from_pretrained(base, folder)``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config[_ADAPTER]
    config.base_model_name_or_path = model.config.name_or_path
    config.save_pretrained(str(folder))
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


def _additions(model: Any) -> Iterator[tuple[str, Addition]]:
    """``(module name, what computes the addition to its weight)`` of every adapted module."""
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, partial(_addition, module)


def _addition(module: Any) -> Tensor:
    down, up = (gathered(side[_ADAPTER].weight.detach()).float() for side in (module.lora_A, module.lora_B))
    addition: Tensor = module.scaling[_ADAPTER] * (up @ down)
    return addition


def _is_adapter(name: str) -> bool:
    return f".lora_A.{_ADAPTER}." in name or f".lora_B.{_ADAPTER}." in name


def _in_file(name: str) -> str:
    return _PREFIX + name.replace(f".{_ADAPTER}.", ".")
