"""A learner's state on disk: safetensors and JSON only, so that nothing read back can run code."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sailrl.errors import CheckpointError
from sailrl.learner.model import Policy

STATE, TENSORS = "learner.json", "learner.safetensors"
RNG = "rng_state"
ADAPTER = "adapter"


def save(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, updates: int) -> None:
    """Writes the model (``folder/model``, loads in transformers as is), the optimizer, the generator and the count.

    With an adapter ``folder/model`` has it merged, for whoever uses the model, and ``folder/adapter`` has it as peft
    writes it: what a resumed run goes on with, on the base that it started from.
    """
    policy.save(folder / "model")
    if policy.has_adapter:
        policy.save_adapter(folder / ADAPTER)
    tensors = {RNG: torch.get_rng_state()}
    for name, parameter in policy.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().contiguous()
    save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps({"updates": updates}))


def restore(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> int:
    """Puts optimizer and generator back and returns the number of updates made.

    Raises:
        CheckpointError: a file is missing or damaged, or holds the state of another model.
    """
    try:
        tensors, updates = load_file(folder / TENSORS), json.loads((folder / STATE).read_text())["updates"]
        generator = tensors.pop(RNG)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be resumed: {type(error).__name__}: {error}. Remove it to fall back on an older one."
        ) from error
    if policy.has_adapter:
        policy.load_adapter(folder / ADAPTER)
    parameters = dict(policy.named_parameters())
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if name not in parameters:
            raise CheckpointError(f"{folder} holds the optimizer state of {name!r}, which this model does not have")
        if value.dim() and value.shape != parameters[name].shape:
            raise CheckpointError(
                f"{folder} holds the optimizer state of {name!r} in shape {tuple(value.shape)}, "
                f"this model has it in shape {tuple(parameters[name].shape)}"
            )
        # AdamW keeps its count of steps, a scalar, on the CPU.
        optimizer.state[parameters[name]][kind] = value.to(parameters[name].device) if value.dim() else value
    torch.set_rng_state(generator)
    return int(updates)


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """What cannot be written into ``folder`` is an OSError that names it and the room left, whoever met it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        free = ""
        with suppress(OSError):
            free = f", {shutil.disk_usage(folder).free / 2**30:.2f} GiB free"
        number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (errno.EIO, str(error))
        raise OSError(number, f"{text}{free}", str(getattr(error, "filename", None) or folder)) from error
