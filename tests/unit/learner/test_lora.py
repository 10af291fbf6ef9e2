"""LoRA: only the adapter learns, what is published is the model with it, and the base is never touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from sailrl.config.schema import LoraConfig
from sailrl.data.batch import collate
from sailrl.errors import CheckpointError, LearnerError
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.weights import CheckpointWeights
from tests.fakes.tiny_learner import make_learner, make_prompt, make_samples, make_scope, same

SMALL = LoraConfig(rank=4, alpha=8)
PROMPT = make_prompt(range(20, 50))


def adapted(folder: Path, lora: LoraConfig = SMALL, updates: int = 3, **config: Any) -> Learner:
    """A learner with an adapter that has learned a little."""
    learner = make_learner(folder, adapter=lora, **config)
    samples = make_samples(6)
    learner.set_episode(samples)
    for _ in range(updates):
        learner.update(range(6), make_scope(samples))
    return learner


def state(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in learner.policy.model.named_parameters()}


def test_a_fresh_adapter_changes_nothing_and_is_the_same_on_every_rank(tiny_folder: Path) -> None:
    plain, batch = Policy(str(tiny_folder)), collate(make_samples(5))
    torch.manual_seed(1)  # ranks have seeds of their own
    one = Policy(str(tiny_folder), adapter=SMALL)
    torch.manual_seed(2)
    other = Policy(str(tiny_folder), adapter=SMALL)
    assert torch.equal(one(batch)[0], plain(batch)[0])
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_only_the_adapter_learns(tiny_folder: Path) -> None:
    before, learner = state(adapted(tiny_folder, updates=0)), adapted(tiny_folder)
    after = state(learner)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if ".lora_" in name}
    # Seven weights in the one layer, each with two factors.
    assert len(moved) == 14
    assert {id(p) for g in learner.optimizer.param_groups for p in g["params"]} == {
        id(p) for n, p in learner.policy.model.named_parameters() if n in moved
    }


def test_what_is_published_computes_what_the_learner_computes(tiny_folder: Path, tmp_path: Path) -> None:
    learner = adapted(tiny_folder)
    learner.export(tmp_path)
    published = Policy(str(tmp_path))
    assert not any(".lora_" in name for name, _ in published.model.named_parameters())
    mine, theirs = learner.policy.prompt_logprobs(PROMPT), published.prompt_logprobs(PROMPT)
    assert theirs == pytest.approx(mine, abs=1e-5)
    # The negative control: the base alone, which a publish without a merge would give.
    assert Policy(str(tiny_folder)).prompt_logprobs(PROMPT) != pytest.approx(mine, abs=1e-2)


def test_publishing_leaves_the_base_as_it_was_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    learner = adapted(tiny_folder)
    before = state(learner)
    for version in range(3):
        learner.export(tmp_path / str(version))
    assert same(before, state(learner))
    first, last = (AutoModelForCausalLM.from_pretrained(tmp_path / str(v)).state_dict() for v in (0, 2))
    assert same(first, last)


def test_peft_reads_the_adapter_of_a_checkpoint_on_its_base(tiny_folder: Path, tmp_path: Path) -> None:
    from peft import PeftConfig, PeftModel

    learner = adapted(tiny_folder)
    learner.save(tmp_path)
    assert PeftConfig.from_pretrained(str(tmp_path / "adapter")).base_model_name_or_path == str(tiny_folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    ids = torch.tensor([PROMPT.token_ids])
    with torch.no_grad():
        logits = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))(ids).logits[0, :-1]
    expected = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    assert learner.policy.prompt_logprobs(PROMPT) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_resumed_adapter_goes_on_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    first, samples = adapted(tiny_folder), make_samples(6)
    first.save(tmp_path)
    second = make_learner(tiny_folder, adapter=SMALL)
    second.restore(tmp_path)
    assert same(state(first), state(second))
    for learner in (first, second):
        learner.set_episode(samples)
        learner.compute_old_logprobs()
        for _ in range(2):
            learner.update(range(6), make_scope(samples))
    assert same(state(first), state(second))


def test_the_adapter_of_another_rank_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    adapted(tiny_folder).save(tmp_path)
    other = make_learner(tiny_folder, adapter=LoraConfig(rank=2))
    with pytest.raises(CheckpointError, match=r"of another rank than model\.lora"):
        other.restore(tmp_path)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="no adapter that can be read"):
        make_learner(tiny_folder, adapter=SMALL).restore(tmp_path)


def test_a_whole_model_and_an_adapter_are_not_taken_for_each_other(tiny_folder: Path, tmp_path: Path) -> None:
    make_learner(tiny_folder, adapter=SMALL).save(tmp_path / "adapter")
    make_learner(tiny_folder).save(tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"holds an adapter, and model\.lora asks for the whole model"):
        make_learner(tiny_folder).restore(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"holds the whole model, and model\.lora asks for an adapter"):
        make_learner(tiny_folder, adapter=SMALL).restore(tmp_path / "whole")


@pytest.mark.parametrize("module", ["lm_head", "qkv"])
def test_a_module_that_cannot_be_adapted_is_named_with_those_that_can(tiny_folder: Path, module: str) -> None:
    with pytest.raises(LearnerError, match=rf"target_modules has {module}, but .* are down_proj, gate_proj, k_proj"):
        Policy(str(tiny_folder), adapter=LoraConfig(target_modules=("q_proj", module)))


def test_a_stale_engine_is_explained_through_the_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    """The engine kept what was published first; the learner has moved on."""
    learner = adapted(tiny_folder, updates=1)
    learner.export(tmp_path)
    engine = learner.policy.prompt_logprobs(PROMPT)
    learner.set_episode(make_samples(6))
    for _ in range(3):
        learner.update(range(6), make_scope(make_samples(6)))
    assert learner.policy.prompt_logprobs(PROMPT) != pytest.approx(engine, abs=1e-3)
    found = learner.explain_weights(PROMPT, engine, None, str(tmp_path)).causes
    layers = ("model.layers.0.self_attn", "model.layers.0.mlp")
    assert set(found) <= {f"{layer} is still the previous version" for layer in layers}
    assert found
    assert learner.explain_weights(
        PROMPT, engine, str(tmp_path), None
    ).causes  # another folder than the present weights


def test_the_published_folder_is_compared_with_the_merged_weights(tiny_folder: Path, tmp_path: Path) -> None:
    learner = adapted(tiny_folder)
    learner.export(tmp_path)
    assert learner.explain_weights(PROMPT, learner.policy.prompt_logprobs(PROMPT), str(tmp_path), None).causes == ()


def test_weights_with_an_adapter_are_not_sent_tensor_by_tensor(tiny_folder: Path) -> None:
    policy = Policy(str(tiny_folder), adapter=SMALL)
    with pytest.raises(LearnerError, match=r"it is an adapter\).*sync\.method: disk"):
        CheckpointWeights(policy.model, torch.float32)


def test_tied_embeddings_stay_tied_in_what_is_published(tmp_path: Path) -> None:
    from sailrl.demo import tiny_text

    tiny_text.build(tmp_path / "base", hidden_size=32, layers=1, tie_embeddings=True)
    learner = adapted(tmp_path / "base")
    learner.export(tmp_path / "out")
    assert Policy(str(tmp_path / "out")).prompt_logprobs(PROMPT) == pytest.approx(
        learner.policy.prompt_logprobs(PROMPT), abs=1e-5
    )
