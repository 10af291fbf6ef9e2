"""Where problems come from, and how their rows are read."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from sailrl.config.base import Plugin, Section

ROW_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Ends of the names of files with rows; all but the last also with ``.gz`` behind them."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
Fields: TypeAlias = str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
"""One field of a row, or several."""
Origin: TypeAlias = Literal["file", "pattern", "folder", "hub"]


class SourceConfig(Section):
    """Where problems come from: exactly one of `path` and `generate`."""

    path: str | None = None
    """A file with one problem per row: JSONL, JSON, Parquet, CSV or TSV (all but Parquet also with `.gz`). Or several
    of one kind: a pattern (`data/*.parquet`) or a folder. Or a folder that the `datasets` library saved, or a dataset
    on the hub by its name (`hiyouga/geometry3k`)."""
    subset: str | None = None
    """The subset of a dataset on the hub that has several; of a folder of files, the folder in it."""
    split: str | None = None
    """The split of a dataset, like `train`; of a folder of files, those with this word in their names."""
    revision: str | None = None
    """The branch, tag or commit of a dataset on the hub; null takes the newest."""
    streaming: bool = False
    """Reads a dataset on the hub as it arrives, in place of downloading it first. With `limit`, only the beginning is
    downloaded."""
    generate: Plugin | None = None
    """Code that returns rows (the tiny demos)."""
    prompt_field: str = "prompt"
    """The row's field that holds the question. A field inside an object is written with a dot."""
    answer_field: str = "answer"
    """The row's field that holds the reference answer (verl: `reward_model.ground_truth`)."""
    answer_regex: str | None = None
    """The answer is the first group of the last match in the answer field (GSM8K: `####\\s*(.+)`)."""
    response_field: str = "response"
    """The row's field that holds what a supervised stage imitates."""
    images_field: Fields = "images"
    """The row's field that holds the images, a list or one image; or several fields, `[image_1, image_2]`."""
    choices_field: Fields = "choices"
    """The row's field that holds the options of a multiple-choice question; or one field per option, `[A, B, C, D]`."""
    ignore: tuple[str, ...] = Field(default=(), strict=False)
    """Fields that are left out before anything is read, for example a `task` or `meta` of another meaning."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first so many problems only."""
    shuffle: int | None = Field(default=None, ge=0)
    """A seed. With it, `limit` takes so many rows at random, of which rows that break a rule drop out. The file is read
    twice; a stream is shuffled in parts of 1,000 rows."""

    def fields(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The names of a problem's fields that can be mapped, each with the row's fields that it is read from."""
        for name in ("prompt", "answer", "images", "choices", "response"):
            given: str | tuple[str, ...] = getattr(self, f"{name}_field")
            if (name, given) != ("response", "response"):  # which only supervised stages read
                yield name, (given,) if isinstance(given, str) else given


def origin(path: str, base_dir: Path | None = None) -> Origin:
    """What a source's path names. What lies on this machine comes before a dataset of the same name on the hub.

    A file may not exist.
    """
    local = (base_dir or Path()) / Path(path).expanduser()
    if local.is_dir():
        return "folder"
    if local.is_file():
        return "file"
    if any(mark in path for mark in "*?["):
        return "pattern"
    # A folder `data` that is here and has no `data/shards` is more likely than a user `data` on the hub.
    on_hub = _HUB_NAME.fullmatch(path) and row_format(Path(path)) is None and not local.parent.is_dir()
    return "hub" if on_hub else "file"


def is_here(path: str) -> bool:
    """Whether a source's path names something on this machine, or a dataset on the hub, which may be elsewhere."""
    kind, local = origin(path), Path(path).expanduser()
    return local.is_file() if kind == "file" else kind != "pattern" or any(glob.iglob(str(local), recursive=True))


def row_format(path: Path) -> str | None:
    """The end of a file's name that says how its rows are written, without ``.gz``; None where none is known."""
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    if suffix.lower() not in ROW_FILES:
        return None
    return ".jsonl" if suffix.lower() == ".ndjson" else suffix.lower()


DATASET_KEYS: dict[Origin | None, tuple[str, ...]] = {
    None: ("subset", "split", "revision", "streaming"),
    "file": ("subset", "split", "revision", "streaming"),
    "pattern": ("subset", "split", "revision", "streaming"),
    "folder": ("revision", "streaming"),
    "hub": (),
}
"""What has no meaning for a source of each origin; None is a generator."""
