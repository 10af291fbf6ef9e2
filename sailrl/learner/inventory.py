"""Checks that a model folder has every tensor of its architecture, from the headers of its files, within a second.

transformers fills missing tensors with random numbers, and training would continue from those. The check lets
transformers load tensors on the meta device (shapes without memory), so that renamed, fused and tied tensors, and those
that a model leaves out on purpose, count as they do when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sailrl.config.model_files import tensor_shapes, weight_files
from sailrl.errors import ConfigError
from sailrl.families import family_at
from sailrl.learner.weights import CheckpointWeights

LISTED = 5


def check_tensors(weights: str | Path, *, like: str | Path | None = None, trust_remote_code: bool = False) -> None:
    """Compares the tensors in a folder with those of a model. A name on the hub passes, since its files may not be
    downloaded yet, and so do quantized weights, which only engines read.

    Args:
        like: folder or hub name of the model that they must fit; by default the one in ``weights``.

    Raises:
        ConfigError: tensors are missing, unknown or of another shape (their names are in the message), or the config
            gives no model.
        DataError: a file is truncated.
    """
    folder = Path(weights).expanduser()
    files = weight_files(folder)
    if not files:
        return
    shapes = {name: shape for file in files for name, shape in tensor_shapes(folder / file).items()}
    with _silent(), torch.device("meta"):
        without_memory = {name: torch.empty(shape) for name, shape in shapes.items()}
        try:
            family = family_at(like or folder)
            config = family.config(like or folder, trust_remote_code=trust_remote_code)
            if getattr(config, "quantization_config", None) is not None:
                return
            model: Any = family.model_class().from_config(config, trust_remote_code=trust_remote_code)
        except ConfigError:
            raise
        except Exception as error:  # transformers raises many types
            text = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"the config.json of {like or folder} gives no model: {type(error).__name__}: {text}"
            ) from None
        try:
            _, found = type(model).from_pretrained(
                None,
                config=config,
                state_dict=without_memory,
                device_map="meta",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are listed instead of raised
                output_loading_info=True,
            )
        except RuntimeError as error:  # some of the experts that are fused while loading are missing
            gaps = {name for name, _, _ in CheckpointWeights(model, torch.float32).metadata()} - shapes.keys()
            if not gaps:
                raise ConfigError(f"the weights in {folder} cannot be loaded: {error}") from error
            found = {"missing_keys": gaps, "unexpected_keys": (), "mismatched_keys": ()}
    refuse_gaps(folder, model, found)


def refuse_gaps(weights: str | Path, model: Any, found: Mapping[str, Any]) -> None:
    """Raises ConfigError when transformers' report on a loaded model (``output_loading_info``) has faults."""
    wrong = [f"{name}, {list(a)} instead of {list(b)}" for name, a, b in found["mismatched_keys"]]
    faults = [
        _listed("missing", found["missing_keys"]),
        _listed("of another shape", wrong),
        _listed("unknown to the model", found["unexpected_keys"]),
    ]
    if any(faults):
        raise ConfigError(
            f"the tensors in {weights} are not those of its model, a {type(model).__name__}. "
            f"{'. '.join(filter(None, faults))}. A missing one would begin as random numbers. Copy or download the "
            "whole model again, or the config.json that belongs to these weights."
        )


def refuse_two_heads(weights: str | Path, model: Any) -> None:
    """Raises ConfigError for a loaded model whose files have another output layer than the embedding that its
    config.json says it is: transformers would keep both, and an engine the embedding alone."""
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied and model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise ConfigError(
            f"{weights} has an output layer that differs from its embedding, and its config.json has "
            "tie_word_embeddings: true, by which an engine takes the embedding for both. Write false there."
        )


def _listed(what: str, names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return f"{len(names):,} {what}: {', '.join(names[:LISTED])}{more}" if names else ""


@contextmanager
def _silent() -> Iterator[None]:
    """Turns off transformers' own report and progress bar."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
