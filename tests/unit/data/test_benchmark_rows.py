"""VLMEvalKit's tables as problems: pictures in base64, options in columns, answers of several forms."""

from __future__ import annotations

import base64
import csv
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sailrl.config.benchmarks import BENCHMARKS
from sailrl.data.benchmark_rows import benchmark_reader
from sailrl.data.images import ImageStore
from sailrl.errors import DataError
from sailrl.types import Problem


def picture(shade: int = 0) -> str:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), (shade, 0, 0)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def read(folder: Path, name: str, *rows: dict[str, Any]) -> list[Problem]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (folder / BENCHMARKS[name].files[0]).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    reader = benchmark_reader(name, folder, ImageStore(folder / "store"))
    problems = [problem for _, problem in reader]
    reader.check("error")
    return problems


def test_a_question_has_its_options_listed_and_its_picture_in_the_store(tmp_path: Path) -> None:
    row = {"index": 3, "image": picture(), "question": "Which?", "hint": "Look.", "A": "ant", "B": "dog", "answer": "B"}
    (problem,) = read(tmp_path, "mmstar", {**row, "category": "animals"})
    assert problem.prompt == (
        "Hint: Look.\nQuestion: Which?\nOptions:\nA. ant\nB. dog\n"
        "Please select the correct answer from the options above."
    )
    assert (problem.answer, problem.choices, problem.task, problem.id) == ("B", ("ant", "dog"), "choice", "mmstar-3")
    assert problem.meta == {"index": "3", "category": "animals"}
    assert Path(str(problem.images[0])).parent == tmp_path / "store" / "encoded"


def test_a_short_text_in_place_of_a_picture_is_the_row_that_has_it(tmp_path: Path) -> None:
    row = {"question": "?", "A": "1", "B": "2", "answer": "A"}
    first, second = read(
        tmp_path, "mmbench", {"index": 7, "image": picture(), **row}, {"index": 1000007, "image": 7, **row}
    )
    assert first.images == second.images
    with pytest.raises(DataError, match="image: refers to the row 9, which is not in front of it"):
        read(tmp_path, "mmbench", {"index": 1000009, "image": 9, **row})


def test_pictures_stand_where_mmmu_marks_them_and_only_its_validation_rows_count(tmp_path: Path) -> None:
    images = str([picture(1), picture(2)])
    row = {"image": images, "question": "<image 2> or <image 1>?", "A": "x", "B": "y", "answer": "A"}
    (problem,) = read(
        tmp_path, "mmmu_val", {"index": "d", **row, "split": "dev"}, {"index": "v", **row, "split": "validation"}
    )
    assert problem.id == "mmmu_val-v"
    assert str(problem.prompt).startswith("Question: <image> or <image>?")
    shown = [ImageStore(tmp_path / "store").pixels(Path(str(image)).name)[0, 0, 0] for image in problem.images]
    assert shown == [2, 1]


def test_the_option_is_the_answer_where_mathvista_has_both_and_places_are_read(tmp_path: Path) -> None:
    rows = [
        {"question": "Q\nChoices: (A) 3 (B) 4", "answer": "4", "answer_option": "B", "choices": "['3', '4']",
         "question_type": "multi_choice", "answer_type": "text"},
        {"question": "How long?", "answer": "1.2", "question_type": "free_form", "answer_type": "float",
         "precision": "1.0"},
    ]  # fmt: skip
    first, second = read(
        tmp_path, "mathvista_mini", *({"index": n, "image": picture(), **row} for n, row in enumerate(rows))
    )
    assert (first.answer, first.choices, first.task) == ("B", ("3", "4"), "choice")
    assert (second.answer, second.choices, second.task, second.precision) == ("1.2", (), None, 1)


def test_answers_that_are_alternatives_are_a_list_and_others_stay_text(tmp_path: Path) -> None:
    row = {"index": 1, "image": picture(), "question": "?", "answer": "['a', 'b']"}
    assert read(tmp_path, "docvqa", row)[0].answer == ["a", "b"]
    assert read(tmp_path, "docvqa", row)[0].prompt == "?\nAnswer the question using a single word or phrase."
    assert read(tmp_path, "mathvision", row)[0].answer == "['a', 'b']"
    formula = {**row, "category": "Handwritten Mathematical Expression Recognition"}
    assert read(tmp_path, "ocrbench", formula)[0].task == "formula"


def test_a_damaged_picture_costs_its_row_and_names_the_line(tmp_path: Path) -> None:
    row = {"index": 1, "image": picture()[:-40], "question": "?", "answer": "1"}
    with pytest.raises(DataError, match=r"DocVQA_VAL\.tsv:2: image:"):
        read(tmp_path, "docvqa", row)


def test_text_benchmarks_are_read_as_they_are_published(tmp_path: Path) -> None:
    (tmp_path / "gsm8k_test.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "It is 2.\n#### 2"}) + "\n")
    (tmp_path / "math500.jsonl").write_text(json.dumps({"problem": "x?", "answer": "3", "unique_id": "t/1"}) + "\n")
    found = [list(benchmark_reader(name, tmp_path, ImageStore(tmp_path / "s"))) for name in ("gsm8k", "math500")]
    assert [(problem.prompt, problem.answer, problem.id) for ((_, problem),) in found] == [
        ("1+1?", "2", "gsm8k-1"),
        ("x?", "3", "math500-t/1"),
    ]


def test_a_benchmark_without_a_file_says_where_it_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ai2d needs .*AI2D_TEST\.tsv.* curl -L --create-dirs"):
        benchmark_reader("ai2d", tmp_path, ImageStore(tmp_path))


def test_every_record_says_where_its_figure_is_from_or_has_none() -> None:
    assert {name for name, one in BENCHMARKS.items() if one.published is not None} == {
        "mathvista_mini", "mathvision", "mathverse", "logicvista", "wemath", "dynamath"
    }  # fmt: skip
    assert all(one.group for one in BENCHMARKS.values() if one.total == "all_of_group")


LIMITED = """
import itertools, sys
from pathlib import Path
from sailrl.data.benchmark_rows import benchmark_reader
from sailrl.data.images import ImageStore
rows = benchmark_reader("mathvision", Path(sys.argv[1]), ImageStore(Path(sys.argv[1]) / "store"))
assert len(list(itertools.islice(rows, 100))) == 100
"""


def test_the_first_rows_of_a_large_table_come_without_the_others(tmp_path: Path) -> None:
    with (tmp_path / "MathVision.tsv").open("w") as file:
        file.write("index\tquestion\tanswer\n")
        for start in range(0, 1_000_000, 10_000):
            file.write(
                "".join(f"{number}\tWhat is {number} + 1?\t{number + 1}\n" for number in range(start, start + 10_000))
            )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
