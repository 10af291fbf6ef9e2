"""Runs the stages of a recipe in order, each a job in its own folder. Finished stages are not run again."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.commands.result import output_of
from sailrl.commands.run import run_stage
from sailrl.commands.tensors import preflight_tensors
from sailrl.config.checks import preflight, validate
from sailrl.config.recipe import RecipeConfig
from sailrl.config.references import resolved
from sailrl.errors import ConfigError
from sailrl.launch.fingerprint import named_contents, source_digest
from sailrl.launch.run_folder import write_file
from sailrl.launch.starts import UNTYPED, Start
from sailrl.report.evals import EVALS, print_evals
from sailrl.report.shown import span

DONE = "done.json"
"""In the folder of a finished stage: its time, its configuration, and fingerprints of the files, models and code that
the configuration names."""


def start_recipe(config: RecipeConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Runs the stages that are not finished, in order, and prints what evaluation stages have found at the end.

    Raises:
        ConfigError: a finished stage was run with another configuration.
        SailError: whatever a stage raises; the same command goes on with it.
    """
    start.begins(config, folder)
    kinds = {name: type(stage) for name, stage in config.stages.items()}
    with ExitStack() as running:
        urls = {name: running.enter_context(plugins.build(s.use, s.args)) for name, s in config.services.items()}

        def lookup(name: str, output: str) -> str:
            return urls[name] if name in urls else output_of(config.stages[name], folder / name, output)

        for number, (name, stage) in enumerate(config.stages.items(), start=1):
            # Unresolved, since services get a new address with every start; and without defaults, of which the next
            # release may have more.
            written = stage.model_dump(mode="json", exclude_defaults=True)
            if _is_done(written, folder / name):
                _say(config, number, name, "finished before")
                continue
            _say(config, number, name, "begins")
            job = kinds[name].model_validate(resolved(written, lookup))
            validate(job)
            preflight(job)
            preflight_tensors(job)
            contents, began = named_contents(job.model_dump(mode="json")), time.monotonic()
            run_stage(job, folder / name, Start(stage, allow_changes=start.allow_changes))
            took = time.monotonic() - began
            done = {"took_s": round(took, 1), "config": written, "contents": contents}
            write_file(folder / name / DONE, json.dumps(done))
            _say(config, number, name, f"done in {span(took)}")
    for name in config.stages:
        if (folder / name / EVALS).is_file():
            print_evals(folder / name)


def _is_done(written: dict[str, Any], folder: Path) -> bool:
    done = folder / DONE
    if not done.is_file():
        return False
    try:
        made = json.loads(done.read_text(encoding="utf-8"))
        before, contents = made["config"], made["contents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{done} does not say how the stage was finished ({type(error).__name__}: {error}). Remove it, and the "
            "stage is run again."
        ) from None
    changed = sorted(key for key in {*before, *written} if before.get(key) != written.get(key))
    changed += sorted(f"what {name} holds" for name in contents if _content(name) not in (None, contents[name]))
    if changed:
        raise ConfigError(
            f"the stage in {folder} was finished with another configuration (different: {', '.join(changed)}), and "
            f"later stages build on it. Change it back, or remove {folder} and the folders of later stages to run them "
            "again, or start with another run.dir."
        )
    return True


def _content(name: str) -> str | None:
    """The current fingerprint of what a finished stage used; None when it does not exist any more."""
    try:
        return named_contents({"use": name} if ":" in name else name).get(name) or source_digest(name)
    except ConfigError:  # the code of a plug-in
        return None


def _say(config: RecipeConfig, number: int, name: str, what: str) -> None:
    print(f"[stage {number}/{len(config.stages)}] {name} ({config.stages[name].kind}): {what}", flush=True)
