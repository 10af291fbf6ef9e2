"""Sharding on a GPU: half-precision shards with float32 sums, and an optimizer in host memory. Not run so far."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sailrl.config.learner import LearnerConfig
from sailrl.config.losses import Dapo, MismatchConfig
from sailrl.demo import tiny_text
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective
from sailrl.learner.shard import shard
from tests.fakes.tiny_learner import make_samples, make_scope

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shard") / "model"
    tiny_text.build(made, hidden_size=64, layers=2)
    return made


@pytest.fixture(scope="module", autouse=True)
def _one_rank() -> Iterator[None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.cuda.set_device(0)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=address, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _first_updates(policy: Policy) -> list[dict[str, float]]:
    objective = Objective(Dapo(), MismatchConfig(), max_response_tokens=12)
    learner = Learner(policy, objective, LearnerConfig(learning_rate=1e-4, max_tokens_per_microbatch=60))
    samples = make_samples(8)
    learner.set_episode(samples)
    return [learner.update(range(8), make_scope(samples)) for _ in range(3)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("offload", [False, True])
def test_a_sharded_learner_computes_what_an_unsharded_one_does(folder: Path, offload: bool, dtype: str) -> None:
    build = partial(Policy, str(folder), dtype=dtype)
    device = torch.device("cuda", 0)
    policy = shard(build, device, offload=offload)
    homes = {parameter.device.type for parameter in policy.parameters()}
    assert homes == {"cpu" if offload else "cuda"}
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    for mine, plain in zip(_first_updates(policy), _first_updates(build().to(device)), strict=True):
        assert mine["grad_norm"] == pytest.approx(plain["grad_norm"], rel=0.05)  # half precision
        assert mine["entropy"] == pytest.approx(plain["entropy"], rel=0.01)
