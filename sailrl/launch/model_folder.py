"""The model that a job starts from: a folder, a name on the hub, or a tiny one that is built in the run folder."""

from __future__ import annotations

from pathlib import Path

from sailrl import plugins
from sailrl.config.schema import ModelConfig
from sailrl.launch.run_folder import write_whole
from sailrl.report.progress import Progress


def model_folder(model: ModelConfig, run_dir: Path, progress: Progress) -> str:
    """The folder or hub name of a configured model; one that is built is kept in the run folder and found there."""
    if model.path is not None:
        return model.path
    build, folder = model.build, run_dir / "model"
    assert build is not None  # the checks have seen to it that one of the two is given
    if not folder.is_dir():
        progress.stage("building the model")
        write_whole(folder, lambda out: plugins.load(build.use)(out, **build.args))
    return str(folder)
