"""Rows of public benchmarks as problems: VLMEvalKit's tables, and the text benchmarks of the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sailrl.config.benchmarks import BENCHMARKS, Benchmark, missing, place
from sailrl.config.sources import SourceConfig, origin
from sailrl.data.fields import BrokenRow, list_in_text
from sailrl.data.images import ImageStore
from sailrl.data.messages import IMAGE_MARK
from sailrl.data.pictures import image_source
from sailrl.data.problems import ProblemReader
from sailrl.data.rows import Row
from sailrl.errors import DataError

_LETTERS = "ABCDEFGHIJ"
_NUMBERED = re.compile(r"<image (\d+)>")
_REFERENCE = 64
"""Characters; a shorter text in the column ``image`` is the index of the row that has the picture."""
_NO_META = {"image", "image_path", "question", "answer", "hint", "choices", "precision", *_LETTERS}


def benchmark_reader(name: str, folder: Path, store: ImageStore, *, bare: bool = False) -> ProblemReader:
    """The problems of the benchmark ``name``, as ``ProblemReader`` reads them; their other columns are in ``meta``.

    Args:
        folder: has the files, under VLMEvalKit's names.
        store: takes the pictures.
        bare: leaves what stands around a question out of its prompt: hint, list of options, requests.

    Raises:
        DataError: no file of it is there.
    """
    benchmark = BENCHMARKS[name]
    path = place(name, folder)
    if path is None:
        raise DataError(missing(name, folder))
    whole = benchmark.columns if origin(path) == "hub" else {}
    cut = {key: value for key, value in benchmark.columns.items() if key == "answer_regex"}
    convert = _Text(name, benchmark) if benchmark.columns else _Table(name, benchmark, store, bare)
    source = SourceConfig(path=path, **{**cut, **whole})
    return ProblemReader(source, f"benchmarks.{name}", store=store, convert=convert)


class _Text:
    """Rows of a text benchmark, as they are; other columns than question and answer go into ``meta``."""

    def __init__(self, name: str, benchmark: Benchmark) -> None:
        self._name, self._benchmark, self._rows = name, benchmark, 0

    def __call__(self, row: Mapping[str, Any]) -> Row:
        self._rows += 1
        question = row.get("question") or row.get("problem") or row.get("prompt")
        index = row.get("unique_id") or self._rows
        return {
            "prompt": question,
            "answer": row.get("answer"),
            "id": f"{self._name}-{index}",
            "task": self._benchmark.task,
            "meta": {"index": index},
        }


class _Table:
    """Rows of a VLMEvalKit table: ``index``, ``image`` in base64 or the index of the row that has it, ``question``,
    options in columns ``A``, ``B``, ..., ``answer``."""

    def __init__(self, name: str, benchmark: Benchmark, store: ImageStore, bare: bool) -> None:
        self._name, self._benchmark, self._store, self._bare = name, benchmark, store, bare
        self._pictures: dict[str, list[str]] = {}
        """Paths of the pictures of each row so far, for rows that refer to them."""

    def __call__(self, row: Mapping[str, Any]) -> Row | None:
        if self._benchmark.only is not None and row.get(self._benchmark.only[0]) != self._benchmark.only[1]:
            return None
        index = str(row.get("index", ""))
        options = {letter: str(row[letter]) for letter in _LETTERS if row.get(letter) is not None}
        images = self._images(row, index)
        question = str(row.get("question") or "")
        asked = question if self._bare else _question(row, options, self._benchmark.request)
        prompt, images = _placed(asked, images)
        choices = list(options.values()) or [str(one) for one in list_in_text(str(row.get("choices") or "")) or ()]
        return {
            "prompt": prompt,
            "answer": self._answer(row),
            "id": f"{self._name}-{index}",
            "images": images,
            "choices": choices or None,
            "precision": _places(row.get("precision"), self._benchmark.precision),
            "task": _task(row, bool(choices), self._benchmark),
            "meta": {key: value for key, value in row.items() if key not in _NO_META} | {"index": index},
        }

    def _images(self, row: Mapping[str, Any], index: str) -> list[str]:
        given = row.get("image")
        if given is None:
            paths = row.get("image_path")
            return [] if paths is None else [str(path) for path in list_in_text(str(paths)) or [paths]]
        if len(str(given)) <= _REFERENCE and list_in_text(str(given)) is None:
            if str(given) not in self._pictures:
                raise BrokenRow("image", f"refers to the row {given}, which is not in front of it")
            return self._pictures[str(given)]
        entries = list_in_text(str(given)) or [given]
        try:
            found = [self._store.keep(image_source(entry, "image", None, True)) for entry in entries]
        except DataError as error:
            raise BrokenRow("image", str(error)) from None
        self._pictures[index] = found
        return found

    def _answer(self, row: Mapping[str, Any]) -> Any:
        answer = row.get("answer_option") or row.get("answer")
        if self._benchmark.alternatives and isinstance(answer, str):
            return list_in_text(answer) or answer
        return answer


def _question(row: Mapping[str, Any], options: Mapping[str, str], request: str) -> str:
    """Hint, question and options as VLMEvalKit lists them."""
    question = str(row.get("question") or "")
    lines = [f"Hint: {row['hint']}"] if row.get("hint") else []
    lines.append(f"Question: {question}" if options else question)
    if options:
        listed = (f"{letter}. {text}" for letter, text in options.items())
        lines += ["Options:", *listed, "Please select the correct answer from the options above."]
    return "\n".join([*lines, *([request] if request else [])])


def _placed(prompt: str, images: list[str]) -> tuple[str, list[str]]:
    """MMMU's marks ``<image 2>`` as ours, with the pictures in the order of the marks. Without marks all stand in
    front."""
    numbers = [int(number) for number in _NUMBERED.findall(prompt)]
    if not numbers or max(numbers) > len(images) or min(numbers) < 1:
        return _NUMBERED.sub("", prompt) if numbers else prompt, images
    return _NUMBERED.sub(IMAGE_MARK, prompt), [images[number - 1] for number in numbers]


def _task(row: Mapping[str, Any], has_choices: bool, benchmark: Benchmark) -> str | None:
    if benchmark.task is not None:
        return benchmark.task
    if row.get("category") == "Handwritten Mathematical Expression Recognition":
        return "formula"
    kinds = {str(row.get(key) or "").replace("_", " ").replace("-", " ") for key in ("question_type", "answer_type")}
    return "choice" if has_choices or kinds & {"multi choice", "multiple choice"} else None


def _places(given: Any, otherwise: int | None) -> int | None:
    """Decimals from ``2``, ``2.0`` or nothing."""
    try:
        return otherwise if given is None else int(float(given))
    except (ValueError, OverflowError):
        return otherwise
