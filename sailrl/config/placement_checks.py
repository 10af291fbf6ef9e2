"""Rules about placement: GPUs of engines and ranks, generation during learning, and the transfer of weights."""

from __future__ import annotations

from collections.abc import Iterator

from sailrl.config.complaint import Complaint, Rules
from sailrl.config.learner import RanksConfig
from sailrl.config.schema import RlvrConfig


def _sharing_pairs_up(config: RlvrConfig) -> Iterator[Complaint]:
    workers, ranks = config.rollout.workers, config.learner.ranks
    if config.placement != "colocated":
        return
    why = "but placement is colocated, where every learner rank shares its GPU with one engine."
    if workers != ranks:
        yield Complaint(
            ("rollout", "workers"),
            f"is {workers} and learner.ranks is {ranks}, {why} Write workers: {ranks}, or placement: split.",
        )
    if (width := config.rollout.engine.tensor_parallel) > 1:
        yield Complaint(
            ("rollout", "engine", "tensor_parallel"),
            f"is {width}, {why} Write tensor_parallel: 1, or placement: split.",
        )


def _groups_of_ranks_are_equal(learner: RanksConfig) -> Iterator[Complaint]:
    ranks, sharing = learner.ranks, learner.shard_ranks
    if sharing is not None and ranks % sharing:
        divisors = [str(n) for n in range(2, ranks + 1) if ranks % n == 0]
        fix = f"Write shard_ranks: {' or '.join(divisors)}." if divisors else "Leave it out."
        yield Complaint(
            ("shard_ranks",),
            f"is {sharing} and ranks is {ranks}, which makes {ranks / sharing:.4g} copies of the weights, but every "
            f"rank belongs to a whole one. {fix}",
        )


def _generation_can_go_on(config: RlvrConfig) -> Iterator[Complaint]:
    staleness = config.rollout.max_staleness
    if config.run.deterministic and staleness:
        yield Complaint(
            ("rollout", "max_staleness"),
            f"is {staleness} and run.deterministic is true, but what is sampled while the learner learns depends on "
            "the speed of both, so a run could not be repeated. Write deterministic: false under run.",
        )
    if config.placement == "colocated" and staleness:
        yield Complaint(
            ("rollout", "max_staleness"),
            f"is {staleness} and placement is colocated, where engines sleep while the learner learns, so nothing can "
            "be sampled meanwhile. Write max_staleness: 0, or placement: split.",
        )


def _way_of_weights_fits_placement(config: RlvrConfig) -> Iterator[Complaint]:
    method, placement = config.sync.method, config.placement
    if (method, placement) == ("nccl", "colocated"):
        yield Complaint(
            ("sync", "method"),
            "is nccl, whose group holds every GPU once, but placement is colocated, where rank i and engine i share "
            "one. Write sync.method: disk (or ipc), or placement: split.",
        )
    if (method, placement) == ("ipc", "split"):
        yield Complaint(
            ("sync", "method"),
            "is ipc, which hands weights over inside a GPU, but placement is split, where engines and learner ranks "
            "have GPUs of their own. Write placement: colocated, or sync.method: nccl.",
        )


def _adapters_are_merged_to_disk(config: RlvrConfig) -> Iterator[Complaint]:
    if config.model.lora is not None and config.sync.method != "disk":
        yield Complaint(
            ("sync", "method"),
            f"is {config.sync.method} and model.lora is set, but weights with an adapter are merged when they are "
            "written. Write method: disk.",
        )


def _tolerance_is_used(config: RlvrConfig) -> Iterator[Complaint]:
    tolerance, dtype = config.sync.probe_tolerance, config.model.dtype
    if tolerance is not None and dtype != "float32":
        yield Complaint(
            ("sync", "probe_tolerance"),
            f"is {tolerance:g} and model.dtype is {dtype}, but it bounds the maximum in float32 alone. In half "
            "precision mean and 99th percentile are bounded, by what rounding is measured to do. Remove it.",
        )


PLACEMENT_RULES: Rules = [
    (RlvrConfig, _sharing_pairs_up),
    (RanksConfig, _groups_of_ranks_are_equal),
    (RlvrConfig, _generation_can_go_on),
    (RlvrConfig, _way_of_weights_fits_placement),
    (RlvrConfig, _adapters_are_merged_to_disk),
]
PLACEMENT_WARNINGS: Rules = [
    (RlvrConfig, _tolerance_is_used),
]
