"""The model that a job starts from: a folder, a name on the hub, or one that is made and kept in the run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.config.model_files import read_object
from sailrl.config.schema import ModelConfig
from sailrl.errors import CheckpointError
from sailrl.launch.fingerprint import file_fault, file_sums
from sailrl.launch.run_folder import write_whole
from sailrl.launch.starts import differences
from sailrl.report.progress import Progress

MADE = ".made.json"
"""In a folder that was made: by what, and the sums of its files."""


def model_folder(model: ModelConfig, run_dir: Path, progress: Progress, *, resumed: bool = False) -> str:
    """The folder or hub name of a configured model; one that is built is kept in the run folder and found there.

    Args:
        resumed: see ``made_once``.
    """
    if model.path is not None:
        return model.path
    build, folder = model.build, run_dir / "model"
    assert build is not None  # the checks make sure that one of the two is given

    def write(out: Path) -> None:
        plugins.load(build.use)(out, **build.args)

    by = build.model_dump(mode="json") | {"code": plugins.code_digest(build.use)}
    made_once(folder, by, write, "building the model", progress, resumed=resumed)
    return str(folder)


def made_once(
    folder: Path,
    by: Mapping[str, Any],
    write: Callable[[Path], object],
    what: str,
    progress: Progress,
    *,
    resumed: bool = False,
) -> None:
    """Lets ``write`` fill a folder, unless it exists and was made with the same ``by``.

    Args:
        by: everything that decides on the content, JSON-able.
        what: the stage that is shown meanwhile.
        resumed: use an existing folder whatever made it: a checkpoint continues with what its run began with.

    Raises:
        CheckpointError: a file in it is not what was written, or something else has its name.
    """
    by = json.loads(json.dumps(by))
    if folder.is_dir():
        made = read_object(folder / MADE)
        if not made:
            raise CheckpointError(
                f"{folder} exists, but this job makes that folder itself. Move it, or set another run.dir."
            )
        if resumed or made["by"] == by:
            if (fault := file_fault(folder, made["files"])) is not None:
                raise CheckpointError(f"{folder}/{fault}. Remove {folder}, and the next start makes it again.")
            return
        changes = [f"{key}: {change}" for key, change in differences(made["by"], by).items()]
        progress.message(f"{folder} was made by other settings and is made again ({'; '.join(changes)})")
        shutil.rmtree(folder)

    def write_with_sums(out: Path) -> None:
        write(out)
        (out / MADE).write_text(json.dumps({"by": by, "files": file_sums(out)}), encoding="utf-8")

    progress.stage(what)
    write_whole(folder, write_with_sums)
