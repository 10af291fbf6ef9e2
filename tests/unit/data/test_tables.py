"""CSV, TSV and JSON lists: text stays as it is written, and memory holds a few rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.rows import BadRow, count_rows, read_rows
from sailrl.data.tables import PIECE, json_list_rows, table_rows
from sailrl.errors import DataError


def rows(tmp_path: Path, name: str, content: bytes) -> list[tuple[int, Any]]:
    (tmp_path / name).write_bytes(content)
    return [(line, row.detail if isinstance(row, BadRow) else row) for line, row in read_rows(tmp_path / name)]


def test_cells_are_text_as_they_are_written_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfindex,answer,E\n007,NA,\n8,1.50,x\n"
    assert rows(tmp_path, "x.csv", content) == [
        (2, {"index": "007", "answer": "NA"}),
        (3, {"index": "8", "answer": "1.50", "E": "x"}),
    ]


def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path) -> None:
    content = b'q\tanswer\n"two\nlines"\tA\n\nnext\tB\n'  # the first row has lines 2 and 3, line 4 is empty
    found = rows(tmp_path, "x.tsv", content)
    assert [row["q"] for _, row in found] == ["two\nlines", "next"]
    assert found[0][0] == 2


@pytest.mark.parametrize("line", [b"1", b"1,2,3,4", b"1,\xff,3"])
def test_a_row_that_does_not_fit_costs_only_itself(tmp_path: Path, line: bytes) -> None:
    (_, bad), (_, good) = rows(tmp_path, "x.csv", b"a,b,c\n" + line + b"\n4,5,6\n")
    assert isinstance(bad, str)
    assert good == {"a": "4", "b": "5", "c": "6"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", b"", "no first row"),
        ("x.csv", b"a,b,a\n1,2,3\n", "2 columns named 'a'"),
        ("x.csv", b"a\tb\n1\t2\n", "name that ends in .tsv"),
        ("x.tsv", b"a,b\n1,2\n", "name that ends in .csv"),
        ("x.parquet.gz", gzip.compress(b"PAR1", mtime=0), "Unpack it"),
        ("x.jsonl.gz", b'{"a": 1}\n', "cannot read"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 50_000, mtime=0)[:-50], "cannot unpack"),
        ("x.json", b'[{"a": 1}, {"a": 2}', "the list is not closed"),
        ("x.json", b'[{"a": 1} {"a": 2}]', "entry 1: '{'"),
        ("x.json", b'[{"a": 1}, {a: 2}]', "entry 2: not JSON"),
        ("x.json", b'[{"a": 1}]\n[2]', "more text follows"),
    ],
)
def test_a_file_that_cannot_be_read_to_its_end_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        rows(tmp_path, name, content)


def test_json_is_a_list_or_lines(tmp_path: Path) -> None:
    pair = [(1, {"a": 1}), (2, {"a": [2]})]
    assert rows(tmp_path, "x.json", json.dumps([{"a": 1}, {"a": [2]}], indent=2).encode()) == pair
    assert rows(tmp_path, "x.json", b'{"a": 1}\n{"a": [2]}\n') == pair
    assert rows(tmp_path, "x.json", b"[]") == []
    assert rows(tmp_path, "x.json", b'[{"a": 1}, 7]') == [(1, {"a": 1}), (2, "a JSON int")]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.tsv.gz", "x.json.gz"])
def test_packed_files_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    content = {
        "jsonl": '{"a": "1", "b": "2"}',
        "csv": "a,b\n1,2",
        "tsv": "a\tb\n1\t2",
        "json": '[{"a": "1", "b": "2"}]',
    }
    found = rows(tmp_path, name, gzip.compress(content[name.split(".")[1]].encode()))
    assert [row for _, row in found] == [{"a": "1", "b": "2"}]
    assert count_rows(tmp_path / name) == 1


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=5), st.sampled_from(",\t"))
def test_what_a_writer_of_tables_wrote_is_read_back(cells: list[list[str]], delimiter: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([["a", "b"], *cells])
    found = table_rows(Path("x"), io.BytesIO(text.getvalue().encode()), delimiter)
    wanted = [{name: cell for name, cell in zip("ab", row, strict=True) if cell} for row in cells]
    assert [row for _, row in found] == [row for row in wanted if row]


VALUE = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5), st.lists, max_leaves=5
)


@given(st.lists(VALUE, max_size=6), st.sampled_from([None, 0, 3]))
def test_any_json_list_is_read_back(values: list[Any], indent: int | None) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    assert [value for _, value in json_list_rows(Path("x"), io.BytesIO(text))] == values


def test_a_list_and_a_table_take_memory_for_a_row_and_not_for_the_file(tmp_path: Path) -> None:
    cell = "x" * 1000
    with (tmp_path / "x.tsv").open("w") as table, (tmp_path / "x.json").open("w") as entries:
        table.write("a\tb\n")
        entries.write("[")
        for number in range(20_000):
            table.write(f"{number}\t{cell}\n")
            entries.write(f'{"," if number else ""}{{"a": "{cell}"}}')
        entries.write("]")
    for name in ("x.tsv", "x.json"):  # of 20 MB each
        tracemalloc.start()
        assert sum(1 for _ in read_rows(tmp_path / name)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12 * PIECE
