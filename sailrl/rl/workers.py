"""``sailrl workers``: a number in the run folder says how many rollout workers a run has from its next episode on."""

from __future__ import annotations

from pathlib import Path

from sailrl.config.load import load_config
from sailrl.config.schema import RlvrConfig
from sailrl.errors import ConfigError
from sailrl.launch.run_folder import RESOLVED, write_file

WORKERS = "workers"


def workers_job(run_dir: Path, count: int) -> None:
    """Asks for ``count`` rollout workers; it also holds when the run is resumed.

    Raises:
        ConfigError: there is no such run, or its workers cannot come and go.
    """
    if not (run_dir / RESOLVED).is_file():
        raise ConfigError(f"{run_dir} is no run folder: it has no {RESOLVED}. Name the folder of a run, as runs/NAME.")
    if count < 1:
        raise ConfigError(f"{count} rollout workers cannot sample anything. Ask for 1 at least.")
    config = load_config(run_dir / RESOLVED)
    if not isinstance(config, RlvrConfig):
        raise ConfigError(f"{run_dir} is a run of kind {config.kind}; only rlvr runs have workers that come and go.")
    why = ""
    if config.run.deterministic:
        why = "run.deterministic is true, and who samples what depends on their number"
    elif config.placement == "colocated":
        why = "placement is colocated, and every engine shares the GPU of a learner rank"
    elif config.sync.method != "disk":
        why = f"sync.method is {config.sync.method}, which connects a fixed number of engines; disk does not"
    if why:
        raise ConfigError(f"the rollout workers of {run_dir} cannot come and go: {why}.")
    write_file(run_dir / WORKERS, f"{count}\n")
    print(f"{run_dir} goes on with {count} rollout workers from its next episode on")


def wanted_workers(run_dir: Path) -> int | None:
    """The number that was asked for; None without one, or with a file that ``workers_job`` did not write."""
    try:
        count = int((run_dir / WORKERS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return count if count >= 1 else None
