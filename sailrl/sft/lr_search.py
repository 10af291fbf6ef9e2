"""AdaLRS in a supervised stage: applies the decisions of ``algos.adalrs`` to weights, optimizer and learning rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from sailrl.algos.adalrs import AdaLrs
from sailrl.config.sft import LrSearch

SEARCH, COPY = "search.json", "search.pt"
"""In a checkpoint: the state of the search, and the weights and optimizer that it may go back to."""


class SearchRate(TrainerCallback):
    """Watches the loss of every step. Its state goes into every checkpoint, so that a resumed search goes on.

    Args:
        trainer: has ``measured["nll"]`` after a step.
        last: the checkpoint that the stage goes on from.
    """

    def __init__(self, trainer: Any, settings: LrSearch, last: Path | None) -> None:
        self._trainer, self._settings, self._last = trainer, settings, last
        self.search: AdaLrs
        self._copy: dict[str, Any] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        given = self._settings
        self.search = AdaLrs(
            window=given.window_steps,
            first=int(given.first_share * state.max_steps),
            last=int(given.last_share * state.max_steps),
            **given.model_dump(include={"margin", "up", "down", "decay"}),
        )
        if self._last is not None:
            self.search = AdaLrs(**json.loads((self._last / SEARCH).read_text(encoding="utf-8")))
            if (self._last / COPY).is_file():
                self._copy = torch.load(self._last / COPY, map_location="cpu", weights_only=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        match self.search.observe(self._trainer.measured["nll"]):
            case "save":
                self._copy = _copied({"model": self._weights(), "optimizer": self._trainer.optimizer.state_dict()})
            case "roll_back":
                assert self._copy is not None  # a rate is tried after a copy was kept
                for name, tensor in self._weights().items():
                    tensor.copy_(self._copy["model"][name])
                self._trainer.optimizer.load_state_dict(_copied(self._copy["optimizer"]))
                self._copy = None
        self._scale(self.search.factor)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / SEARCH).write_text(json.dumps(self.search.state_dict()), encoding="utf-8")
        if self._copy is not None:
            torch.save(self._copy, folder / COPY)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: p.data for name, p in self._trainer.model.named_parameters() if p.requires_grad}

    def _scale(self, factor: float) -> None:
        """The schedule times ``factor``, from the next step on."""
        scheduler = self._trainer.lr_scheduler
        base = self._trainer.args.learning_rate * factor
        scheduler.base_lrs = [base] * len(scheduler.base_lrs)
        for group, shape in zip(self._trainer.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = base, base * shape(scheduler.last_epoch)
        scheduler._last_lr = [group["lr"] for group in self._trainer.optimizer.param_groups]  # what is logged


def _copied(value: Any) -> Any:
    """A deep copy on the CPU, so that going back costs no memory of the GPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
