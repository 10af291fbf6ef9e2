"""Opens a source of rows: files, patterns and folders of them, what the ``datasets`` library saved, and its hub."""

from __future__ import annotations

import glob
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.config.sources import SourceConfig, origin, row_format
from sailrl.data.rows import BadRow, Row, count_rows, file_format, read_rows
from sailrl.errors import ConfigError, DataError, SailError

STREAM_BUFFER = 1000
"""Rows of a stream among which the next one is drawn when it is shuffled."""
_ROWS_AT_ONCE = 64
_SPLITS = {
    name: split
    for split, names in {
        "train": ("train", "training"),
        "validation": ("validation", "valid", "val", "dev"),
        "test": ("test", "testing", "eval", "evaluation"),
    }.items()
    for name in names
}
"""The words in files' names by which the ``datasets`` library, too, tells splits apart."""
_NO_ROWS = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", "config.json")
"""Files about a dataset, in its folder."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row and its place."""

    file: str
    """Name of its file, dataset or generator in reports and ids."""
    folder: Path
    """What relative paths of pictures start from."""
    line: int
    """Counted from 1: the line of a JSONL file or table, else the row's number."""
    row: Row | BadRow | Any


def open_source(source: SourceConfig, base_dir: Path | None = None, section: str | None = None) -> Iterator[SourceRow]:
    """The rows of a source, or ``limit`` of them at random with ``shuffle``.

    Args:
        section: where the source stands in the configuration, for what a message tells to write.
        base_dir: what a relative path starts from; None for the folder one runs from.

    Raises:
        DataError: the source is missing or cannot be read.
        ConfigError: the generator cannot be loaded.
    """
    if source.path is None:
        if source.generate is None:
            raise ConfigError("a data source needs a path or generate. Write for example `path: data/problems.jsonl`.")
        use, args = source.generate.use, source.generate.args
        return _chosen(lambda: _generated(use, args, base_dir or Path()), source)
    if origin(source.path, base_dir) == "hub":
        return _dataset_rows(_from_hub(source, section), source, source.path, Path())
    path = _local(source.path, base_dir)
    if _is_saved_dataset(path):
        return _dataset_rows(_from_disk(path, source), source, path.name, path)
    files = source_files(source, base_dir)
    top = path if path.is_dir() else files[0].parent
    return _chosen(lambda: _file_rows(files, top), source)


def source_files(source: SourceConfig, base_dir: Path | None = None) -> list[Path]:
    """The files that a path, pattern or folder names, by name. All are of one format and one split.

    Raises:
        DataError: there are none, or they differ.
    """
    assert source.path is not None
    path = _local(source.path, base_dir)
    kind = origin(source.path, base_dir)
    if kind == "file":
        return [path]
    if kind == "pattern":
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        found = [name for name in found if name.is_file()]
        if not found:
            raise DataError(f"no file matches {path}. Relative paths start at the folder you run from.")
        _check_alike(source.path, found, _as_is)
        return found
    folder = path / source.subset if source.subset else path
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}, which subset: {source.subset} names.")
    found = [name for name in sorted(folder.rglob("*")) if name.is_file() and row_format(name) is not None]
    found = [name for name in found if name.name not in _NO_ROWS and not _is_hidden(name, folder)]
    if not found:
        here = ", ".join(sorted(name.name for name in folder.iterdir())[:8]) or "nothing"
        raise DataError(f"{folder} has no file with rows; it has {here}. A file's name says how its rows are written.")
    if source.split is not None:
        pattern = re.compile(rf"(?<![a-z]){re.escape(source.split)}(?![a-z])", re.IGNORECASE)
        chosen = [name for name in found if pattern.search(str(name.relative_to(folder)))]
        if not chosen:
            names = ", ".join(str(name.relative_to(folder)) for name in found[:8])
            raise DataError(f"no file in {folder} has the word {source.split!r}, which split names: {names}.")
        found = chosen
    else:
        splits = {_split_of(name.relative_to(folder)) for name in found}
        if len(splits) > 1:
            named = sorted(split for split in splits if split)
            raise DataError(
                f"{folder} has files of several splits: {', '.join(named)}{' and others' if None in splits else ''}. "
                f"Write split: {named[0]}."
            )
    _check_alike(str(folder), found, lambda name: str(name.relative_to(folder)))
    return found


def count_source(source: SourceConfig) -> int | None:
    """About how many rows a source has, for progress bars; None where only reading tells.

    Raises:
        DataError: its files are missing or cannot be read.
    """
    if source.path is None or origin(source.path) == "hub" or _is_saved_dataset(_local(source.path, None)):
        return None
    return sum(count_rows(path) for path in source_files(source))


def _local(path: str, base_dir: Path | None) -> Path:
    return (base_dir or Path()) / Path(path).expanduser()


