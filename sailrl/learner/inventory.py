"""Whether a model folder holds every tensor of its architecture, asked of the headers of its files in a second.

transformers fills what a folder lacks with random numbers, and training would go on from those. It is asked itself,
with tensors that have a shape and no memory, so that renamed and fused ones, tied heads and what a model leaves out on
purpose are counted as they are when it loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sailrl.config.model_files import tensor_shapes, weight_files
from sailrl.errors import ConfigError
from sailrl.learner.weights import CheckpointWeights

LISTED = 5


def check_tensors(weights: str | Path, *, like: str | Path | None = None, trust_remote_code: bool = False) -> None:
    """Compares the tensors in a folder with those of a model. A name on the hub passes, since its files may not be
    here yet, and so do quantized weights, which only engines read.

    Args:
        like: folder or hub name of the model that they have to fit; that in ``weights`` itself by default.

    Raises:
        ConfigError: tensors are missing, too many or of another shape, or the config gives no model; with names.
        DataError: a file is cut.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    folder = Path(weights).expanduser()
    files = weight_files(folder)
    if not files:
        return
    shapes = {name: shape for file in files for name, shape in tensor_shapes(folder / file).items()}
    with _silent(), torch.device("meta"):
        hollow = {name: torch.empty(shape) for name, shape in shapes.items()}
        try:
            config = AutoConfig.from_pretrained(like or folder, trust_remote_code=trust_remote_code)
            if getattr(config, "quantization_config", None) is not None:
                return
            auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
            model: Any = auto.from_config(config, trust_remote_code=trust_remote_code)
        except Exception as error:  # transformers has a kind for every occasion
            text = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"the config.json of {like or folder} gives no model: {type(error).__name__}: {text}"
            ) from None
        try:
            _, found = type(model).from_pretrained(
                None,
                config=config,
                state_dict=hollow,
                device_map="meta",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are listed instead of raised
                output_loading_info=True,
            )
        except RuntimeError as error:  # pieces that are fused while loading, experts, of which some are missing
            gaps = {name for name, _, _ in CheckpointWeights(model, torch.float32).metadata()} - shapes.keys()
            if not gaps:
                raise ConfigError(f"the weights in {folder} cannot be loaded: {error}") from error
            found = {"missing_keys": gaps, "unexpected_keys": (), "mismatched_keys": ()}
    refuse_gaps(folder, model, found)


def refuse_gaps(weights: str | Path, model: Any, found: Mapping[str, Any]) -> None:
    """Raises ConfigError when what transformers says of a loaded model (``output_loading_info``) is not "all of it"."""
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


def _listed(what: str, names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return f"{len(names):,} {what}: {', '.join(names[:LISTED])}{more}" if names else ""


@contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' own report and progress bar."""
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
