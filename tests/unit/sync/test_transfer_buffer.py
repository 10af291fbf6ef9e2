"""The packing buffer of direct transfers holds the largest tensor, as vLLM's packer for IPC asks (on GPUs only)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sailrl.sync.transfer import buffer_bytes

GIB = 1 << 30


class Shapes:
    """Weights that are only their shapes."""

    def __init__(self, *shapes: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> None:
        self._shapes, self._dtype = shapes, dtype

    def metadata(self) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
        return [(f"w{number}", self._dtype, shape) for number, shape in enumerate(self._shapes)]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        raise AssertionError("only shapes are needed")


def test_the_embedding_of_an_8b_fits_whole() -> None:
    # 151,936 x 4,096 x 2 bytes
    assert buffer_bytes(Shapes((151_936, 4096), (4096,))) == 1_244_659_712


def test_small_models_keep_the_size_that_vllm_chose() -> None:
    assert buffer_bytes(Shapes((1000, 64))) == GIB
