"""Problems from JSONL, Parquet and generators, with field mapping; bad rows stop the run or are listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sailrl.config.base import Plugin
from sailrl.config.schema import SourceConfig
from sailrl.data.problems import LoadedProblems, load_problems
from sailrl.errors import ConfigError, DataError

SHARED = Path(__file__).parents[4] / "shared" / "data"
GSM8K = {"prompt_field": "question", "answer_field": "answer", "answer_regex": r"####\s*(.+)"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def loaded(path: Path, on_bad_row: str = "error", **source: Any) -> LoadedProblems:
    return load_problems(SourceConfig(path=str(path), **source), on_bad_row=on_bad_row)  # type: ignore[arg-type]


def refused(path: Path, on_bad_row: str = "error", **source: Any) -> str:
    with pytest.raises(DataError) as error:
        loaded(path, on_bad_row, **source)
    return str(error.value)


# --- files ---------------------------------------------------------------------------------------------------------


def test_rows_of_a_jsonl_file_become_problems_named_after_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "answer": 1}, "\n", {"prompt": "b", "id": "mine"})
    found = loaded(path)
    assert [(p.prompt, p.answer, p.id) for p in found.problems] == [("a", 1, "p.jsonl:1"), ("b", None, "mine")]
    assert found.bad_rows == []


def test_parquet_rows_are_the_same_problems_and_may_hold_image_bytes(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "1", "images": [b"png"]}, {"prompt": "b", "answer": None, "images": None}]
    path = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = loaded(path)
    assert [(p.prompt, p.answer, p.id, p.images) for p in found.problems] == [
        ("a", "1", "p.parquet:1", (b"png",)),
        ("b", None, "p.parquet:2", ()),
    ]


def test_images_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"png")
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "images": ["images/a.png"]})
    assert loaded(path).problems[0].images == (str(tmp_path / "images" / "a.png"),)


def test_a_relative_path_starts_at_the_given_folder(tmp_path: Path) -> None:
    write(tmp_path / "p.jsonl", {"prompt": "a"})
    found = load_problems(SourceConfig(path="p.jsonl"), on_bad_row="error", base_dir=tmp_path)
    assert len(found.problems) == 1


def test_the_limit_counts_problems_not_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": ""}, {"prompt": "b"}, {"prompt": "c"})
    found = loaded(path, "skip", limit=2)
    assert [p.prompt for p in found.problems] == ["a", "b"]


# --- bad rows ------------------------------------------------------------------------------------------------------


def test_bad_rows_stop_the_run_and_are_listed_with_file_line_field_and_rule(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"answer": 1}, "{broken\n", {"prompt": "b", "precision": -1})
    assert refused(path) == (
        f"{path}: 3 of 4 rows break a rule.\n"
        "  p.jsonl:2: prompt: is missing; the row has answer\n"
        "  p.jsonl:3: not JSON (Expecting property name enclosed in double quotes at character 1)\n"
        "  p.jsonl:4: precision: must be at least 0, this is -1\n"
        "Repair them, or leave them out with data.on_bad_row=skip."
    )


def test_bad_rows_can_be_left_out_and_are_returned(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"answer": 1}, {"prompt": "b"})
    found = loaded(path, "skip")
    assert [p.prompt for p in found.problems] == ["a", "b"]
    assert [(bad.file, bad.line, bad.field) for bad in found.bad_rows] == [("p.jsonl", 2, "prompt")]


def test_each_kind_of_bad_row_is_listed_once_with_its_first_line_and_counted(tmp_path: Path) -> None:
    rows: list[Any] = [{"prompt": "a"}]
    for n in range(25):
        rows += [{"answer": n}, {"prompt": "?", "images": [f"{n}.png"]}, {"prompt": "<image>" * (n + 1)}]
    said = refused(write(tmp_path / "p.jsonl", *rows)).splitlines()
    assert said[0].endswith("75 of 76 rows break a rule.")
    assert said[1] == "  p.jsonl:2: prompt: is missing; the row has answer (the first of 25 such rows)"
    assert "p.jsonl:3: images[0]: there is no file" in said[2]
    assert said[2].endswith("(the first of 25 such rows)")
    assert "p.jsonl:4: images: the prompt has 1 image marks" in said[3]
    assert len(said) == 5  # and what to do


def test_only_the_first_kinds_of_bad_rows_are_listed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", *[{"prompt": [{"role": "user", "content": [{"type": "x" * n}]}]} for n in (1, 2)]
    )
    assert refused(path).count("(the first of 2 such rows)") == 1
    path = write(tmp_path / "p.jsonl", *[{"a" * n: 1} for n in range(1, 14)])
    assert "... and 3 more rows with other faults" in refused(path)


def test_an_id_is_used_once(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "id": "x"}, {"prompt": "b"}, {"prompt": "c", "id": "x"})
    assert "p.jsonl:3: id: 'x' is already the id of row 1; ids are unique" in refused(path)


def test_a_file_without_a_usable_row_is_refused_even_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"answer": 1})
    assert refused(path, "skip").startswith(f"{path}: there is no problem in it. All 1 rows break a rule:\n")
    assert refused(write(tmp_path / "empty.jsonl")).endswith("there is no problem in it. It is empty.")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.jsonl") == f"there is no file {tmp_path / 'no.jsonl'}."


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "does not say by its name how rows are written in it" in refused(write(tmp_path / "p.txt", "a,b\n"))


def test_a_source_without_an_origin_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a path or generate"):
        load_problems(SourceConfig(), on_bad_row="error")


# --- field mapping -------------------------------------------------------------------------------------------------


def test_the_answer_is_the_first_group_of_the_last_match_stripped_and_with_its_commas(tmp_path: Path) -> None:
    solution = "We try #### 7 first.\nThen 1000 + 80.\n####  1,080 \n"
    path = write(tmp_path / "p.jsonl", {"question": "How many?", "answer": solution})
    (problem,) = loaded(path, **GSM8K).problems
    assert (problem.prompt, problem.answer) == ("How many?", "1,080")


def test_only_the_first_group_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "answer": "x = 3 cm"})
    assert loaded(path, answer_regex=r"(\d+) (cm|m)").problems[0].answer == "3"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "a", "answer": "#### 1"},
            "question: is missing (data.*.prompt_field names it); the row has prompt",
        ),
        ({"question": "a", "answer": "72"}, r"answer: answer_regex '####\\s*(.+)' matches nothing in it"),
        ({"question": "a", "answer": 72}, "answer: answer_regex needs text to search, this is the number 72"),
        ({"question": "a"}, "answer: answer_regex needs text to search, this is null"),
    ],
)
def test_a_row_that_the_mapping_does_not_fit_is_bad(tmp_path: Path, row: Any, message: str) -> None:
    assert f"p.jsonl:1: {message}" in refused(write(tmp_path / "p.jsonl", row), **GSM8K)


@pytest.mark.skipif(not (SHARED / "gsm8k_train.jsonl").is_file(), reason=f"the GSM8K files are not at {SHARED}")
@pytest.mark.parametrize(("name", "count"), [("gsm8k_train.jsonl", 7473), ("gsm8k_test.jsonl", 1319)])
def test_gsm8k_loads_without_a_conversion(name: str, count: int) -> None:
    found = loaded(SHARED / name, **GSM8K)
    assert len(found.problems) == count
    assert all(p.answer.replace(",", "").replace(".", "").lstrip("-").isdigit() for p in found.problems)


# --- generators ----------------------------------------------------------------------------------------------------


def additions(count: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {"prompt": f"{n} + 1", "answer": n + 1}


def failing() -> Iterator[dict[str, Any]]:
    yield {"prompt": "a"}
    raise RuntimeError("no more")


def generated(name: str, **args: Any) -> LoadedProblems:
    source = SourceConfig(generate=Plugin(use=f"{__file__}:{name}", args=args))
    return load_problems(source, on_bad_row="error")


def test_a_generators_rows_become_problems_named_after_it() -> None:
    found = generated("additions", count=2)
    assert [(p.prompt, p.answer) for p in found.problems] == [("0 + 1", 1), ("1 + 1", 2)]
    assert found.problems[1].id == f"{__file__}:additions:2"


def test_a_generator_that_fails_is_quoted() -> None:
    with pytest.raises(DataError, match=r"failing' failed: RuntimeError: no more"):
        generated("failing")


def test_a_generator_that_is_called_wrongly_is_quoted() -> None:
    with pytest.raises(DataError, match=r"failed: TypeError: additions\(\) got an unexpected keyword argument 'size'"):
        generated("additions", size=3)


def test_a_generator_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"has no 'addition'. It offers: additions"):
        generated("addition")
