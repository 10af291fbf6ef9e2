"""The part of ``sailrl check`` about data: each row of each source is read once, and none is kept in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sailrl.config.base import Section
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.filtering import FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.needs import model_config, models
from sailrl.config.schema import PromptConfig, RlvrConfig, SourceConfig
from sailrl.config.sft import SftConfig
from sailrl.config.sources import is_here, origin
from sailrl.data.problems import ProblemReader, list_bad_rows
from sailrl.data.responses import READS, imitated
from sailrl.data.rows import OnBadRow, Row
from sailrl.data.sources import count_source
from sailrl.data.videos import evenly
from sailrl.errors import ConfigError, DataError, RewardError, SailError
from sailrl.families import family_of
from sailrl.plan.memory_plan import mib
from sailrl.report.safe_text import say
from sailrl.report.shown import counted
from sailrl.scoring.answers import TRIED, check_answers, task_notes
from sailrl.scoring.spec import ScoringSpec
from sailrl.types import ImageSource, Problem

if TYPE_CHECKING:
    from sailrl.commands.check_data import PromptCheck


@dataclass
class Pictures:
    """The distinct images of all sources."""

    encoded_bytes: int = 0
    """Bytes that they take in a run folder."""
    _known: set[str | bytes] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._known)

    def add(self, image: ImageSource) -> None:
        """Counts an image once; a path without a file adds no bytes."""
        name = image if isinstance(image, str) else hashlib.blake2b(image, digest_size=16).digest()
        if name not in self._known:
            self._known.add(name)
            with suppress(OSError):
                self.encoded_bytes += Path(image).stat().st_size if isinstance(image, str) else len(image)


@dataclass
class _Seen:
    """Counts of the problems of one source, and some of them."""

    pictures: Pictures
    frames: int
    """Most frames of a video that are shown."""
    step: int
    """One of so many problems is kept to try the rewards."""
    rows: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    some: list[Problem] = field(default_factory=list)

    def watched(self, reader: ProblemReader) -> Iterator[Problem]:
        """Yields the problems of a reader and counts them."""
        for _, problem in reader:
            if self.rows % self.step == 0 and len(self.some) < TRIED:
                self.some.append(problem)
            self.rows += 1
            self.tasks[problem.task or "no task"] += 1
            for image in problem.images:
                self.pictures.add(image)
            for video in problem.videos:
                for frame in evenly(video, self.frames):
                    self.pictures.add(frame.image)
            yield problem


def check_sources(config: Section, console: Console, prompts: PromptCheck | None) -> tuple[list[str], Pictures]:
    """Reads all data of a job and prints its counts.

    Args:
        prompts: renders each problem and compares what the parts of the system make of it; None skips this.

    Returns:
        Complaints, and the images that the run folder will hold.
    """
    complaints: list[str] = []
    pictures = Pictures()
    for name, source, on_bad_row in _sources(config):
        if source.path is not None and not is_here(source.path):
            continue  # preflight complains of it
        if source.path is not None and origin(source.path) == "hub" and prompts is None:
            say(console, f"{name}: {source.path} is a dataset on the hub; `--data` loads and checks it")
            continue
        try:
            complaints += _check_source(config, name, source, on_bad_row, pictures, console, prompts)
        except SailError as error:
            complaints.append(f"{name}: {error}")
    if len(pictures):
        say(
            console,
            f"{counted(len(pictures), 'distinct image')}, {mib(pictures.encoded_bytes)} MiB encoded, as the run folder "
            "keeps them",
        )
    return complaints, pictures


def _check_source(
    config: Section,
    name: str,
    source: SourceConfig,
    on_bad_row: OnBadRow,
    pictures: Pictures,
    console: Console,
    prompts: PromptCheck | None,
) -> list[str]:
    total = count_source(source)
    data = getattr(config, "data", None)
    asked = data if isinstance(data, PromptConfig) else None
    reader = _reader(config, name, source)
    seen = _Seen(pictures, asked.frames_per_video if asked else 1, max(1, (total or 1) // TRIED))
    complaints: list[str] = []
    shown = ""
    if prompts is None:
        for _ in seen.watched(reader):
            pass
    else:
        shown, complaints = prompts.check(name, seen.watched(reader), total)
    reader.check(on_bad_row)
    say(console, _summary(name, seen, reader))
    for note in reader.notes(write_choices=asked.write_choices if asked else None):
        say(console, f"warning: {note}")
    if shown:
        say(console, shown)
    if reader.columns.with_pictures:
        complaints += _blind_models(config, name, reader)
    if isinstance(config, RlvrConfig | FilterConfig | EvaluateConfig) and config.rewards and name.startswith("data."):
        spec = ScoringSpec.from_config(config.rewards)
        with suppress(ConfigError):  # preflight complains of rewards that cannot be loaded
            for note in task_notes(spec, seen.tasks, name):
                say(console, f"warning: {note}")
            try:
                for note in check_answers(spec, seen.some, name):
                    say(console, f"warning: {note}")
            except (DataError, RewardError) as error:
                complaints.append(str(error))
    return complaints


def _reader(config: Section, name: str, source: SourceConfig) -> ProblemReader:
    if isinstance(config, SftConfig) or name == "warm_start.data":

        def has_response(row: Row) -> None:
            imitated(row)

        return ProblemReader(source, name, also_read=READS, needs_answer=False, rule=has_response)
    if isinstance(config, FuseConfig):
        return ProblemReader(source, name, also_read=("response", "source"))
    return ProblemReader(source, name)


def _blind_models(config: Section, name: str, reader: ProblemReader) -> list[str]:
    if not isinstance(config, RlvrConfig | SftConfig | FilterConfig | EvaluateConfig):
        return []
    blind = [
        model.path
        for _, model in models(config)
        if (given := model_config(model)) and (family := family_of(given)) and not family.sees
    ]
    return [
        f"{name}: {reader.columns.with_pictures:,} of {reader.columns.rows:,} problems have images, and the model "
        f"{path} takes none. Use a vision-language model, or leave the images out: {name}.ignore: [images, videos]."
        for path in blind
    ]


def _sources(config: Section) -> Iterator[tuple[str, SourceConfig, OnBadRow]]:
    if isinstance(config, RlvrConfig):
        if config.warm_start is not None:
            yield "warm_start.data", config.warm_start.data, "error"
        yield "data.train", config.data.train, config.data.on_bad_row
        for number, source in enumerate(config.data.more):
            yield f"data.more.{number}", source, config.data.on_bad_row
        if config.data.eval is not None:
            yield "data.eval", config.data.eval, config.data.on_bad_row
    elif isinstance(config, SftConfig):
        yield "data.train", config.data.train, config.data.on_bad_row
    elif isinstance(config, FilterConfig | EvaluateConfig) and config.data is not None and config.data.problems:
        yield "data.problems", config.data.problems, config.data.on_bad_row
    elif isinstance(config, FuseConfig):
        for number, source in enumerate(config.direct):
            yield f"direct.{number}", source, "skip"


def _summary(name: str, seen: _Seen, reader: ProblemReader) -> str:
    parts = ", ".join(f"{task} {count:,}" for task, count in seen.tasks.most_common())
    text = f"{name}: {seen.rows:,} problems ({parts})"
    if read := reader.columns.read():
        text += f"; {read}"
    if reader.bad_rows:
        text += f", {len(reader.bad_rows):,} bad rows left out:\n{list_bad_rows(reader.bad_rows)}"
    return text
