"""``sailrl push``: the model of a run with a card, its adapter, recipe, curve and metrics, to the hub or a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from sailrl.commands.result import RunResult
from sailrl.config.load import load_config
from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError, DataError
from sailrl.launch.run_folder import RESOLVED, write_whole
from sailrl.report.metrics import METRICS_FILE
from sailrl.report.picture import PICTURE_FILE, curve_png
from sailrl.report.run_data import load_run
from sailrl.report.safe_text import safe
from sailrl.report.shown import counted, percent

MODEL, ADAPTER, CARD = "model", "adapter", "README.md"


def push_job(run_dir: Path, repo: str | None, to: Path | None, *, best: bool = False, private: bool = False) -> str:
    """Puts together what a run has made and uploads it to ``repo``, or leaves it in the folder ``to``; returns where.

    Args:
        best: take the checkpoint with the highest held-out accuracy, not the newest.
        private: a new repository is private.

    Raises:
        ConfigError: there is no place to push to, or two.
        DataError: the run has no model, or the hub refuses.
    """
    if (repo is None) == (to is None):
        raise ConfigError("push takes one place: a repository of the hub (user/name), or a folder with --to FOLDER.")
    if to is not None:
        if to.exists():
            raise DataError(f"{to} is there already. Name another folder with --to, or remove it.")
        write_whole(to, lambda folder: pack(run_dir, folder, served=str(to), best=best))
        return str(to)
    assert repo is not None
    with tempfile.TemporaryDirectory(dir=run_dir if run_dir.is_dir() else None, prefix=".push-") as temporary:
        folder = Path(temporary)
        pack(run_dir, folder, served=repo, best=best)
        return _upload(folder, repo, private)


def pack(run_dir: Path, out: Path, *, served: str, best: bool = False) -> None:
    """Writes everything into ``out``; weights are linked where the disk allows, not copied.

    Args:
        served: what `vllm serve` is given in the card.

    Raises:
        DataError: the run has no model.
    """
    resolved = run_dir / RESOLVED
    if not resolved.is_file():
        raise DataError(f"{run_dir} is no run folder: it has no {RESOLVED}. Give the folder that `sailrl run` printed.")
    config = load_config(resolved)
    if not isinstance(config, RlvrConfig | SftConfig):
        raise DataError(f"{run_dir} holds a job of kind {config.kind}, which trains no model.")
    source = _source(run_dir, config, best)
    for name, target in ((MODEL, out), (ADAPTER, out / ADAPTER)):
        if (source / name).is_dir():
            shutil.copytree(source / name, target, dirs_exist_ok=True, copy_function=_link)
    shutil.copy2(resolved, out / RESOLVED)
    if (run_dir / METRICS_FILE).is_file():
        shutil.copy2(run_dir / METRICS_FILE, out / METRICS_FILE)
    with suppress(DataError, ImportError):  # no update yet, or no matplotlib: a card without a curve
        curve_png(run_dir, out=out / PICTURE_FILE)
    (out / CARD).unlink(missing_ok=True)  # a link to the model's own
    (out / CARD).write_text(card(config, run_dir, out, served), encoding="utf-8")


def card(config: RlvrConfig | SftConfig, run_dir: Path, out: Path, served: str) -> str:
    """The model card, in the hub's form."""
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["sailrl"]}
    if isinstance(config, RlvrConfig):
        head["tags"].append("reinforcement-learning")
    base = config.model.path or "a model that the run built"
    if Path(base).expanduser().exists():
        base = Path(base).name  # the rest of the path is this machine's business
    elif config.model.path is not None:
        head["base_model"] = base
    run = load_run(run_dir)
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {safe(run.name)}\n",
        f"Trained with sailrl from {_code(base)}: {safe(run.headline)}.\n",
        "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in _facts(config))]) + "\n",
    ]
    if (out / PICTURE_FILE).is_file():
        parts.append(f"![curve]({PICTURE_FILE})\n")
    if run.evals:
        parts.append(f"## Held-out evaluation\n\n{_evals(run.evals)}\n")
    parts.append(f"## Use\n\n```sh\nvllm serve {served}\n```\n")
    if (out / ADAPTER).is_dir():
        parts.append(f"`{ADAPTER}/` has the LoRA adapter alone, for peft and vLLM; the weights here have it merged.\n")
    parts.append(f"`{RESOLVED}` is the whole recipe, `{METRICS_FILE}` has the numbers of every update.\n")
    return "\n".join(parts)


def _facts(config: RlvrConfig | SftConfig) -> Iterator[tuple[str, str]]:
    if isinstance(config, RlvrConfig):
        batch, parts = config.batch, config.rewards.parts
        yield "loss", _code(config.algorithm.name)
        yield "rewards", ", ".join(f"{part.weight:g} × {_code(name)}" for name, part in parts.items())
        yield "rollouts per episode", f"{batch.rollouts_per_episode:,}, {batch.group_size} per prompt"
        yield "learning rate", f"{config.learner.learning_rate:g}"
    else:
        yield "rows per step", f"{config.training.rows_per_step:,}"
        yield "learning rate", f"{config.training.learning_rate:g}"
    yield "precision", _code(config.model.dtype)
    if config.model.lora is not None:
        yield "LoRA", f"rank {config.model.lora.rank}, alpha {config.model.lora.alpha}"
    yield "seed", str(config.run.seed)


def _evals(lines: Sequence[Mapping[str, Any]]) -> str:
    head = ["| updates | accuracy | tokens |", "| ---: | ---: | ---: |"]
    rows = [
        f"| {line['step']} | {percent(line['eval/accuracy'])} | {line['eval/response_tokens']:.1f} |" for line in lines
    ]
    return "\n".join([*head, *rows])


def _code(text: str) -> str:
    return f"`{safe(text).replace('`', '')}`"


def _source(run_dir: Path, config: RlvrConfig | SftConfig, best: bool) -> Path:
    """The folder that has ``model`` and perhaps ``adapter``."""
    if isinstance(config, SftConfig):
        source: Path | None = run_dir
        if best:
            raise ConfigError(
                "--best takes a run with checkpoints and held-out evaluations; this is a supervised stage."
            )
    else:
        result = RunResult.of(config, run_dir, "finished")
        source = result.best if best else result.last
    if source is None or not (source / MODEL).is_dir():
        what = "no evaluated checkpoint" if best else "no model yet: no checkpoint was saved"
        raise DataError(f"{run_dir} has {what}.")
    return source


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another disk
        shutil.copy2(source, target)


def _upload(folder: Path, repo: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise DataError(
            f"the hub did not take {repo} ({counted(sum(1 for _ in folder.rglob('*')), 'file')}): {error} Log in with "
            "`hf auth login` or set HF_TOKEN to a token that may write; --to FOLDER writes the same without a network."
        ) from error
    return f"https://huggingface.co/{repo}"
