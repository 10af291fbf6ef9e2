"""An engine computes in the precision of the learner, or does not start."""

from __future__ import annotations

import pytest

from sailrl.errors import RolloutError
from sailrl.rollout.vllm_engine import _check_dtype


@pytest.mark.parametrize(("asked", "used"), [("float32", "torch.float32"), ("auto", "torch.bfloat16")])
def test_the_precision_that_was_asked_for_passes(asked: str, used: str) -> None:
    _check_dtype(asked, used)


def test_a_precision_that_vllm_fell_back_on_is_refused() -> None:
    with pytest.raises(RolloutError, match=r"computes in bfloat16 on this machine, and model\.dtype is float16"):
        _check_dtype("float16", "torch.bfloat16")
