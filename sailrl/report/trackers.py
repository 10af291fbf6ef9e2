"""Experiment trackers behind one small interface. What a tracker does wrong never stops a run: it is said once, and
counted. Keys and addresses come from each library's own environment variables.

A resumed run joins the tracker's run: its name there lies in ``trackers.json`` in the run folder.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sailrl.data.atomic import atomic
from sailrl.report.tensorboard import EventFile

TENSORBOARD_FOLDER = "tensorboard"
JOINED = "trackers.json"
WAITING = 1000
"""Lines that may wait for a slow tracker; further ones are left out and counted."""
PATIENCE_S = 60.0
"""Longest wait for a tracker at the end of a run."""
Say = Callable[[str], None]


class Tracker(Protocol):
    """What a library does for a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Wandb:
    """Weights & Biases. ``WANDB_MODE=offline`` needs no network; ``WANDB_PROJECT`` and ``WANDB_API_KEY`` as usual."""

    def __init__(self, folder: Path, joined: dict[str, str], settings: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "sailrl"),
            name=folder.name,
            dir=folder,
            id=joined.setdefault("wandb", uuid4().hex),
            resume="allow",
            config=dict(settings),
        )
        # Steps of an own axis: wandb drops those that a resumed run does again.
        self._run.define_metric("*", step_metric="update")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker.log``."""
        self._run.log({**values, "update": step})

    def close(self) -> None:
        """See ``Tracker.close``."""
        self._run.finish()


class Mlflow:
    """MLflow, at ``MLFLOW_TRACKING_URI``; without it in the run folder."""

    def __init__(self, folder: Path, joined: dict[str, str], settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.absolute() / 'mlflow.db'}")
        self._client = MlflowClient(tracking_uri=uri)
        if "mlflow" not in joined:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "sailrl")
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            joined["mlflow"] = self._client.create_run(experiment, run_name=folder.name).info.run_id
            self._client.log_dict(joined["mlflow"], dict(settings), "config.json")
        self._run_id = joined["mlflow"]
        self._client.update_run(self._run_id, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker.log``."""
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=step, synchronous=False)

    def close(self) -> None:
        """See ``Tracker.close``."""
        self._client.set_terminated(self._run_id)


class Trackio:
    """Trackio, in ``TRACKIO_DIR`` on this machine."""

    def __init__(self, folder: Path, joined: dict[str, str], settings: Mapping[str, Any]) -> None:
        import trackio

        name = joined.setdefault("trackio", f"{folder.name}-{uuid4().hex[:8]}")
        self._run = trackio.init(project="sailrl", name=name, resume="allow", config=dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker.log``."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See ``Tracker.close``."""
        self._run.finish()


class Swanlab:
    """SwanLab. ``SWANLAB_MODE=offline`` needs no network; ``SWANLAB_API_KEY`` as usual."""

    def __init__(self, folder: Path, joined: dict[str, str], settings: Mapping[str, Any]) -> None:
        import swanlab

        self._library = swanlab
        run_id = joined.setdefault("swanlab", uuid4().hex[:21])  # swanlab takes 21 letters and digits
        swanlab.init(project="sailrl", experiment_name=folder.name, id=run_id, resume="allow", config=dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker.log``."""
        self._library.log(dict(values), step=step)

    def close(self) -> None:
        """See ``Tracker.close``."""
        self._library.finish()


OPEN: dict[str, Callable[[Path, dict[str, str], Mapping[str, Any]], Tracker]] = {
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
    "swanlab": Swanlab,
}


class Trackers:
    """All trackers of a run. TensorBoard's file is written at once, every other library from a thread of its own.

    Args:
        names: those of ``run.trackers``.
        purge_step: TensorBoard forgets the points from this step on, which a resumed run writes again.
        settings: the configuration.
        say: told, once for each tracker, that it failed.
    """

    def __init__(
        self, names: tuple[str, ...], folder: Path, *, purge_step: int, settings: Mapping[str, Any], say: Say = print
    ) -> None:
        self.failures: dict[str, int] = {}
        """Lines that did not reach a tracker."""
        self._say = say
        joined = folder / JOINED
        known: dict[str, str] = json.loads(joined.read_text(encoding="utf-8")) if joined.is_file() else {}
        self._events = EventFile(folder / TENSORBOARD_FOLDER, purge_step=purge_step) if "tensorboard" in names else None
        self._threads: list[_Thread] = []
        for name in names:
            if name == "tensorboard":
                continue
            try:
                tracker = OPEN[name](folder, known, settings)
            except (Exception, SystemExit) as error:  # a server that does not answer, a key that is missing
                self._failed(name, error)
            else:
                self._threads.append(_Thread(name, tracker, self._failed))
        if known:
            with atomic(joined) as partial:
                partial.write_text(json.dumps(known), encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hands the numbers of a step to every tracker."""
        if self._events is not None:
            self._events.scalars(step, values)
        for thread in self._threads:
            thread.log(step, dict(values))

    def close(self) -> None:
        """Waits for what is left, and says how much did not arrive. A second call does nothing."""
        if self._events is not None:
            self._events.close()
        for thread in self._threads:
            thread.close()
        self._threads = []
        for name, count in self.failures.items():
            if count > 1:
                self._say(f"{name}: {count:,} calls failed; metrics.jsonl has all numbers")
        self.failures = {}

    def _failed(self, name: str, error: BaseException | str) -> None:
        self.failures[name] = self.failures.get(name, 0) + 1
        if self.failures[name] == 1:
            what = error if isinstance(error, str) else f"{type(error).__name__}: {str(error)[:300]}"
            self._say(f"the tracker {name} failed ({what}); the run goes on, and metrics.jsonl has all numbers")


class _Thread:
    """Calls a tracker from a thread, so that a slow server holds nothing up."""

    def __init__(self, name: str, tracker: Tracker, failed: Callable[[str, BaseException | str], None]) -> None:
        self._name, self._tracker, self._failed = name, tracker, failed
        self._lines: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def log(self, step: int, values: dict[str, float]) -> None:
        try:
            self._lines.put_nowait((step, values))
        except queue.Full:
            self._failed(self._name, f"{WAITING:,} lines wait for it")

    def close(self) -> None:
        """See ``Tracker.close``."""
        try:
            self._lines.put(None, timeout=PATIENCE_S)
        except queue.Full:
            self._failed(self._name, f"{WAITING:,} lines wait for it")
            return
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._failed(self._name, f"it was not done {PATIENCE_S:g} s after the end")
        else:
            self._try(self._tracker.close)  # here, since SwanLab sets signal handlers, which only the main thread may

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._try(self._tracker.log, *line)

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except (Exception, SystemExit) as error:
            self._failed(self._name, error)
