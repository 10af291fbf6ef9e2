"""Two ranks that share the weights learn what one would: over gloo on CPU, everything here in one pair of processes.

In float64, so that only the order of additions is left to differ.
"""

from __future__ import annotations

import functools
import itertools
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from sailrl.config import losses
from sailrl.config.learner import LearnerConfig
from sailrl.config.losses import MismatchConfig
from sailrl.data.batch import Sample
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.demo import tiny_text, tiny_vlm
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective
from sailrl.learner.ranks import gathered
from sailrl.learner.reference import ReferencePolicy
from sailrl.learner.shard import shard
from sailrl.learner.supervised import SupervisedObjective
from sailrl.learner.vision import Vision
from sailrl.learner.weights import CheckpointWeights
from tests.fakes.tiny_learner import make_prompt, make_samples, make_scope
from tests.unit.learner.test_vision import Bench

pytestmark = pytest.mark.slow

PICTURES: list[tuple[int, ...]] = [(0,), (), (1, 2), (), (0,), ()]
"""Pictures of each row of the vision scenarios. Rank 0 holds the even rows, rank 1 the odd ones: only text."""
UPDATES = [[0, 1, 2, 3, 4, 5], [1, 3], [0, 2, 4], [1]]
"""The second has rows for rank 1 alone and no images, the third images for rank 0 alone, the fourth a single row."""


DAPO = losses.Dapo()


@dataclass(frozen=True)
class Scenario:
    """One learner and its updates."""

    model: str = "text"
    algorithm: Any = DAPO
    """Of RL, or the loss reduction of a supervised stage."""
    dtype: torch.dtype = torch.float64
    policy: dict[str, Any] | None = None
    learner: dict[str, Any] | None = None
    shard_ranks: int | None = None
    divide_by: float = 1.0


SCENARIOS = {
    "dapo with images": Scenario("vision"),
    "gspo with images": Scenario("vision", losses.Gspo()),
    "held near the start, with images": Scenario("vision", losses.Dapo(kl_coef=0.5, entropy_coef=0.1)),
    "imitation with images": Scenario("vision", "token_mean"),
    "imitation of samples": Scenario("vision", "sample_sum", policy={"activation_checkpointing": True}),
    "frozen tower": Scenario("vision", policy={"frozen": ("vision",)}),
    "activation checkpointing": Scenario("vision", policy={"activation_checkpointing": True}),
    "text": Scenario(),
    "tied": Scenario("tied"),
    "copies that sum their gradients": Scenario(shard_ranks=1),
    "experts": Scenario("experts", losses.Gspo(), dtype=torch.float32, learner={"router_aux_coef": 0.1}),
    "replayed experts": Scenario("experts", dtype=torch.float32, learner={"routing_replay": "r2"}),
    "float32": Scenario("vision", dtype=torch.float32),
    "bfloat16": Scenario("vision", dtype=torch.float32, policy={"dtype": "bfloat16"}),
    "float16": Scenario("vision", dtype=torch.float32, policy={"dtype": "float16"}),
    "copies in float32": Scenario(dtype=torch.float32, shard_ranks=1),
    "averaged": Scenario("vision", divide_by=2.0),
}


OVERFLOWS = ["text", "copies that sum their gradients"]
"""Scenarios in which float16 overflows: two halves of the weights, two copies of them."""


class Stage:
    """Models, pictures and samples: the same in every process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        bench = Bench(root / "vision", root / "images")
        self.seeing = [bench.sample(*pictures, seed=row) for row, pictures in enumerate(PICTURES)]
        self.blind = make_samples(6)

    def learner(self, scenario: Scenario, folder: Path | None = None) -> Learner:
        source = folder or self.root / scenario.model

        def build(*, empty: bool = False) -> Policy:
            processor = Processor(self.root / scenario.model)
            vision = Vision(processor, ImageStore(self.root / "images")) if processor.image_id is not None else None
            policy = Policy(str(source), vision=vision, empty=empty, **(scenario.policy or {}))
            return policy.to(scenario.dtype)

        def placed() -> Policy:
            if not dist.is_initialized():
                return build(empty=False)
            sharded = shard(build, torch.device("cpu"), shard_ranks=scenario.shard_ranks)
            for module in sharded.modules():
                if isinstance(module, FSDPModule):
                    module.set_gradient_divide_factor(scenario.divide_by)
            return sharded

        policy, reference = placed(), None
        objective: Objective | SupervisedObjective
        if isinstance(scenario.algorithm, str):
            objective = SupervisedObjective("token_mean" if scenario.algorithm == "token_mean" else "sample_sum")
        else:
            objective = Objective(scenario.algorithm, MismatchConfig(), max_response_tokens=12)
            reference = ReferencePolicy(policy, placed()) if scenario.algorithm.kl_coef else None
        section = {"learning_rate": 1e-3, "max_tokens_per_microbatch": 30} | (scenario.learner or {})
        return Learner(policy, objective, LearnerConfig(**section), reference)

    def learn(self, learner: Learner, scenario: Scenario, updates: list[list[int]]) -> list[dict[str, float]]:
        """The updates, with this rank's share of the rows; what was reported."""
        samples: list[Sample] = self.seeing if scenario.model == "vision" else self.blind
        ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        mine = list(range(rank, len(samples), ranks))
        learner.set_episode([samples[row] for row in mine])
        learner.compute_old_logprobs()
        reported = []
        for rows in updates:
            chosen = [samples[row] for row in rows]
            seeing = sum(len(s.response_ids) for s in chosen if s.images)
            scope = replace(make_scope(chosen), image_tokens=seeing)
            reported.append(learner.update([place for place, row in enumerate(mine) if row in rows], scope))
        return reported


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: gathered(value.detach()).clone() for name, value in learner.policy.model.named_parameters()}


