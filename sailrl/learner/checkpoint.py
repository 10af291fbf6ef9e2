"""A learner's state on disk: safetensors and JSON only, so that nothing read back can run code.

For that reason not torch's own distributed checkpoint: ``torch.distributed.checkpoint`` describes its files in a pickle
(``.metadata``), and reading a pickle can run code. Here the ranks gather one tensor at a time, rank 0 writes whole
tensors, layer by layer, and every rank reads its own rows: a checkpoint can be resumed with another number of ranks.
"""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sailrl.errors import CheckpointError
from sailrl.learner import ranks
from sailrl.learner.loss_scale import LossScale
from sailrl.learner.model import Policy
from sailrl.learner.weights import block_of

STATE = "learner.json"
RNG = "rng_state"
ADAPTER = "adapter"


def save(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, scale: LossScale, updates: int) -> None:
    """Writes the model (``folder/model``, loads in transformers as is), the optimizer, the generators, the count and,
    in float16, the loss scale.

    With an adapter, ``folder/model`` has it merged, to be used as a model, and ``folder/adapter`` has it in peft's
    format: a resumed run loads it on top of the base model that the run started from.

    A collective; only rank 0 touches the folder, and holds one layer's moments at a time.

    Raises:
        OSError: on rank 0, after all collectives are done, so that the ranks stay in step.
    """
    failures: list[Exception] = []

    def attempt(write: Callable[..., Any], *arguments: Any) -> None:
        try:
            write(*arguments)
        except (OSError, SafetensorError) as error:
            failures.append(error)

    attempt(policy.save, folder / "model")
    if policy.has_adapter:
        attempt(policy.save_adapter, folder / ADAPTER)
    tensors = {RNG: _generators()}
    files = 0
    by_block = itertools.groupby(policy.named_parameters(), key=lambda pair: block_of(pair[0]))
    for _, parameters in by_block:
        for name, parameter in parameters:
            for key, value in optimizer.state.get(parameter, {}).items():
                whole = ranks.gathered(value.detach()).cpu()
                if ranks.first():
                    tensors[f"{key}/{name}"] = whole.contiguous()
        if ranks.first() and tensors:
            attempt(save_file, tensors, folder / _file(files))
            files += 1
        tensors = {}
    if failures:
        raise failures[0]
    if ranks.first():
        state = {"updates": updates, "files": files} | scale.state_dict()
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")


def restore(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, scale: LossScale) -> int:
    """Restores optimizer, generator and loss scale; returns the number of updates made. Every rank reads the files.

    Raises:
        CheckpointError: a file is missing or damaged, or holds the state of another model.
    """
    if policy.has_adapter != (folder / ADAPTER).is_dir():
        held, asked = ("the whole model", "an adapter") if policy.has_adapter else ("an adapter", "the whole model")
        raise CheckpointError(f"{folder} holds {held}, and model.lora asks for {asked}. Set model.lora back.")
    if policy.has_adapter:
        policy.load_adapter(folder / ADAPTER)
    parameters = dict(policy.named_parameters())
    generators = None
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        updates, files = int(state["updates"]), int(state["files"])
        scale.load_state_dict(state)
        for number in range(files):
            with safe_open(folder / _file(number), "pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    if key == RNG:
                        generators = file.get_tensor(key)
                        continue
                    kind, _, name = key.partition("/")
                    parameter = _known(folder, name, tuple(file.get_slice(key).get_shape()), parameters.get(name))
                    optimizer.state[parameter][kind] = _own(file.get_tensor(key), parameter)
        if generators is None:
            raise KeyError(RNG)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be resumed: {type(error).__name__}: {error}. Remove it to fall back on an older one."
        ) from error
    rank = ranks.rank()
    if rank < len(generators):  # with more ranks than before, the new ones start from their seeds
        torch.set_rng_state(generators[rank].clone())  # clone: torch reads from the start of the storage
    return updates


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Turns an error of writing into ``folder`` into an OSError with the path and the free space."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        free = ""
        with suppress(OSError):
            free = f", {shutil.disk_usage(folder).free / 2**30:.2f} GiB free"
        number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (errno.EIO, str(error))
        raise OSError(number, f"{text}{free}", str(getattr(error, "filename", None) or folder)) from error


def _file(number: int) -> str:
    return f"learner-{number:05}.safetensors"


def _generators() -> torch.Tensor:
    """[ranks, bytes] the state of every rank's generator."""
    own = torch.get_rng_state()
    if not dist.is_initialized():
        return own[None]
    all_ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(all_ranks, own)
    return torch.stack(all_ranks)


def _known(folder: Path, name: str, shape: tuple[int, ...], parameter: torch.Tensor | None) -> torch.Tensor:
    """The parameter. Raises CheckpointError when it is None, or the state has another shape."""
    if parameter is None:
        raise CheckpointError(f"{folder} holds the optimizer state of {name!r}, which this model does not have")
    if shape and shape != parameter.shape:
        raise CheckpointError(
            f"{folder} holds the optimizer state of {name!r} in shape {shape}, "
            f"this model has it in shape {tuple(parameter.shape)}"
        )
    return parameter


def _own(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This rank's shard. AdamW's step count, a scalar, stays on the CPU."""
    return ranks.placed(whole, parameter) if whole.dim() else whole
