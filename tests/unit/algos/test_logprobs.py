"""The tiled head against the plain one: value, gradient, precision, and that the logits never exist."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sailrl.algos.logprobs import token_logprobs


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The way everybody writes it, with the whole ``[N, V]`` in memory."""
    log_p = ((hidden @ weight.t() + bias) / temperature).log_softmax(dim=-1)
    return log_p.gather(1, targets[:, None]).squeeze(1), -(log_p.exp() * log_p).sum(dim=-1)


def inputs(n: int, hidden: int, vocab: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, hidden, generator=draw, dtype=torch.float64).to(dtype),
        torch.randn(vocab, hidden, generator=draw, dtype=torch.float64).to(dtype),
        torch.randint(0, vocab, (n,), generator=draw),
        torch.randn(vocab, generator=draw, dtype=torch.float64).to(dtype),
    )


def test_example_for_a_pencil() -> None:
    # Logits 0 and ln 3: probabilities 1/4 and 3/4; at temperature 1/2 the logits double: 1/10 and 9/10.
    hidden, weight = torch.ones(1, 1), torch.tensor([[1.0], [3.0]]).log()
    logp, entropy = token_logprobs(hidden, weight, torch.tensor([1]))
    assert logp.exp().item() == pytest.approx(0.75)
    assert entropy.item() == pytest.approx(0.562335, abs=1e-6)  # -(1/4 ln 1/4 + 3/4 ln 3/4)
    assert token_logprobs(hidden, weight, torch.tensor([0]), temperature=0.5)[0].exp().item() == pytest.approx(0.1)


@pytest.mark.parametrize("with_bias", [False, True])
def test_gradients_of_log_probability_and_entropy_pass_gradcheck(with_bias: bool) -> None:
    hidden, weight, targets, bias = inputs(5, 3, 7)
    leaves = [x.requires_grad_() for x in ((hidden, weight, bias) if with_bias else (hidden, weight))]

    def head(h: Tensor, w: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return token_logprobs(h, w, targets, temperature=0.7, chunk=2, vocab_chunk=3, bias=b)

    assert torch.autograd.gradcheck(head, leaves)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    vocab=st.integers(1, 12),
    chunk=st.integers(1, 10),
    vocab_chunk=st.integers(1, 13),
    temperature=st.sampled_from([0.5, 1.0, 1.7]),
    seed=st.integers(0, 99),
)
def test_every_tiling_gives_the_plain_result(
    n: int, vocab: int, chunk: int, vocab_chunk: int, temperature: float, seed: int
) -> None:
    hidden, weight, targets, bias = inputs(n, 4, vocab, seed)
    results = []
    for tiled in (True, False):
        h, w, b = (x.clone().requires_grad_() for x in (hidden, weight, bias))
        if tiled:
            out = token_logprobs(h, w, targets, temperature=temperature, chunk=chunk, vocab_chunk=vocab_chunk, bias=b)
        else:
            out = plain(h, w, targets, temperature, b)
        score = (out[0] * torch.arange(n)).sum() - 0.3 * out[1].sum()
        results.append((*(x.detach() for x in out), *torch.autograd.grad(score, (h, w, b))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-11)


def test_defaults_cover_sizes_that_are_no_multiple_of_a_tile() -> None:
    hidden, weight, targets, bias = inputs(1030, 4, 4100)
    torch.testing.assert_close(
        token_logprobs(hidden, weight, targets, bias=bias), plain(hidden, weight, targets, 1.0, bias)
    )


def test_frozen_head_or_frozen_body_gets_no_gradient_and_the_other_its_own() -> None:
    hidden, weight, targets, bias = inputs(6, 4, 9)
    for frozen in (0, 1):
        ours, theirs = [hidden.clone(), weight.clone()], [hidden.clone(), weight.clone()]
        ours[1 - frozen].requires_grad_()
        theirs[1 - frozen].requires_grad_()
        token_logprobs(ours[0], ours[1], targets)[0].sum().backward()
        plain(theirs[0], theirs[1], targets, 1.0, torch.zeros_like(bias))[0].sum().backward()
        torch.testing.assert_close(ours[1 - frozen].grad, theirs[1 - frozen].grad)
        assert ours[frozen].grad is None


def test_half_precision_inputs_keep_float32_statistics() -> None:
    # The reference takes the same rounded inputs and computes in float64: only rounding of the inputs is shared.
    hidden, weight, targets, _ = inputs(64, 32, 1000, dtype=torch.bfloat16)
    logp, entropy = token_logprobs(hidden, weight, targets, chunk=16, vocab_chunk=128)
    exact = plain(hidden.double(), weight.double(), targets, 1.0, torch.zeros(1000, dtype=torch.float64))
    assert logp.dtype == entropy.dtype == torch.float32
    assert (logp - exact[0]).abs().max() < 1e-4
    assert (entropy - exact[1]).abs().max() < 1e-4
    rounded = (hidden @ weight.t()).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)  # negative control
    assert (rounded - exact[0]).abs().max() > 1e-2