def _outcome(stage: Stage, name: str) -> dict[str, Any]:
    """All updates of a scenario; what is held, reported and learned."""
    scenario = SCENARIOS[name]
    learner = stage.learner(scenario)
    held = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in learner.policy.parameters())
    reported = stage.learn(learner, scenario, UPDATES)
    probe = learner.prompt_logprobs([make_prompt(range(20, 28))])[0]
    return {"held": held, "reported": reported, "weights": _weights(learner), "probe": probe}


def _saved_and_resumed(stage: Stage, out: Path, name: str = "dapo with images") -> dict[str, Any]:
    """Saves after two updates, then goes on, once without a break and once from the checkpoint."""
    scenario = SCENARIOS[name]
    learner = stage.learner(scenario)
    stage.learn(learner, scenario, UPDATES[:2])
    learner.save(out)
    noise = torch.rand(3)
    on = stage.learn(learner, scenario, UPDATES[2:])
    if dist.is_initialized():
        dist.barrier()
    torch.manual_seed(12345)
    resumed = stage.learner(scenario, out / "model")
    resumed.restore(out)
    same_noise = torch.equal(torch.rand(3), noise)
    again = stage.learn(resumed, scenario, UPDATES[2:])
    return {
        "on": on,
        "again": again,
        "noise": same_noise,
        "weights": _weights(learner),
        "resumed": _weights(resumed),
        "updates": resumed.updates,
    }


def _rolled_back(stage: Stage) -> dict[str, Any]:
    """One update, two that are undone, and the same two again."""
    scenario = SCENARIOS["imitation with images"]
    learner = stage.learner(scenario)
    stage.learn(learner, scenario, UPDATES[:1])
    learner.keep_state()
    before = _weights(learner)
    tried = stage.learn(learner, scenario, UPDATES[1:3])
    moved = not _close(_weights(learner), before, 0.0)
    learner.roll_back()
    undone = _close(_weights(learner), before, 0.0)
    return {"moved": moved, "undone": undone, "tried": tried, "again": stage.learn(learner, scenario, UPDATES[1:3])}


def _resumed(stage: Stage, folder: Path) -> dict[str, Any]:
    """Goes on from a checkpoint of another number of ranks."""
    scenario = SCENARIOS["dapo with images"]
    learner = stage.learner(scenario, folder / "model")
    learner.restore(folder)
    reported = stage.learn(learner, scenario, UPDATES[2:])
    return {"reported": reported, "weights": _weights(learner)}


def _exported(stage: Stage, model: str, out: Path) -> bool:
    """Whether what engines are sent is what ``save_pretrained`` writes of the unsharded model."""
    learner = stage.learner(
        SCENARIOS["text"] if model == "text" else replace(SCENARIOS["text"], model=model, dtype=torch.float32)
    )
    learner.export(out / model)
    sent = dict(CheckpointWeights(learner.policy.model, torch.float32))
    dist.barrier()
    again = dict(CheckpointWeights(Policy(str(out / model)).model, torch.float32))
    return sent.keys() == again.keys() and all(torch.equal(sent[name], again[name].to(sent[name])) for name in sent)


