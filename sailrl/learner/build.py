"""From settings to a learner, in whatever process it is to run."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from transformers.utils.logging import disable_progress_bar

from sailrl.config.learner import LearnerConfig
from sailrl.config.schema import LoraConfig, ModelConfig, PromptConfig
from sailrl.data.images import ImageStore
from sailrl.data.processor import load_processor
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective
from sailrl.learner.reference import ReferencePolicy
from sailrl.learner.shard import shard
from sailrl.learner.supervised import SupervisedObjective
from sailrl.learner.vision import Vision


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """All settings of a learner. It is pickled to every rank, which builds its part there."""

    model: ModelConfig
    data: PromptConfig
    learner: LearnerConfig
    objective: Objective | SupervisedObjective
    weights: str
    """Folder or hub name of the model; with an adapter, of the model under it."""
    images: str
    """Folder of the image store."""
    seed: int
    state: str | None = None
    """The checkpoint to continue from."""
    temperature: float = 1.0
    """What logits are divided by."""
    banned_ids: tuple[int, ...] = ()
    """See ``Policy``."""
    reference: str | None = None
    """Folder or hub name of the weights that the run started with, for a KL term; None for no such term."""

    def build(self, device: torch.device | None = None, rank: int = 0) -> Learner:
        """Loads the model, or this rank's part of it where ranks have met (a collective).

        Args:
            device: by default this process's accelerator if there is one.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another model.
        """
        disable_progress_bar()  # transformers' own, in the middle of ours
        config, device = self.learner, device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Ray sets 1 thread. A fixed number, which MKL also uses from here on, makes sums the same in every run.
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(config.threads or max(1, cores // config.ranks))
        torch.manual_seed(self.seed + rank)
        processor = load_processor(self.model, self.data, self.weights)
        build = partial(
            Policy,
            vision=None if processor.image_id is None else Vision(processor, ImageStore(Path(self.images))),
            dtype=self.model.dtype,
            temperature=self.temperature,
            banned_ids=self.banned_ids,
            frozen=self.model.freeze,
            trust_remote_code=self.model.trust_remote_code,
            activation_checkpointing=config.activation_checkpointing,
            router_float32=config.router_float32,
        )

        def placed(weights: str, adapter: LoraConfig | None) -> Policy:
            make = partial(build, weights, adapter=adapter)
            if not dist.is_initialized():
                return make().to(device)
            return shard(make, device, shard_ranks=config.shard_ranks, offload=config.offload == "optimizer")

        policy, reference = placed(self.weights, self.model.lora), None
        if self.reference is not None:
            reference = ReferencePolicy(policy, None if self.model.lora else placed(self.reference, None))
        learner = Learner(policy, self.objective, config, reference)
        if self.state is not None:
            learner.restore(self.state)
        return learner


def free_memory() -> None:
    """Returns to the GPU what a learner in this process has taken, once nothing refers to it."""
    gc.collect()  # a model has cycles
    torch.cuda.empty_cache()
