"""Two ranks learn what one would, even when an update has rows for only one of them."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sailrl.demo import tiny_text
from tests.fakes.tiny_learner import make_learner, make_samples, make_scope, weights

pytestmark = pytest.mark.slow

UPDATES = [[0, 1, 2, 3], [1, 3], [0, 1, 2, 3, 4, 5]]
"""Rows of each update; rank 0 holds the even ones, so the second is rank 1's alone."""


def _learn(folder: Path, mine: list[int], **config: float) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    learner = make_learner(folder, **config)
    samples = make_samples(6)
    learner.set_episode([samples[row] for row in mine])
    learner.compute_old_logprobs()
    reported = []
    for rows in UPDATES:
        scope = make_scope([samples[row] for row in rows])
        reported.append(learner.update([place for place, row in enumerate(mine) if row in rows], scope))
    return reported, weights(learner)


def _rank(rank: int, folder: Path, port: int, out: Path, config: dict[str, float]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.save(_learn(folder, list(range(rank, 6, 2)), **config), out / f"rank{rank}.pt")
    dist.destroy_process_group()


def _two_ranks_and_one(folder: Path, out: Path, **config: float) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, args=(folder, port, out, config), nprocs=2)
    alone, expected = _learn(folder, list(range(6)), **config)
    results = [torch.load(out / f"rank{rank}.pt") for rank in range(2)]
    for reported, learned in results:
        for name, weight in expected.items():
            assert torch.allclose(learned[name], weight, atol=1e-4), name  # three steps of 1e-2
        for mine, whole in zip(reported, alone, strict=True):
            assert mine == pytest.approx(whole, rel=1e-3, abs=1e-5)
    assert results[0][0] == results[1][0]  # and both ranks report the same, bit for bit


def test_two_ranks_make_the_updates_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    _two_ranks_and_one(tiny_folder, tmp_path)


def test_two_ranks_balance_experts_as_one_does(tmp_path: Path) -> None:
    # The load is known before the first gradient of an update: the rank without rows must join in that sum as well.
    tiny_text.build(tmp_path / "moe", hidden_size=32, layers=2, experts=4)
    _two_ranks_and_one(tmp_path / "moe", tmp_path, router_aux_coef=0.1, learning_rate=1e-3)
