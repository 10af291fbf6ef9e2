"""A learner's state on disk: safetensors and JSON only, so that nothing read back can run code.

For that reason not torch's own distributed checkpoint: ``torch.distributed.checkpoint`` describes its files in a pickle
(``.metadata``), and reading a pickle can run code. Here every rank writes its own rows of the optimizer's state, layer
by layer, all ranks at the same time, and rank 0 writes where each row is. Any number of ranks can go on from that: each
reads its own rows only.
"""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
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
GENERATORS, RNG = "generators.safetensors", "rng_state"
ADAPTER = "adapter"

Piece = tuple[str, int, int]
"""A file, and the rows of a tensor that are in it: the first, and one past the last."""
Found = tuple[Any, int, int]
"""A slice of safetensors, not yet read, and its rows."""


def save(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, scale: LossScale, updates: int) -> None:
    """Writes the model (``folder/model``, loads in transformers as is), the optimizer, the generators, the count and,
    in float16, the loss scale.

    With an adapter, ``folder/model`` has it merged, to be used as a model, and ``folder/adapter`` has it in peft's
    format: a resumed run loads it on top of the base model that the run started from.

    A collective. Every rank holds its own moments of one layer at a time in host memory, rank 0 the whole model.

    Raises:
        OSError: after all collectives are done, so that the ranks stay in step.
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
    own: list[tuple[str, Piece]] = []
    by_block = itertools.groupby(policy.named_parameters(), key=lambda pair: block_of(pair[0]))
    for number, (_, parameters) in enumerate(by_block):
        file, tensors = _file(number), dict[str, torch.Tensor]()
        for name, parameter in parameters:
            for key, value in optimizer.state.get(parameter, {}).items():
                rows = ranks.rows_to_write(value)
                if rows is not None:
                    tensors[f"{key}/{name}"] = ranks.local(value.detach()).cpu().contiguous()
                    own.append((f"{key}/{name}", (file, *rows)))
        if tensors:
            folder.mkdir(parents=True, exist_ok=True)
            attempt(save_file, tensors, folder / file)
    generators, pieces = _generators(), ranks.from_all(own)
    if ranks.first():
        attempt(save_file, {RNG: generators}, folder / GENERATORS)
        where: dict[str, list[Piece]] = {}
        for key, piece in itertools.chain.from_iterable(pieces):
            where.setdefault(key, []).append(piece)
        state = {"updates": updates, "pieces": where} | scale.state_dict()
        attempt((folder / STATE).write_text, json.dumps(state), "utf-8")
    if failures:
        raise failures[0]


def restore(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, scale: LossScale) -> int:
    """Restores optimizer, generator and loss scale; returns the number of updates made. Every rank reads its rows.

    Raises:
        CheckpointError: a file is missing or damaged, or holds the state of another model.
    """
    if policy.has_adapter != (folder / ADAPTER).is_dir():
        held, asked = ("the whole model", "an adapter") if policy.has_adapter else ("an adapter", "the whole model")
        raise CheckpointError(f"{folder} holds {held}, and model.lora asks for {asked}. Set model.lora back.")
    if policy.has_adapter:
        policy.load_adapter(folder / ADAPTER)
    parameters = dict(policy.named_parameters())
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        updates, pieces = int(state["updates"]), state["pieces"]
        scale.load_state_dict(state)
        with ExitStack() as open_files:

            @cache
            def opened(file: str) -> Any:
                return open_files.enter_context(safe_open(folder / file, "pt"))

            for key, parts in pieces.items():
                kind, _, name = key.partition("/")
                found = [(opened(file).get_slice(key), start, stop) for file, start, stop in parts]
                parameter = _known(folder, name, found, parameters.get(name))
                optimizer.state[parameter][kind] = _own(found, parameter)
            generators = opened(GENERATORS).get_tensor(RNG)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be resumed: {type(error).__name__}: {error}. Remove it to fall back on an older one."
        ) from error
    rank = ranks.rank()
    if rank < len(generators):  # with more ranks than before, the new ones start from their seeds
        torch.set_rng_state(generators[rank].clone())  # clone: torch reads from the start of the storage
    return updates


def missing(folder: Path) -> list[str]:
    """The files of the learner that this machine does not see in a folder that ``save`` has just written."""
    try:
        pieces = json.loads((folder / STATE).read_text(encoding="utf-8"))["pieces"]
    except FileNotFoundError:
        return [STATE]
    files = {file for parts in pieces.values() for file, _, _ in parts} | {GENERATORS}
    return sorted(file for file in files if not (folder / file).is_file())


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
    return f"learner-{ranks.rank():03}-{number:05}.safetensors"


def _generators() -> torch.Tensor:
    """[ranks, bytes] the state of every rank's generator."""
    own = torch.get_rng_state()
    if not dist.is_initialized():
        return own[None]
    all_ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(all_ranks, own)
    return torch.stack(all_ranks)


def _known(folder: Path, name: str, found: Sequence[Found], parameter: torch.Tensor | None) -> torch.Tensor:
    """The parameter. Raises CheckpointError when it is None, or the state has another shape."""
    if parameter is None:
        raise CheckpointError(f"{folder} holds the optimizer state of {name!r}, which this model does not have")
    first = tuple(found[0][0].get_shape())
    shape = (sum(stop - start for _, start, stop in found), *first[1:])
    if first and shape != parameter.shape:
        raise CheckpointError(
            f"{folder} holds the optimizer state of {name!r} in shape {shape}, "
            f"this model has it in shape {tuple(parameter.shape)}"
        )
    return parameter


def _own(found: Sequence[Found], parameter: torch.Tensor) -> torch.Tensor:
    """This rank's rows. AdamW's step count, a scalar, stays on the CPU."""
    if not found[0][0].get_shape():
        return found[0][0][...]
    first, last = ranks.own_rows(parameter)
    whole = torch.empty_like(parameter)
    for piece, start, stop in found:
        begin, end = max(first, start), min(last, stop)
        if begin < end:
            ranks.local(whole)[begin - first : end - first] = piece[begin - start : end - start]
    return whole
