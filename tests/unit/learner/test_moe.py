"""Experts in the learner: measured, balanced and replayed exactly, whatever the split into micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sailrl.config.losses import Gspo, IcePop, MismatchConfig
from sailrl.data.batch import Sample, collate
from sailrl.errors import LearnerError
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.moe import CHANGED, COUNTS, Routers, load_metrics
from tests.fakes.tiny_learner import make_learner, make_prompt, make_samples, make_scope

LAYERS, EXPERTS, TOP_K = 2, 4, 2


@pytest.fixture(scope="module")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sailrl.demo import tiny_text

    folder = tmp_path_factory.mktemp("moe") / "model"
    tiny_text.build(folder, hidden_size=32, layers=LAYERS, experts=EXPERTS)
    return folder


def moe_learner(folder: Path, **config: Any) -> Learner:
    return make_learner(folder, Gspo(), MismatchConfig(correction=IcePop()), **config)


def _shake(learner: Learner, size: float) -> None:
    """Moves every router, so that tokens want other experts than before."""
    with torch.no_grad():
        for name, parameter in learner.policy.model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                draw = torch.Generator().manual_seed(5)
                parameter.add_(size * torch.randn(parameter.shape, generator=draw).to(parameter.dtype))


def _experts(learner: Learner, rows: list[int]) -> torch.Tensor:
    """[layers, N, K] what the routers choose by themselves."""
    batch = learner._collate(rows)
    with torch.no_grad(), learner.policy.routers.watch() as routing:
        learner.policy(batch)
    return routing.stacked().sort(-1).values


# --- measuring -----------------------------------------------------------------------------------------------------


def test_every_layer_has_a_router_and_a_dense_model_has_none(moe_folder: Path, tiny_folder: Path) -> None:
    assert len(Policy(str(moe_folder)).routers.names) == LAYERS
    assert Policy(str(tiny_folder)).routers.names == []


def test_counts_add_up_to_tokens_times_experts_per_token(moe_folder: Path) -> None:
    samples = make_samples(5)
    learner = moe_learner(moe_folder)
    learner.set_episode(samples)
    batch = learner._collate(list(range(5)))
    with torch.no_grad(), learner.policy.routers.watch() as routing:
        learner.policy(batch)
    counts = routing.metrics()[COUNTS]
    tokens = sum(sample.length - 1 for sample in samples)  # a shared prompt in each, nobody's last token
    assert counts.shape == (LAYERS, EXPERTS)
    assert counts.sum(1).tolist() == [tokens * TOP_K] * LAYERS


def test_load_metrics_of_hand_made_counts() -> None:
    # Layer 0: two of four experts share all tokens: entropy log 2 / log 4 = 0.5, two dead. Layer 1: even, none dead.
    counts = torch.tensor([[6.0, 6.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
    metrics = load_metrics({COUNTS: counts, CHANGED: torch.tensor(6.0)})
    assert metrics == pytest.approx(
        {
            "router/load_entropy/layer_0": 0.5,
            "router/load_entropy/layer_1": 1.0,
            "router/load_entropy/mean": 0.75,
            "router/dead_experts": 2.0,
            "router/changed_fraction": 6 / 24,
        }
    )
    assert load_metrics({}) == {}


def test_the_load_of_an_update_is_the_same_for_every_split(moe_folder: Path) -> None:
    outcomes = []
    for budget in (1, 40, 10_000):
        learner = moe_learner(moe_folder, max_tokens_per_microbatch=budget)
        learner.set_episode(make_samples(6))
        metrics = learner.update(range(6), make_scope(make_samples(6)))
        outcomes.append({name: value for name, value in metrics.items() if name.startswith("router/")})
    assert "router/load_entropy/layer_1" in outcomes[0]
    assert outcomes[1] == pytest.approx(outcomes[0])
    assert outcomes[2] == pytest.approx(outcomes[0])


def test_a_probe_set_has_a_load_of_its_own_and_a_dense_model_none(moe_folder: Path, tiny_folder: Path) -> None:
    prompts = [make_prompt(range(10, 20)), make_prompt(range(40, 47))]
    load = moe_learner(moe_folder).expert_load(prompts)
    assert 0 < load["router/probe/load_entropy/mean"] <= 1
    assert make_learner(tiny_folder).expert_load(prompts) == {}


# --- the balancing loss --------------------------------------------------------------------------------------------


def _router_gradient(folder: Path, budget: int, coefficient: float) -> torch.Tensor:
    learner = moe_learner(folder, max_tokens_per_microbatch=budget, router_aux_coef=coefficient)
    samples = make_samples(6)
    learner.set_episode(samples)
    balance = learner._expert_load(range(6)) if coefficient else None
    for rows in learner._split(range(6)):
        learner.forward_backward(rows, make_scope(samples), balance)
    gradients = [p.grad for n, p in learner.policy.model.named_parameters() if n.endswith("mlp.gate.weight")]
    return torch.cat([g.flatten() for g in gradients if g is not None])


@pytest.mark.parametrize("budget", [1, 40])
def test_the_balancing_gradient_is_the_same_for_every_split(moe_folder: Path, budget: int) -> None:
    whole = _router_gradient(moe_folder, 10_000, 0.1)
    difference = _router_gradient(moe_folder, budget, 0.1) - whole
    assert difference.norm() < 1e-5 * whole.norm()  # float32: grouped products know no float64


def test_the_balancing_loss_is_off_by_default_and_changes_the_gradient_when_on(moe_folder: Path) -> None:
    off, on = _router_gradient(moe_folder, 10_000, 0.0), _router_gradient(moe_folder, 10_000, 0.1)
    assert (on - off).norm() > 1e-3 * off.norm()
    learner = moe_learner(moe_folder)
    learner.set_episode(make_samples(4))
    assert "router/balance_loss" not in learner.update(range(4), make_scope(make_samples(4)))


def test_the_balancing_loss_of_undecided_routers_is_one(moe_folder: Path) -> None:
    # Scores of 0 give every expert P = 1/E, and the shares f sum to 1 whoever wins the ties: E sum f / E = 1.
    learner = moe_learner(moe_folder, router_aux_coef=0.1, max_tokens_per_microbatch=40)
    with torch.no_grad():
        for name, parameter in learner.policy.model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                parameter.zero_()
    samples = make_samples(6)
    learner.set_episode(samples)
    assert learner.update(range(6), make_scope(samples))["router/balance_loss"] == pytest.approx(1.0, rel=1e-5)


def test_balancing_evens_out_a_skewed_load(moe_folder: Path) -> None:
    def entropy_after(coefficient: float) -> float:
        learner = moe_learner(moe_folder, router_aux_coef=coefficient, learning_rate=3e-3)
        samples = make_samples(8, vocabulary=2)  # two different tokens lean on few experts
        for sample in samples:
            object.__setattr__(sample, "advantage", 0.0)  # nothing but the balancing loss is learned
        learner.set_episode(samples)
        for _ in range(30):
            metrics = learner.update(range(8), make_scope(samples))
        return metrics["router/load_entropy/mean"]

    assert entropy_after(1.0) > entropy_after(0.0) + 0.02


# --- routing replay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("budget", [30, 10_000])
def test_r2_gives_a_ratio_that_router_changes_alone_cannot_move(
    moe_folder: Path, budget: int, checkpointing: bool
) -> None:
    # With the experts of pi_old replayed, an update right after the recording has the old log-probs exactly.
    learner = moe_learner(moe_folder, routing_replay="r2", max_tokens_per_microbatch=budget)
    if checkpointing:
        learner.policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    samples = make_samples(6)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    metrics = learner.update(range(6), make_scope(samples))
    assert metrics["ratio/max"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["router/changed_fraction"] == 0.0


def test_r2_uses_the_recorded_experts_after_the_routers_have_moved(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder, routing_replay="r2")
    samples, rows = make_samples(6), list(range(6))
    learner.set_episode(samples)
    recorded = _experts(learner, rows)
    learner.compute_old_logprobs()
    _shake(learner, 0.2)
    assert not torch.equal(_experts(learner, rows), recorded)  # by themselves they would now choose others
    batch = learner._collate(rows)
    replay = learner._routes.replay(rows, batch.lengths)
    with torch.no_grad(), learner.policy.routers.watch(replay=replay) as routing:
        learner.policy(batch)
    assert torch.equal(routing.stacked().sort(-1).values, recorded)
    assert 0 < learner.update(rows, make_scope(samples))["router/changed_fraction"] < 1


def test_replayed_scores_come_from_the_current_routers(moe_folder: Path) -> None:
    # R2 fixes which experts, not how much each counts: the routers still get a gradient.
    learner = moe_learner(moe_folder, routing_replay="r2")
    samples = make_samples(4)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    learner.forward_backward(range(4), make_scope(samples))
    gates = [p for n, p in learner.policy.model.named_parameters() if n.endswith("mlp.gate.weight")]
    assert all(gate.grad is not None and gate.grad.norm() > 0 for gate in gates)


def test_without_replay_the_routers_choose_anew(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder)
    samples = make_samples(4)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    assert "router/changed_fraction" not in learner.update(range(4), make_scope(samples))


def test_a_recording_of_other_tokens_is_refused(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder, routing_replay="r2")
    samples = make_samples(4)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    learner._samples = make_samples(4, seed=9)  # other lengths
    with pytest.raises(LearnerError, match=r"routing replay has \d+ tokens of sample \d, which has \d+ tokens"):
        learner.update(range(4), make_scope(samples))


def test_a_recording_with_another_number_of_layers_is_refused(moe_folder: Path) -> None:
    policy = Policy(str(moe_folder))
    batch = collate(make_samples(2))
    tokens = sum(batch.lengths)
    for layers, message in ((1, "layer 1 asks for"), (3, "holds 3 layers, but 2 were run")):
        replay = torch.zeros(layers, tokens, TOP_K, dtype=torch.int16)
        with pytest.raises(LearnerError, match=message), policy.routers.watch(replay=replay):
            policy(batch)


def test_replay_for_a_dense_model_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(
        LearnerError, match=r"routing_replay is r2, but this model has no experts.*routing_replay: none"
    ):
        make_learner(tiny_folder, routing_replay="r2")


def _from_engine(learner: Learner, samples: list[Sample], permute: Callable[[int], int] = lambda e: e) -> list[Sample]:
    """The samples as an engine with the same weights would return them: all choices but those for the last token."""
    learner.set_episode([replace(sample, experts=_nowhere(sample)) for sample in samples])
    batch = learner._collate(range(len(samples)))
    with torch.no_grad(), learner.policy.routers.watch() as routing:
        learner.policy(batch)
    chosen = np.vectorize(permute)(routing.stacked().numpy()).astype(np.uint8)
    ends = np.cumsum(batch.lengths)
    rows = np.split(chosen, ends[:-1], axis=1)
    return [replace(sample, experts=row) for sample, row in zip(samples, rows, strict=True)]


def _nowhere(sample: Sample) -> np.ndarray:
    return np.zeros((LAYERS, sample.length - 1, TOP_K), np.uint8)


def _old(learner: Learner, samples: list[Sample]) -> torch.Tensor:
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    assert learner._old_logp is not None
    return torch.cat(learner._old_logp)


@pytest.mark.parametrize("budget", [30, 10_000])
def test_r3_with_the_learners_own_choices_gives_its_log_probs_bit_for_bit(moe_folder: Path, budget: int) -> None:
    samples = make_samples(6)
    free = _old(moe_learner(moe_folder, max_tokens_per_microbatch=budget), samples)
    learner = moe_learner(moe_folder, routing_replay="r3", max_tokens_per_microbatch=budget)
    returned = _from_engine(learner, samples)
    assert torch.equal(_old(learner, returned), free)
    metrics = learner.update(range(6), make_scope(samples))
    assert metrics["ratio/max"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["router/changed_fraction"] == 0.0


def test_r3_with_other_experts_gives_other_log_probs_in_the_old_policy_and_the_update(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder, routing_replay="r3")
    samples = make_samples(6)
    own = _old(learner, _from_engine(learner, samples))
    permuted = _from_engine(learner, samples, lambda expert: (expert + 1) % EXPERTS)
    assert (_old(learner, permuted) - own).abs().max() > 1e-3
    metrics = learner.update(range(6), make_scope(samples))  # the same experts again: the ratio is 1
    assert metrics["ratio/max"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["router/changed_fraction"] > 0.2


def test_of_a_shared_prompt_r3_replays_what_the_engine_chose_in_the_sample_that_brings_it(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder, routing_replay="r3")
    short, long = _from_engine(learner, make_samples(2))
    assert short.length < long.length  # the longest comes first, and brings the prompt
    prompt, response = len(short.prompt_ids), len(short.response_ids)
    assert short.experts is not None
    chosen = short.experts.copy()
    chosen[:, :prompt] = (chosen[:, :prompt] + 1) % EXPERTS  # what it might have been at another time
    other = replace(short, experts=chosen)
    together = _old(learner, [short, long])
    assert torch.equal(_old(learner, [other, long]), together)
    assert (_old(learner, [other]) - together[:response]).abs().max() > 1e-3  # by itself it brings its own


def test_r3_holds_in_the_only_update_of_an_episode_which_has_no_pass_of_the_old_policy(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder, routing_replay="r3", router_aux_coef=0.1)
    samples = make_samples(6)
    learner.set_episode(_from_engine(learner, samples))
    _shake(learner, 0.2)
    assert 0 < learner.update(range(6), make_scope(samples))["router/changed_fraction"] < 1


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        # Sample 1 of this seed has 18 tokens; the engine reads all but the last.
        (np.s_[:, :-1], r"returned experts of shape \(2, 16, 2\) .* sample 1, where the learner needs \(2, 17, 2\)"),
        (np.s_[:1], r"shape \(1, 17, 2\) .* needs \(2, 17, 2\)"),
        (np.s_[:, :, :1], r"shape \(2, 17, 1\) .* needs \(2, 17, 2\)"),
    ],
)
def test_r3_refuses_experts_of_other_tokens_or_layers_before_anything_runs(
    moe_folder: Path, cut: Any, message: str
) -> None:
    learner = moe_learner(moe_folder, routing_replay="r3")
    samples = _from_engine(learner, make_samples(3))
    assert samples[1].length == 18
    assert samples[1].experts is not None
    samples[1] = replace(samples[1], experts=samples[1].experts[cut])
    with pytest.raises(LearnerError, match=message):
        learner.set_episode(samples)


def test_r3_refuses_samples_without_experts_and_experts_that_do_not_exist(moe_folder: Path) -> None:
    learner = moe_learner(moe_folder, routing_replay="r3")
    with pytest.raises(LearnerError, match="sample 0 has none"):
        learner.set_episode(make_samples(2))
    samples = _from_engine(learner, make_samples(2), lambda expert: expert + 1)
    with pytest.raises(LearnerError, match="returned expert 4 for sample 0, but the learner's layers have 4"):
        learner.set_episode(samples)


# --- precision -----------------------------------------------------------------------------------------------------


def test_routers_score_in_float32_under_bfloat16(moe_folder: Path) -> None:
    def logits(float32: bool) -> torch.Tensor:
        policy = Policy(str(moe_folder), dtype="bfloat16", router_float32=float32)
        batch = collate(make_samples(3))
        with torch.no_grad(), policy.routers.watch() as routing:
            policy(batch)
        return routing.logits[0]

    exact, rounded = logits(True), logits(False)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert torch.allclose(exact, rounded.float(), atol=0.02)
    assert not torch.equal(exact, rounded.float())


def test_a_router_hook_alone_changes_nothing_in_float32(moe_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    prompt = make_prompt(range(20, 40))
    ids = torch.tensor([list(prompt.token_ids)])
    plain = AutoModelForCausalLM.from_pretrained(moe_folder, dtype=torch.float32)
    with torch.no_grad():
        logp = plain(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    mine = Policy(str(moe_folder)).prompt_logprobs(prompt)
    assert mine == pytest.approx(logp.tolist(), abs=1e-5)
    assert all(math.isfinite(value) for value in mine)


# --- Qwen3-VL-MoE --------------------------------------------------------------------------------------------------


def test_the_routers_of_qwen3_vl_moe_are_found_recorded_and_replayed() -> None:
    from transformers.models.qwen3_vl_moe.configuration_qwen3_vl_moe import Qwen3VLMoeTextConfig
    from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeTextModel

    torch.manual_seed(0)
    model = Qwen3VLMoeTextModel(
        Qwen3VLMoeTextConfig(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            num_experts=EXPERTS,
            num_experts_per_tok=TOP_K,
            moe_intermediate_size=16,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
        )
    )
    routers = Routers(model)
    text = np.arange(10, dtype=np.int32)
    batch = collate([Sample(text, text[:0], np.zeros(0, np.float32), 0.0)])

    def hidden() -> torch.Tensor:
        routers.set_batch(batch)
        return model(input_ids=batch.input_ids[None]).last_hidden_state

    with torch.no_grad():
        with routers.watch() as first:
            plain = hidden()
        with routers.watch(replay=first.stacked()) as second:
            replayed = hidden()
        with routers.watch(replay=(first.stacked() + 1) % EXPERTS):
            other = hidden()
    assert first.stacked().shape == (2, 10, TOP_K)
    assert float(second.metrics()[CHANGED]) == 0
    assert torch.allclose(replayed, plain, atol=1e-6)
    assert not torch.allclose(other, plain, atol=1e-3)
