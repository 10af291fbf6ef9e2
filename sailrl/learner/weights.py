"""The policy's weights with the names and shapes of a checkpoint, tensor by tensor, for engines that get weights
without a folder."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import torch

from sailrl.errors import LearnerError
from sailrl.learner.ranks import gathered

_BLOCK = re.compile(r".*?\.\d+(?=\.)")
"""Up to the first number of a name: ``model.layers.3``."""


class CheckpointWeights:
    """The tensors that ``save_pretrained`` would write. Iterate once per publish.

    In memory transformers 5 fuses experts and renames parts of some models; engines load the names of checkpoints. So
    the steps of ``save_pretrained`` (transformers 5.19, ``modeling_utils``) are repeated here: leave out what is not
    saved, drop tied copies, revert the conversions made at loading. Layer by layer, so that only one layer at a time
    is in memory twice; sharded parameters are gathered (a collective: every rank iterates, in the same order).

    Args:
        model: a transformers model.
        dtype: the engine's precision. One for all tensors, since vLLM packs tensors of one width together.

    Raises:
        LearnerError: this model's names cannot be reverted.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        special = "quantized" if getattr(model, "hf_quantizer", None) is not None else ""
        special = "an adapter" if getattr(model, "peft_config", None) else special
        if special:
            raise _refusal(model, f"it is {special}")
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        # On the meta device tied tensors are recognised by their parameters; shards have no common address.
        state = {name: _on_meta(tensor) for name, tensor in model.state_dict().items()}
        for name in model._keys_to_ignore_on_save or ():
            state.pop(name, None)
        kept = remove_tied_weights_from_state_dict(state, model)
        blocks = sorted((block_of(name), name) for name in kept)
        self._blocks = [[n for _, n in names] for _, names in itertools.groupby(blocks, key=lambda pair: pair[0])]
        self._metadata = [
            (name, self._sent(tensor.dtype), tuple(tensor.shape))
            for block in self._blocks
            for name, tensor in self._revert({n: kept[n] for n in block})
        ]
        names = [name for name, _, _ in self._metadata]
        if len(set(names)) < len(names):
            raise _refusal(model, "some of its parameters are converted across layers")

    def metadata(self) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
        """``(name, dtype, shape)`` of everything that iteration yields, in its order, without gathering anything."""
        return self._metadata

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields ``(name, tensor)``, whole tensors on the model's device in the dtype to send."""
        state = self._model.state_dict()
        for block in self._blocks:
            for name, tensor in self._revert({n: gathered(state[n]) for n in block}):
                yield name, tensor.to(self._sent(tensor.dtype))

    def _sent(self, dtype: torch.dtype) -> torch.dtype:
        return self._dtype if dtype.is_floating_point else dtype

    def _revert(self, state: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        from transformers.core_model_loading import revert_weight_conversion

        try:
            return list(revert_weight_conversion(self._model, state).items())
        except Exception as error:  # for any error of a conversion the fix is the same
            raise _refusal(self._model, f"{type(error).__name__}: {error}") from error


def publish_layout(model: Any) -> None:
    """Makes ``save_pretrained`` write weights in the layout of the model's published checkpoints, which vLLM reads.

    transformers 5.19 transposes the experts of some models (published as [E, H, 2I], in memory [E, 2I, H]) while
    loading, if their shape is the published one. It checks the same when saving, and so never transposes them back.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import PrefixChange, Transpose

    conversions = getattr(model, "_weight_conversions", None)
    if conversions is None:  # not loaded, but built: the conversions that save_pretrained would use
        built = get_model_conversion_mapping(model, add_legacy=False)
        conversions = [conversion for conversion in built if not isinstance(conversion, PrefixChange)]
    steps = [step for conversion in conversions for step in getattr(conversion, "operations", ())]
    transposes = [step for step in steps if isinstance(step, Transpose)]
    for step in transposes:
        step.check_dims = False
    if transposes:
        model._weight_conversions = conversions


def block_of(name: str) -> str:
    """The layer of a parameter by its name, such as ``model.layers.3``; empty outside of layers."""
    found = _BLOCK.match(name)
    return found.group(0) if found else ""


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without memory of the same shape and type; of the whole shape also for a shard."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _refusal(model: Any, why: str) -> LearnerError:
    return LearnerError(
        f"the weights of {type(model).__name__} cannot be sent under the names of its checkpoint ({why}). "
        "Write sync.method: disk, which lets transformers save them."
    )
