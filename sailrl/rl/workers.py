"""``sailrl workers``: writes the number of rollout workers that a run uses from its next episode on."""

from __future__ import annotations

from pathlib import Path

from sailrl.config.load import load_config
from sailrl.config.schema import RlvrConfig
from sailrl.errors import ConfigError
from sailrl.launch.run_folder import RESOLVED, is_claimed, write_file
from sailrl.report.shown import counted
from sailrl.rl import checkpoints

WORKERS = "workers"


def workers_job(run_dir: Path, count: int) -> None:
    """Sets the number of rollout workers of a run from its next episode on, also after a resume.

    Raises:
        ConfigError: there is no such run, it is finished, or its number of workers cannot change.
    """
    if not (run_dir / RESOLVED).is_file():
        raise ConfigError(f"{run_dir} is no run folder: it has no {RESOLVED}. Name the folder of a run, as runs/NAME.")
    if count < 1:
        raise ConfigError(f"{count} rollout workers cannot sample anything. Ask for 1 at least.")
    config = load_config(run_dir / RESOLVED)
    if not isinstance(config, RlvrConfig):
        raise ConfigError(
            f"{run_dir} is a run of kind {config.kind}; only the workers of rlvr runs can change in number."
        )
    why = ""
    if config.run.deterministic:
        why = "run.deterministic is true, and the split of prompts over workers depends on their number"
    elif config.placement == "colocated":
        why = "placement is colocated, and every engine shares the GPU of a learner rank"
    elif config.sync.method != "disk":
        why = f"sync.method is {config.sync.method}, which connects a fixed number of engines; disk does not"
    if why:
        raise ConfigError(f"the number of rollout workers of {run_dir} cannot change: {why}.")
    checkpoint = checkpoints.latest(run_dir)
    done = checkpoints.load(checkpoint).episode if checkpoint else 0
    if done >= config.batch.episodes:
        raise ConfigError(
            f"{run_dir} is finished: it has done {done} of {config.batch.episodes} episodes, so its workers "
            "cannot change. Raise batch.episodes to continue it."
        )
    write_file(run_dir / WORKERS, f"{count}\n")
    workers = counted(count, "rollout worker")
    if is_claimed(run_dir):
        print(f"{run_dir} goes on with {workers} from its next episode on")
    else:
        print(f"{run_dir} is not running now; when it is resumed, it goes on with {workers}")


def wanted_workers(run_dir: Path) -> int | None:
    """The number that ``workers_job`` wrote; None without a file, or with a file that has no such number."""
    try:
        count = int((run_dir / WORKERS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return count if count >= 1 else None