def _overflow_on_rank_1(stage: Stage, name: str) -> dict[str, Any]:
    """An update that goes well, and two that overflow: by a loss of rank 1, to which rank 0 adds nothing, and by one
    number in what rank 1 keeps of the gradient."""
    scenario, rank = replace(SCENARIOS[name], dtype=torch.float32, policy={"dtype": "float16"}), dist.get_rank()
    learner = stage.learner(scenario)
    learner.loss_scale.value = 2.0**8
    before = _weights(learner)
    well = stage.learn(learner, scenario, UPDATES[3:])[0]
    after = _weights(learner)

    sample = replace(stage.blind[1], advantage=1e9)
    learner.set_episode([sample] * rank)
    by_loss = learner.update(range(rank), make_scope([sample]))

    for parameter in learner.policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    kept = next(learner.policy.parameters()).grad
    assert isinstance(kept, DTensor)
    if rank == 1 or scenario.shard_ranks == 1:  # copies have the same
        kept.to_local().view(-1)[-1] = torch.inf
    by_number = learner.optim_step()
    return {
        "outcomes": [well, by_loss, by_number],
        "moved": not _close(after, before, 0.0),
        "stayed": _close(_weights(learner), after, 0.0),
        "updates": learner.updates,
    }


def _rank(rank: int, root: Path, port: int) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=timedelta(seconds=240))
    stage = Stage(root)
    results: dict[str, Any] = {name: _outcome(stage, name) for name in SCENARIOS}
    results["saved by two"] = _saved_and_resumed(stage, root / "two")
    results["bit for bit"] = _saved_and_resumed(stage, root / "again", "float32")
    results["half"] = _saved_and_resumed(stage, root / "half", "float16")
    results["copies"] = _saved_and_resumed(stage, root / "copies", "copies in float32")
    results["overflow"] = {name: _overflow_on_rank_1(stage, name) for name in OVERFLOWS}
    results["rolled back"] = _rolled_back(stage)
    results["from one"] = _resumed(stage, root / "one")
    results["exported"] = {model: _exported(stage, model, root / "exported") for model in ("text", "tied", "experts")}
    torch.save(results, root / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    tiny_vlm.build(folder / "vision", hidden_size=32)
    tiny_text.build(folder / "text", hidden_size=32, layers=2)
    tiny_text.build(folder / "tied", hidden_size=32, layers=1, tie_embeddings=True)
    tiny_text.build(folder / "experts", hidden_size=32, layers=2, experts=4)
    return folder


@pytest.fixture(scope="module")
def stage(root: Path) -> Stage:
    return Stage(root)


@pytest.fixture(scope="module")
def saved_by_one(stage: Stage, root: Path) -> dict[str, Any]:
    return _saved_and_resumed(stage, root / "one")


@pytest.fixture(scope="module")
def pair(root: Path, saved_by_one: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of two ranks made of everything."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, args=(root, port), nprocs=2)
    return [torch.load(root / f"rank{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone(stage: Stage) -> Callable[[str], dict[str, Any]]:
    return functools.cache(functools.partial(_outcome, stage))


def _close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], error: float) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], rtol=0, atol=error) for name in a)


EXACT = [name for name, scenario in SCENARIOS.items() if scenario.dtype == torch.float64 and name != "averaged"]
HALF = ["bfloat16", "float16"]
ROUGH = [name for name, scenario in SCENARIOS.items() if scenario.dtype == torch.float32 and name not in HALF]


@pytest.mark.parametrize("name", EXACT)
def test_two_ranks_make_the_updates_of_one(pair: list[Any], alone: Callable[[str], Any], name: str) -> None:
    """Loss, gradient norm, all other metrics and weights; an update moves a weight by up to 1e-3."""
    expected = alone(name)
    for result in pair:
        for mine, whole in zip(result[name]["reported"], expected["reported"], strict=True):
            assert mine == pytest.approx(whole, rel=1e-6, abs=1e-6)
        assert _close(result[name]["weights"], expected["weights"], 1e-6)
        assert result[name]["probe"] == pytest.approx(expected["probe"], abs=1e-6)
    assert pair[0][name]["reported"] == pair[1][name]["reported"]  # and both ranks report the same, bit for bit