def _as_is(path: Path) -> str:
    return str(path)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _split_of(path: Path) -> str | None:
    words = re.split(r"[^a-z]+", str(path).lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def _check_alike(named: str, files: list[Path], shown: Callable[[Path], str]) -> None:
    formats = {file_format(path): path for path in files}
    if len(formats) > 1:
        some = " and ".join(shown(path) for path in formats.values())
        raise DataError(f"{named} has files of several formats: {some}. Name those of one with a pattern (*.parquet).")


def _file_rows(files: list[Path], top: Path) -> Iterator[SourceRow]:
    for path in files:
        name = str(path.relative_to(top)) if path.is_relative_to(top) else path.name
        for line, row in read_rows(path):
            yield SourceRow(name, path.parent, line, row)


def _chosen(rows: Callable[[], Iterable[SourceRow]], source: SourceConfig) -> Iterator[SourceRow]:
    """All rows; with ``shuffle`` so many of them at random, in their order."""
    if source.shuffle is None or source.limit is None:
        return iter(rows())
    numbers = set(_drawn(sum(1 for _ in rows()), source.limit, source.shuffle))
    return (row for number, row in enumerate(rows()) if number in numbers)


def _drawn(rows: int, limit: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(rows), min(limit, rows)))


def _generated(use: str, args: dict[str, Any], folder: Path) -> Iterator[SourceRow]:
    generate = plugins.load(use)
    try:
        for number, row in enumerate(generate(**args), start=1):
            yield SourceRow(use, folder, number, row)
    except SailError:
        raise
    except Exception as error:
        raise DataError(f"the generator {use!r} failed: {type(error).__name__}: {error}") from error


# --- the datasets library --------------------------------------------------------------------------------------------


def _is_saved_dataset(path: Path) -> bool:
    """Whether ``datasets`` wrote this folder with ``save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and any(path.glob("*.arrow")))


def _library(path: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{path} is read by the library `datasets`, which cannot be imported ({error}). "
            "Install it: pip install 'sailrl[train]'."
        ) from error
    return datasets


def _from_disk(path: Path, source: SourceConfig) -> Any:
    datasets = _library(str(path))
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # Arrow, JSON and the file system each have their own
        raise DataError(f"cannot read {path}, which `datasets` saved: {_line(error)}.") from error
    return _one_split(found, source, str(path))


def _from_hub(source: SourceConfig, section: str | None) -> Any:
    assert source.path is not None
    datasets, name = _library(source.path), source.path
    try:
        found = datasets.load_dataset(
            name, source.subset, revision=source.revision, streaming=source.streaming, split=source.split
        )
    except ConnectionError as error:
        raise DataError(
            f"the dataset {name} is not in the cache on this machine, and the hub cannot be reached ({_line(error)}). "
            f"There is no file or folder {Path(name).absolute()} either, which would come first. Where there is a "
            f"network: hf download {name} --repo-type dataset --local-dir {name}. To use other data, write "
            f"{section or 'data.train'}: {{path: FILE}}."
        ) from error
    except Exception as error:  # a missing or closed dataset, a subset or split that must be named, broken files
        raise DataError(f"cannot load the dataset {name} from the hub: {_line(error)}.") from error
    return found if source.split is not None else _one_split(found, source, name)


def _one_split(found: Any, source: SourceConfig, name: str) -> Any:
    """The dataset of one split; ``found`` may be several by name."""
    if not isinstance(found, dict):
        if source.split is not None:
            raise DataError(f"{name} is one dataset without splits, and split is {source.split!r}. Remove split.")
        return found
    known = ", ".join(map(str, found))
    if source.split is None and len(found) > 1:
        raise DataError(f"{name} has several splits: {known}. Write for example split: {next(iter(found))}.")
    if source.split is not None and source.split not in found:
        raise DataError(f"{name} has no split {source.split!r}; it has {known}.")
    return found[source.split] if source.split is not None else next(iter(found.values()))


def _dataset_rows(dataset: Any, source: SourceConfig, name: str, folder: Path) -> Iterator[SourceRow]:
    """Rows as their Arrow columns store them, so that no picture is decoded. Numbers of labels become their names."""
    ClassLabel = _library(name).ClassLabel
    if source.shuffle is not None and source.limit is not None:
        if hasattr(dataset, "select"):
            dataset = dataset.select(_drawn(len(dataset), source.limit, source.shuffle))
        else:
            dataset = dataset.shuffle(seed=source.shuffle, buffer_size=STREAM_BUFFER).take(source.limit)
    labels = {column: kind for column, kind in (dataset.features or {}).items() if isinstance(kind, ClassLabel)}
    number = 0
    try:
        for table in dataset.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
            for row in table.to_pylist():
                number += 1
                for column, kind in labels.items():
                    row[column] = None if row[column] in (None, -1) else kind.int2str(row[column])
                yield SourceRow(name, folder, number, row)
    except SailError:
        raise
    except Exception as error:  # the network, Arrow, unpacking
        raise DataError(f"{name}: cannot read on behind row {number:,}: {_line(error)}.") from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(".")
