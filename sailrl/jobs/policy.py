"""The weights a run starts from: a model folder, one built on the spot, and a warm start on top if asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sailrl import plugins
from sailrl.config.schema import RlvrConfig, WarmStartConfig
from sailrl.data.problems import load_problems
from sailrl.data.template import Template
from sailrl.errors import DataError
from sailrl.jobs.session import load_tokenizer
from sailrl.jobs.sft import run_sft
from sailrl.report.progress import Progress


def initial_policy(config: RlvrConfig, run_dir: Path, progress: Progress) -> str:
    """Returns the folder (or hub name) of the first weights; what it builds is kept in the run folder."""
    model, build = config.model.path, config.model.build
    if model is None:
        assert build is not None  # the checks have seen to it that one of the two is given
        folder = run_dir / "model"
        model = str(folder)
        if not folder.is_dir():
            progress.stage("building the model")
            _complete(folder, lambda out: plugins.load(build.use)(out, **build.args))
    start = config.warm_start
    if start is None:
        return model
    warm = run_dir / "warm_start"
    if not warm.is_dir():
        progress.stage(f"warm start: {start.steps} supervised steps")
        _complete(warm, lambda out: _warm_start(config, start, model, out))
    return str(warm)


def _warm_start(config: RlvrConfig, start: WarmStartConfig, model: str, out: Path) -> None:
    problems = load_problems(start.data, on_bad_row="error").problems
    template = Template(load_tokenizer(model, config.model.trust_remote_code), config.data)
    prompts, responses = [], []
    for problem in problems:
        prompts.append(template.render(problem))
        response = problem.meta.get("response")
        if not isinstance(response, str):
            raise DataError(f"warm_start.data: problem {problem.id} has no text under meta.response to imitate")
        responses.append(response)
    run_sft(model, str(out), prompts, responses, start, config.run.seed)


def _complete(folder: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a folder that gets its name only when it is whole."""
    partial = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    partial.rename(folder)