def test_gradients_come_back_in_the_dtype_of_their_inputs() -> None:
    hidden, weight, targets, _ = inputs(8, 4, 20, dtype=torch.bfloat16)
    hidden.requires_grad_(), weight.requires_grad_()
    token_logprobs(hidden, weight, targets)[0].sum().backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16


def test_autocast_does_not_round_the_head() -> None:
    hidden, weight, targets, _ = inputs(16, 8, 50, dtype=torch.float32)
    outside = token_logprobs(hidden, weight, targets)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = token_logprobs(hidden, weight, targets)[0]
    assert torch.equal(inside, outside)


def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    hidden = torch.tensor([[1.0], [-1.0]])
    weight = torch.tensor([[1e4], [0.0], [-1e4]])
    logp, entropy = token_logprobs(hidden, weight, torch.tensor([0, 0]), vocab_chunk=1)
    assert logp.tolist() == [0.0, -2e4]
    assert entropy.tolist() == [0.0, 0.0]


def test_a_bias_of_minus_infinity_bans_entries_without_nan() -> None:
    # Even logits over six entries, four of them banned: two are left with probability 1/2 each.
    hidden, weight = torch.zeros(1, 2, requires_grad=True), torch.zeros(6, 2, requires_grad=True)
    bias = torch.tensor([float("-inf")] * 4 + [0.0, 0.0])
    logp, entropy = token_logprobs(hidden, weight, torch.tensor([5]), vocab_chunk=2, temperature=0.5, bias=bias)
    assert logp.exp().item() == pytest.approx(0.5)
    assert entropy.item() == pytest.approx(0.693147, abs=1e-6)
    for grad in torch.autograd.grad((logp - 7 * entropy).sum(), (hidden, weight)):
        assert grad.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_half_precision_on_the_gpu_agrees_with_the_cpu() -> None:
    results = []
    for device in ("cpu", "cuda"):
        hidden, weight, targets, _ = (x.to(device) for x in inputs(300, 64, 3000, dtype=torch.bfloat16))
        hidden.requires_grad_(), weight.requires_grad_()
        logp, entropy = token_logprobs(hidden, weight, targets, temperature=0.8, chunk=128, vocab_chunk=1024)
        grads = torch.autograd.grad(logp.mean(), (hidden, weight))
        results.append([x.float().cpu() for x in (logp.detach(), entropy.detach(), *grads)])
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-3 * expected.abs().max().item())


class LargestTensor(TorchDispatchMode):
    """Remembers the largest storage that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return out


def test_the_logits_are_never_materialised() -> None:
    n, vocab = 200, 500
    hidden, weight, targets, bias = inputs(n, 4, vocab)
    leaf = hidden.clone().requires_grad_()
    with LargestTensor() as seen:
        token_logprobs(leaf, weight.clone().requires_grad_(), targets, chunk=32, vocab_chunk=64)[0].sum().backward()
    assert seen.elements <= 2 * 32 * 64
    with LargestTensor() as control:
        plain(leaf, weight, targets, 1.0, bias)[0].sum().backward()
    assert control.elements >= n * vocab


def test_bad_input_is_refused() -> None:
    hidden, weight, targets, _ = inputs(4, 3, 5)
    with pytest.raises(ValueError, match="must be"):
        token_logprobs(hidden, weight.t(), targets)
    with pytest.raises(ValueError, match="targets"):
        token_logprobs(hidden, weight, targets[:2])
    with pytest.raises(ValueError, match="temperature is 0"):
        token_logprobs(hidden, weight, targets, temperature=0.0)
    with pytest.raises(ValueError, match="chunk is 0"):
        token_logprobs(hidden, weight, targets, chunk=0)


def test_an_id_outside_the_vocabulary_gives_nan_and_not_a_number() -> None:
    hidden, weight, targets, _ = inputs(4, 3, 5)
    targets[1], targets[2] = -100, 5
    logp, entropy = token_logprobs(hidden, weight, targets, vocab_chunk=2)
    assert logp.isnan().tolist() == [False, True, True, False]
    assert entropy.isfinite().all()


def test_no_tokens_give_no_log_probabilities() -> None:
    hidden, weight, targets, _ = inputs(4, 3, 5)
    leaf = weight.clone().requires_grad_()
    logp, entropy = token_logprobs(hidden[:0], leaf, targets[:0])
    assert logp.shape == entropy.shape == (0,)
    logp.sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad == 0).all()