@pytest.mark.parametrize("name", ROUGH)
def test_in_float32_the_first_update_agrees_as_well(pair: list[Any], alone: Callable[[str], Any], name: str) -> None:
    """Later ones less: Adam makes a whole step of gradients that are rounding alone."""
    for result in pair:
        mine, whole = result[name]["reported"][0], alone(name)["reported"][0]
        assert mine == pytest.approx(whole, rel=1e-5, abs=1e-6)
        assert mine["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-6)


@pytest.mark.parametrize("name", HALF)
def test_in_half_precision_the_first_update_agrees_roughly(
    pair: list[Any], alone: Callable[[str], Any], name: str
) -> None:
    """Shards are put together in half precision and summed in float32; one rank computes under autocast."""
    mine, whole = pair[0][name]["reported"][0], alone(name)["reported"][0]
    assert mine["grad_norm"] == pytest.approx(whole["grad_norm"], rel=0.05 if name == "bfloat16" else 0.01)
    assert mine["entropy"] == pytest.approx(whole["entropy"], rel=0.01 if name == "bfloat16" else 0.001)
    assert mine["grad_norm"] != pytest.approx(alone("float32")["reported"][0]["grad_norm"], rel=1e-5)


def test_all_ranks_have_one_loss_scale(pair: list[Any], alone: Callable[[str], Any]) -> None:
    for result in pair:
        assert [line["loss_scale"] for line in result["float16"]["reported"]] == [2.0**16] * len(UPDATES)
        assert not any(line["skipped"] for line in result["float16"]["reported"])
    assert pair[0]["float16"]["reported"] == pair[1]["float16"]["reported"]


@pytest.mark.parametrize("name", OVERFLOWS)
def test_an_overflow_on_one_rank_skips_the_step_of_both(pair: list[Any], name: str) -> None:
    for result in (rank["overflow"][name] for rank in pair):
        assert [outcome["skipped"] for outcome in result["outcomes"]] == [0.0, 1.0, 1.0]
        assert [outcome["loss_scale"] for outcome in result["outcomes"]] == [2.0**8, 2.0**8, 2.0**7]
        assert result["moved"]
        assert result["stayed"]
        assert result["updates"] == 1


def test_gradients_averaged_over_ranks_would_be_others(pair: list[Any], alone: Callable[[str], Any]) -> None:
    """The negative control: losses are divided by counts of the whole update, so an average is half of what it is."""
    right, wrong = alone("dapo with images")["reported"][0], pair[0]["averaged"]["reported"][0]
    assert wrong["loss"] == pytest.approx(right["loss"], rel=1e-6)
    assert wrong["grad_norm"] == pytest.approx(right["grad_norm"] / 2, rel=1e-6)
    assert not _close(pair[0]["averaged"]["weights"], alone("dapo with images")["weights"], 1e-5)


def test_each_rank_holds_half_unless_it_holds_a_copy(pair: list[Any], alone: Callable[[str], Any]) -> None:
    whole = alone("text")["held"]
    assert sum(result["text"]["held"] for result in pair) == whole
    assert all(result["text"]["held"] < 0.51 * whole for result in pair)
    assert all(result["copies that sum their gradients"]["held"] == whole for result in pair)


def test_two_ranks_resume_bit_for_bit(pair: list[Any]) -> None:
    """In the float32 that checkpoints have, and with a loss scale."""
    for saved in (result[name] for result in pair for name in ("bit for bit", "half", "copies")):
        assert saved["on"] == saved["again"]
        assert _close(saved["weights"], saved["resumed"], 0.0)
        assert saved["noise"]
        assert saved["updates"] == len(UPDATES)


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize(("name", "writers"), [("two", [0, 1]), ("copies", [0])])
def test_every_row_of_a_moment_is_written_once_by_a_rank_that_has_it(root: Path, name: str, writers: list[int]) -> None:
    pieces = json.loads((root / name / "learner.json").read_text())["pieces"]
    moments = {key: parts for key, parts in pieces.items() if not key.startswith("step/")}
    for key, parts in moments.items():
        ordered = sorted(parts, key=lambda part: part[1])
        assert ordered[0][1] == 0, key
        assert all(one[2] == next_one[1] for one, next_one in itertools.pairwise(ordered)), key
    assert sorted({int(file.split("-")[1]) for parts in moments.values() for file, _, _ in parts}) == writers
    sizes = [sum(f.stat().st_size for f in (root / name).glob(f"learner-{rank:03}-*")) for rank in writers]
    assert max(sizes) < 1.2 * min(sizes)


def test_two_ranks_go_back_to_what_they_kept_with_the_moments(pair: list[Any]) -> None:
    for result in (rank["rolled back"] for rank in pair):
        assert result["moved"]
        assert result["undone"]
        assert result["tried"] == result["again"]


def test_one_rank_resumes_what_two_saved(pair: list[Any], stage: Stage, root: Path) -> None:
    resumed = _resumed(stage, root / "two")
    for mine, whole in zip(resumed["reported"], pair[0]["saved by two"]["on"], strict=True):
        assert mine == pytest.approx(whole, rel=1e-6, abs=1e-6)
    assert _close(resumed["weights"], pair[0]["saved by two"]["weights"], 1e-6)


def test_two_ranks_resume_what_one_saved(pair: list[Any], saved_by_one: dict[str, Any]) -> None:
    for result in pair:
        for mine, whole in zip(result["from one"]["reported"], saved_by_one["on"], strict=True):
            assert mine == pytest.approx(whole, rel=1e-6, abs=1e-6)
        assert _close(result["from one"]["weights"], saved_by_one["weights"], 1e-6)


@pytest.mark.parametrize("model", ["text", "tied", "experts"])
def test_engines_get_whole_weights_under_checkpoint_names(pair: list[Any], model: str) -> None:
    assert all(result["exported"][model] for result in pair)
