"""Public benchmarks, each as a small record: where it comes from, how it asks, how an answer is judged, how the scores
of its rows become one number, and what SAIL-VL2 has published.

File names and addresses are those of VLMEvalKit. Rules without a remark in ``ours`` are the benchmark's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sailrl.config.sources import row_format

Rule: TypeAlias = Literal["same", "anls", "relaxed", "contains"]
"""How an answer is compared, see ``rewards.benchmark``."""
Total: TypeAlias = Literal["mean", "all_of_group", "hallusion", "wemath"]
"""How the scores of rows become one number, see ``sailrl.report.totals``."""
_VLMEVALKIT = "https://opencompass.openxlab.space/utils/VLMEval"
_READ_BY_RULES = "Answers are read by rules, not by a language model."
TABLE_10 = "arXiv 2509.14033, Table 10"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How one benchmark is asked and scored."""

    files: tuple[str, ...]
    """Names in the folder of benchmarks, of which the first that is there is read."""
    url: str = ""
    """Where the file can be downloaded."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the source, for a file that is not VLMEvalKit's."""
    only: tuple[str, str] | None = None
    """A column and the value that it has in the rows that count."""
    task: str | None = None
    """What all answers are; None where the row tells: a choice where it has options."""
    request: str = ""
    """What is added to a question."""
    rule: Rule = "same"
    alternatives: bool = False
    """A list as the answer is several right ones."""
    precision: int | None = None
    """Decimals to which numbers are compared where the row does not say."""
    total: Total = "mean"
    group: str | None = None
    """The column, or ``index % n``, that rows of one group share."""
    published: float | None = None
    """SAIL-VL2 8B, in percent, from ``TABLE_10``."""
    ours: str = ""
    """What of the rule is ours and not the benchmark's."""


def _tsv(name: str, **rest: Any) -> Benchmark:
    return Benchmark((f"{name}.tsv",), f"{_VLMEVALKIT}/{name}.tsv", **rest)


_VALIDATION = "The validation part: the answers of test are not public."
_ONE_WORD = "Answer the question using a single word or phrase."
BENCHMARKS: dict[str, Benchmark] = {
    "mathvista_mini": _tsv("MathVista_MINI", published=75.8, ours=_READ_BY_RULES),
    "mathvision": _tsv("MathVision", published=46.7, ours=_READ_BY_RULES),
    "mathverse": Benchmark(
        ("MathVerse_MINIVOnly.tsv", "MathVerse_MINI_Vision_Only.tsv"),
        "http://opencompass.openxlab.space/utils/benchmarks/MathVerse/MathVerse_MINIVOnly.tsv",
        published=58.9,
        ours=f"The part Vision Only, which OpenCompass's table of reasoning has. {_READ_BY_RULES}",
    ),
    "logicvista": _tsv("LogicVista", task="choice", published=56.4, ours=_READ_BY_RULES),
    "wemath": _tsv("WeMath", total="wemath", published=54.9, ours=f"The strict score. {_READ_BY_RULES}"),
    "dynamath": _tsv(
        "DynaMath",
        precision=3,
        total="all_of_group",
        group="qid",
        published=33.5,
        ours="The share of questions that are right in all variants (the worst case; the other score is the mean). "
        f"Numbers are rounded to 3 decimals, not compared within 0.001. {_READ_BY_RULES}",
    ),
    "mmmu_val": _tsv("MMMU_DEV_VAL", only=("split", "validation"), alternatives=True, ours=_READ_BY_RULES),
    "ai2d": _tsv("AI2D_TEST", ours=_READ_BY_RULES),
    "chartqa": _tsv("ChartQA_TEST", request=_ONE_WORD, rule="relaxed", alternatives=True),
    "ocrbench": _tsv(
        "OCRBench",
        rule="contains",
        alternatives=True,
        ours="In percent; the benchmark counts its 1,000 rows. Looked for in the final answer, not in the thinking.",
    ),
    "docvqa": _tsv(
        "DocVQA_VAL",
        request=_ONE_WORD,
        rule="anls",
        alternatives=True,
        ours="The validation part: test has no answers.",
    ),
    "infovqa": _tsv(
        "InfoVQA_VAL",
        request=_ONE_WORD,
        rule="anls",
        alternatives=True,
        ours="The validation part: test has no answers.",
    ),
    "realworldqa": _tsv("RealWorldQA", ours=_READ_BY_RULES),
    "hallusionbench": _tsv(
        "HallusionBench",
        task="yes_no",
        request="Please answer yes or no.",
        total="hallusion",
        ours=f"The mean of aAcc, fAcc and qAcc, as OpenCompass ranks; the request is ours. {_READ_BY_RULES}",
    ),
    "mmstar": _tsv("MMStar", ours=_READ_BY_RULES),
    "mmbench": _tsv(
        "MMBench_DEV_EN_V11",
        total="all_of_group",
        group="index % 1000000",
        ours=f"The development part of version 1.1: the answers of test are not public. {_READ_BY_RULES}",
    ),
    "gsm8k": Benchmark(
        ("gsm8k_test.jsonl", "openai/gsm8k"),
        "https://huggingface.co/datasets/openai/gsm8k",
        columns={"subset": "main", "split": "test", "answer_regex": r"####\s*(.+)"},
        task="math",
    ),
    "math500": Benchmark(
        ("math500.jsonl", "HuggingFaceH4/MATH-500"),
        "https://huggingface.co/datasets/HuggingFaceH4/MATH-500",
        columns={"split": "test"},
        task="math",
    ),
}
"""By the name in ``benchmarks``."""


def place(name: str, folder: Path) -> str | None:
    """Where the rows of a benchmark are: a file in ``folder``, or a dataset on the hub; None where no file is there."""
    files = BENCHMARKS[name].files
    here = (str(folder / file) for file in files if (folder / file).is_file())
    return next(here, None) or next((file for file in files if row_format(Path(file)) is None), None)


def missing(name: str, folder: Path) -> str:
    """That a benchmark's file is not there, and how to get it."""
    path = (folder / BENCHMARKS[name].files[0]).absolute()
    return (
        f"{name} needs {path}, which is not there. Download it: curl -L --create-dirs -o {path} {BENCHMARKS[name].url}"
    )


AVERAGES: dict[str, tuple[tuple[str, ...], float]] = {
    "OpenCompass reasoning": (
        ("mathvista_mini", "mathvision", "mathverse", "dynamath", "wemath", "logicvista"),
        54.4,
    )
}
"""Means over benchmarks, and what SAIL-VL2 8B has published of each (``TABLE_10``)."""
