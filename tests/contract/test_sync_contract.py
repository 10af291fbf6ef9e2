"""Disk, and vLLM's NCCL and IPC trainer engines without GPUs, keep one contract; and vLLM is what we take it for."""

from __future__ import annotations

import asyncio
import inspect
import queue
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sailrl.demo import tiny_text
from sailrl.errors import RolloutError, WeightSyncError
from sailrl.sync import ipc, nccl
from sailrl.sync.disk import DiskSync
from sailrl.sync.transfer import EngineClient, TransferSync
from tests.contract.sync_suite import SyncContract, SyncRun
from tests.fakes.tiny_learner import make_learner
from tests.fakes.transfer import ReceivingEngine, SendingLearners, SeveralPool, open_broadcast, open_shared

GPUS_PER_ENGINE = 2
STEPS = ["freeze", "start_weight_update", "update_weights", "finish_weight_update", "thaw"]


@pytest.fixture(scope="module", params=["dense", "tied", "experts"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose parameters have other names in memory than in a checkpoint, twice out of three times."""
    folder = tmp_path_factory.mktemp("sync") / "model"
    kind = request.param
    tiny_text.build(folder, hidden_size=32, layers=2, experts=4 * (kind == "experts"), tie_embeddings=kind == "tied")
    return folder


def _broadcast(folder: Path, *, engines: int = 2, timeout_s: float = 30, **faults: str) -> SyncRun:
    wires: list[queue.Queue[Any]] = [queue.Queue() for _ in range(engines)]
    receivers = [ReceivingEngine(folder, wire) for wire in wires[:-1]]
    pool = SeveralPool(*receivers, ReceivingEngine(folder, wires[-1], **faults))
    learners = SendingLearners(make_learner(folder))
    sender = partial(
        open_broadcast,
        calls=pool.engine_calls(),
        wires=wires,
        gpus_per_engine=GPUS_PER_ENGINE,
        timeout_s=timeout_s,
    )
    return SyncRun(learners, pool, TransferSync(learners, pool, sender, timeout_s=timeout_s))


def _shared(folder: Path) -> SyncRun:
    pool, learners = SeveralPool(ReceivingEngine(folder)), SendingLearners(make_learner(folder))
    sender = partial(open_shared, calls=pool.engine_calls(), engines=1, timeout_s=30)
    return SyncRun(learners, pool, TransferSync(learners, pool, sender, timeout_s=30))


class TestDisk(SyncContract):
    @pytest.fixture
    def run(self, folder: Path) -> Iterator[SyncRun]:
        pool, learners = SeveralPool(ReceivingEngine(folder)), SendingLearners(make_learner(folder))
        sync = DiskSync(learners, pool, timeout_s=30)
        yield SyncRun(learners, pool, sync)
        sync.close()


class TestNccl(SyncContract):
    @pytest.fixture
    def run(self, folder: Path) -> SyncRun:
        return _broadcast(folder)


class TestIpc(SyncContract):
    @pytest.fixture
    def run(self, folder: Path) -> SyncRun:
        return _shared(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "model"
    tiny_text.build(folder, hidden_size=32, layers=1)
    return folder


def test_engines_are_connected_once_and_frozen_while_their_weights_change(small: Path) -> None:
    run = _broadcast(small)
    run.publish(0)
    run.publish(1)
    for engine in run.pool.engines:
        assert engine.steps == ["init_weight_transfer_engine", *STEPS, *STEPS]


def test_every_gpu_of_every_engine_has_a_rank_of_its_own_in_the_group(small: Path) -> None:
    """Rank 0 is the learner; 3 engines of 2 GPUs are 1 and 2, 3 and 4, 5 and 6 of 7. vLLM's own client for Ray gives
    all of them the same."""
    run = _broadcast(small, engines=3)
    run.publish(0)
    infos = [engine.init_info for engine in run.pool.engines]
    assert [info["rank_offset"] for info in infos] == [1, 3, 5]
    assert {info["world_size"] for info in infos} == {7}


@pytest.mark.parametrize("step", ["init_weight_transfer_engine", *STEPS[1:4]])
def test_an_engine_that_fails_ends_the_publish_with_its_own_words_and_is_not_thawed(small: Path, step: str) -> None:
    run = _broadcast(small, broken=step)
    with pytest.raises(RolloutError, match=f"{step} is broken here"):
        run.publish(0)
    assert not any("thaw" in engine.steps for engine in run.pool.engines)


@pytest.mark.parametrize("step", STEPS[1:4])
def test_an_engine_that_is_late_is_named_with_the_step(small: Path, step: str) -> None:
    run = _broadcast(small, timeout_s=0.4, slow=step)
    with pytest.raises(RolloutError, match=rf"rollout worker \[1\] did not finish {step}"):
        run.publish(0)


def test_the_event_loop_goes_on_while_weights_are_sent(small: Path) -> None:
    run = _broadcast(small, slow="update_weights")
    ticks = 0

    async def publish() -> None:
        nonlocal ticks
        sending = asyncio.ensure_future(run.sync.publish(0))
        while not sending.done():
            await asyncio.sleep(0.05)
            ticks += 1
        await sending

    asyncio.run(publish())
    assert ticks > 5  # of about 20 in the second that the engine takes; a blocked loop has one or two


# --- vLLM ----------------------------------------------------------------------------------------------------------


def test_importing_nccl_and_ipc_loads_no_vllm() -> None:
    code = "import sys, sailrl.sync.nccl, sailrl.sync.ipc; print('vllm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to send from")
@pytest.mark.parametrize(
    ("open_sender", "more"), [(nccl.open_sender, {"gpus_per_engine": 1}), (ipc.open_sender, {})], ids=["nccl", "ipc"]
)
def test_a_learner_without_a_gpu_is_told_to_use_disk(open_sender: Any, more: dict[str, int]) -> None:
    with pytest.raises(WeightSyncError, match=r"no GPU to send weights from\. Write sync\.method: disk"):
        open_sender(None, 0, calls=None, engines=1, timeout_s=1.0, **more)


def test_the_client_is_one_that_vllm_accepts() -> None:
    from vllm.distributed.weight_transfer.base import VLLMWeightSyncClient

    client = EngineClient(lambda *_: None, engines=1, gpus_per_engine=1, timeout_s=1.0)
    assert isinstance(client, VLLMWeightSyncClient)
    for name, method in inspect.getmembers(VLLMWeightSyncClient, inspect.isfunction):
        if not name.startswith("_"):
            theirs, ours = inspect.signature(method), inspect.signature(getattr(EngineClient, name))
            assert list(theirs.parameters) == list(ours.parameters)


def test_vllm_has_the_methods_we_call_with_the_arguments_we_give() -> None:
    from vllm.distributed.weight_transfer import nccl_engine
    from vllm.distributed.weight_transfer.base import (
        ParamMeta,
        WeightTransferInitRequest,
        WeightTransferUpdateRequest,
    )
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.renderers import BaseRenderer
    from vllm.utils.network_utils import get_ip, get_open_port
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.engine.core_client import AsyncMPClient

    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (BaseRenderer.clear_mm_cache_async, (None,), {}),
        (AsyncMPClient.pause_scheduler_async, (None,), {"mode": "keep", "clear_cache": True}),
        (EngineCore.pause_scheduler, (None,), {"mode": "keep", "clear_cache": True}),
        (EngineCore.preprocess_add_request, (None, None), {}),
        (EngineCore.add_request, (None, None, 0), {}),
        (EngineCore.post_step, (None, True), {}),
        (AsyncLLM.resume_generation, (None,), {}),
        (AsyncLLM.reset_mm_cache, (None,), {}),
        (AsyncLLM.reset_encoder_cache, (None,), {}),
        (AsyncLLM.update_weight_version, (None, "7"), {}),
        (AsyncLLM.init_weight_transfer_engine, (None, WeightTransferInitRequest(init_info={})), {}),
        (AsyncLLM.start_weight_update, (None,), {}),
        (AsyncLLM.update_weights, (None, WeightTransferUpdateRequest(update_info={})), {}),
        (AsyncLLM.finish_weight_update, (None,), {}),
        (WeightTransferTrainerFactory.trainer_init, (None,), {"client": None, "source": None}),
        (ParamMeta, ("name", torch.float32, (1,)), {}),
        (get_ip, (), {}),
        (get_open_port, (), {}),
    ]
    for method, arguments, keywords in calls:
        inspect.signature(method).bind(*arguments, **keywords)
    info = nccl_engine.NCCLTrainerInitInfo(master_address="here", master_port=1, world_size=3, rank=0)
    assert (info.is_sender, info.packed, info.backend) == (True, True, "nccl")
    assert IPCTrainerInitInfo(rank=1, packed=True).is_sender is False
    for method_name in ("nccl", "ipc"):
        assert method_name in WeightTransferEngineFactory._registry
        assert method_name in WeightTransferTrainerFactory._registry
        options: dict[str, Any] = {"weight_transfer_config": {"backend": method_name}}
        args = AsyncEngineArgs(model="unused", **options)
        assert args.weight_transfer_config is not None
        assert args.weight_transfer_config.backend == method_name


def test_vllm_packs_and_unpacks_our_weights_unharmed(small: Path) -> None:
    """The packed format of both methods, cut into many buffers: the part of the transport that is plain torch."""
    from vllm.distributed.weight_transfer.packed_tensor import pack_tensors, unpack_tensor

    from sailrl.learner.weights import CheckpointWeights

    weights = CheckpointWeights(make_learner(small).policy.model, torch.bfloat16)
    stream, arrived, buffers = iter(weights), dict[str, torch.Tensor](), 0
    while (chunk := pack_tensors(stream, lambda item: item[1], 20_000)) is not None:  # the largest tensor has 17,728
        parts = (chunk.packed_tensor, chunk.names, chunk.shapes, chunk.dtypes, chunk.tensor_sizes)
        arrived |= {name: tensor.clone() for name, tensor in unpack_tensor(*parts)}
        buffers += 1
    assert buffers > 1
    assert [(n, t.dtype, tuple(t.shape)) for n, t in arrived.items()] == weights.metadata()
    assert all(torch.equal(arrived[name], tensor) for name, tensor in weights)
