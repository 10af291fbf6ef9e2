from __future__ import annotations

import bz2
import datetime
import gzip
import json
import lzma
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sailrl.data.jsonl import dump_line
from sailrl.data.parquet import add_columns, open_parquet, read_batches
from sailrl.data.rows import BadRow, RowWriter, count_rows, good_rows, read_rows
from sailrl.errors import DataError


def test_rows_come_with_the_number_of_their_line_and_blank_lines_are_none(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')  # a byte order mark, Windows line ends, no last one
    assert list(read_rows(file)) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"{", "not_json"),
        (b"\xff{}", "not_utf8"),
        (b"[1]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"[" * 100_000, "not_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not_json"),
        (b"\x00", "not_json"),
    ],
)
def test_a_line_that_is_no_row_is_a_value_and_costs_only_itself(tmp_path: Path, text: bytes, rule: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(b'{"a": 1}\n' + text + b'\n{"a": 2}\n')
    (_, first), (line, bad), (_, last) = read_rows(file)
    assert (first, last) == ({"a": 1}, {"a": 2})
    assert isinstance(bad, BadRow)
    assert (line, bad.line, bad.rule) == (2, 2, rule)
    assert str(bad.error()).startswith(f"{file}, line 2: ")
    assert list(good_rows(file, on_bad_row="skip")) == [(1, {"a": 1}), (3, {"a": 2})]
    with pytest.raises(DataError, match="line 2"):
        list(good_rows(file))


def test_a_file_that_cannot_be_read_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a")
    (tmp_path / "x.parquet").write_text("this is no Parquet")
    for name, says in [("gone.jsonl", "no file"), ("x.txt", "must end in"), ("x.parquet", "as Parquet")]:
        with pytest.raises(DataError, match=says):
            read_rows(tmp_path / name)
    with pytest.raises(DataError, match="not a file"):
        read_rows(tmp_path)


def strict(text: bytes) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text.decode("utf-8"), parse_constant=refuse)


def test_what_is_written_is_valid_json_even_where_the_values_are_not() -> None:
    row = {
        "nan": math.nan,
        "deep": [{"x": -math.inf}],
        "lone": "\ud800",
        "b": b"\xff",
        "zh": "五",
        "line": "a\u2028\nb",
    }
    line = dump_line(row | {"day": datetime.date(2024, 5, 1)})
    assert strict(line) == {
        "nan": None, "deep": [{"x": None}], "lone": "\ud800", "b": "/w==", "zh": "五", "line": "a\u2028\nb",
        "day": "2024-05-01",
    }  # fmt: skip
    assert line.count(b"\n") == 1
    assert "五".encode() in dump_line({"zh": "五"})  # readable where possible
    assert strict(dump_line({"lone": "\udfff", "nan": math.nan})) == {"lone": "\udfff", "nan": None}


def test_writing_resumes_behind_the_last_complete_line(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "out.jsonl"
    with RowWriter(file) as out:
        out.write({"a": 1})
        out.write({"a": 2})
    file.write_bytes(file.read_bytes()[:-3])  # killed in the middle of row 2
    with RowWriter(file, resume=True) as out:
        assert out.rows_kept == 1
        out.write({"a": "again"})
    assert [row for _, row in read_rows(file)] == [{"a": 1}, {"a": "again"}]
    with RowWriter(file) as out:
        assert out.rows_kept == 0
    assert file.read_bytes() == b""


ROWS = [
    {"id": 1, "answer": "4", "meta": {"a": 1}, "choices": ["x", "y"], "empty": {}, "none": None, "score": 1},
    {"id": 2, "answer": 4.5, "meta": {"b": [1.5]}, "choices": None, "late": "\ud800"[:0], "score": 0.5},
]


def test_parquet_gives_back_what_was_written_and_mixed_columns_become_text(tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    with RowWriter(file) as out:
        for row in ROWS:
            out.write(row)
        assert not file.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    first, second = (row for _, row in read_rows(file))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["answer"], second["answer"]) == ("4", "4.5")
    assert (first["meta"]["a"], second["meta"]["b"]) == (1, [1.5])
    assert (first["choices"], second["choices"], first["none"], first["late"]) == (["x", "y"], None, None, None)
    assert (first["score"], second["score"], first["empty"]) == (1.0, 0.5, "{}")
    assert count_rows(file) == 2


def test_parquet_has_its_pictures_as_the_datasets_library_and_our_reader_read_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    encoded = []
    for shade in range(3):
        image = Image.new("RGB", (8 + shade, 6), (shade, 0, 0))
        image.save(tmp_path / f"{shade}.png")
        encoded.append((tmp_path / f"{shade}.png").read_bytes())
    chat = [{"role": "user", "content": "<image>?"}]
    rows: list[dict[str, Any]] = [
        {"prompt": chat, "images": [str(tmp_path / "0.png")], "answer": "0"},  # a file
        {"prompt": chat, "images": [encoded[1], {"bytes": encoded[2], "path": None}], "answer": "1"},
        {"prompt": chat, "images": [], "answer": "2"},
        {"prompt": chat, "answer": "3"},
        {"prompt": chat, "images": ["gone.png"], "answer": "4"},
    ]
    with RowWriter(tmp_path / "out.parquet") as out:
        for row in rows[:4]:
            out.write(row)
    found = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [[image.size for image in row["images"] or []] for row in found] == [[(8, 6)], [(9, 6), (10, 6)], [], []]
    assert found[0]["prompt"] == chat
    read = [row for _, row in good_rows(tmp_path / "out.parquet")]
    assert [[image["bytes"] for image in row["images"] or []] for row in read[:2]] == [encoded[:1], encoded[1:]]
    assert read[0]["images"][0]["path"] == "0.png"
    with RowWriter(tmp_path / "paths.parquet") as out:
        out.write(rows[4])
    assert [row["images"] for _, row in good_rows(tmp_path / "paths.parquet")] == [
        [{"bytes": None, "path": "gone.png"}]
    ]


def test_types_are_found_over_all_rows_and_not_only_the_first_thousand(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "out.parquet") as out:
        for i in range(2500):
            out.write({"x": None if i < 1000 else i if i < 2000 else i + 0.5, "y": i if i < 2400 else "text"})
    rows: list[Any] = [row for _, row in read_rows(tmp_path / "out.parquet")]
    assert (rows[0]["x"], rows[1000]["x"], rows[2000]["x"]) == (None, 1000.0, 2000.5)
    assert (rows[0]["y"], rows[2499]["y"]) == ("0", "text")


def test_an_error_while_writing_parquet_leaves_the_rows_for_a_resume(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RowWriter(tmp_path / "out.parquet") as out:
            out.write({"a": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with RowWriter(tmp_path / "out.parquet", resume=True) as out:
        assert out.rows_kept == 1
        out.write({"a": 2})
    assert [row for _, row in read_rows(tmp_path / "out.parquet")] == [{"a": 1}, {"a": 2}]


def test_columns_are_added_to_a_parquet_file_without_touching_its_types(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 5, 1, 12)
    table = pa.table(
        {"day": [day] * 3, "image": [b"\xff\x00"] * 3, "n": pa.array([1, 2, 3], pa.int8()), "r": ["old"] * 3}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    added = pa.schema([("r", pa.float64())])
    add_columns(tmp_path / "in.parquet", tmp_path / "out.parquet", iter([{"r": 0.5}, {"r": None}, {"r": 1.0}]), added)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.column_names == ["day", "image", "n", "r"]
    assert out.drop(["r"]).equals(table.drop(["r"]))
    assert out["r"].to_pylist() == [0.5, None, 1.0]


def test_reading_and_writing_take_memory_for_a_row_and_not_for_the_file(tmp_path: Path) -> None:
    file, copy = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    row = {"response": "x" * 10_000}
    with RowWriter(file) as out:
        for _ in range(3000):  # 30 MB
            out.write(row)
    tracemalloc.start()
    with RowWriter(copy) as out:
        for _, read in read_rows(file):
            assert isinstance(read, dict)
            out.write(read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert copy.read_bytes() == file.read_bytes()
    assert count_rows(copy) == 3000


ROW = b'{"prompt": "a", "answer": "1"}\n'
OTHER_KINDS: list[tuple[str, bytes, str]] = [
    ("x.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d4d\nsize 12\n", "Git LFS pointer.*lfs pull"),
    ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d4d\nsize 12\n", "Git LFS pointer"),
    ("x.jsonl", gzip.compress(ROW, mtime=0), "gzip"),
    ("x.jsonl", bz2.compress(ROW), "bzip2"),
    ("x.jsonl", lzma.compress(ROW), "xz"),
    ("x.jsonl", ROW.decode().encode("utf-16"), "UTF-16"),
    ("x.jsonl", ROW.decode().encode("utf-16-le"), "UTF-16"),
    ("x.jsonl", ROW.decode().encode("utf-16-be"), "UTF-16"),
    ("x.jsonl", json.dumps([{"prompt": "a"}], indent=1).encode(), "one JSON list.*name that ends in .json"),
    ("x.jsonl", json.dumps([{"prompt": "a"}, {"prompt": "b"}]).encode(), "one JSON list"),
    ("x.jsonl", b"\xef\xbb\xbf" + json.dumps([{"prompt": "a" * 100_000}]).encode(), "one JSON list"),
    ("x.jsonl", json.dumps({"prompt": "a"}, indent=2).encode(), "several lines"),
    ("x.jsonl", b"PAR1\x00\x00", "Parquet file by its content"),
    ("x.parquet", ROW, "JSON lines by its content"),
    ("x.jsonl", b"\n <!DOCTYPE html><html>", "web page"),
    (
        "x.jsonl",
        b"prompt,answer\n1+1,2\n",
        "not JSON lines: none of its lines is an object, the first is 'prompt,answer'",
    ),
    ("x.jsonl", b"- prompt: a\n  answer: 1\n", "not JSON lines"),
    ("x.jsonl", b"\x80\x04\x95\n\x00}\n", "not JSON lines"),
]


@pytest.mark.parametrize(("name", "content", "says"), OTHER_KINDS, ids=[f"{k[0]} {k[2]}" for k in OTHER_KINDS])
def test_a_file_of_another_kind_is_named_for_what_it_is(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("first", [b"[1]", b'[{"a": 1}]', b"{", b"[[[[", b"\x00", b'"text"', b"<b>"])
def test_a_first_line_that_is_no_row_costs_only_itself(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(first + b"\n" + ROW)
    (_, bad), (_, good) = read_rows(tmp_path / "x.jsonl")
    assert isinstance(bad, BadRow)
    assert good == {"prompt": "a", "answer": "1"}


def test_a_damaged_parquet_file_is_refused_and_not_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": ["x" * 50] * 100}), file, compression="none")
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*x\.parquet as Parquet behind row 0"):
        list(read_rows(file))


def test_a_parquet_value_that_python_has_no_form_of_is_refused_and_not_a_traceback(tmp_path: Path) -> None:
    far = pa.array([2**45], pa.timestamp("s"))  # the year 1,116,918
    words = pa.StringArray.from_buffers(1, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe"))
    for column in (far, words):
        pq.write_table(pa.table({"a": column}), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=r"x\.parquet: a value in rows 1 to 1 cannot be read"):
            list(read_rows(tmp_path / "x.parquet"))


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["answer", "answer"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="2 columns named 'answer'"):
        read_rows(tmp_path / "x.parquet")


def test_large_values_are_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": [bytes([i]) * (4 << 20) for i in range(20)]}), file, compression="zstd")
    with open_parquet(file) as opened:
        sizes = [len(batch) for batch in read_batches(file, opened)]
    assert sizes == [7, 7, 6]  # 32 MiB / 4 MiB, a little less for what each value takes besides its bytes
    assert sum(1 for _ in read_rows(file)) == 20


class _Chunked:
    """A Parquet file whose nested column has too many bytes for batches of more than 30 rows, as pyarrow says it."""

    def __init__(self, rows: int, most: int) -> None:
        self._rows, self._most = rows, most
        about = SimpleNamespace(num_rows=rows, total_byte_size=1000)
        self.metadata = SimpleNamespace(num_row_groups=1, row_group=lambda _: about)

    def iter_batches(self, *, batch_size: int, **_: Any) -> Iterator[pa.RecordBatch]:
        for start in range(0, self._rows, batch_size):
            if start > 0 and batch_size > self._most:
                raise pa.ArrowNotImplementedError("Nested data conversions not implemented for chunked array outputs")
            values = range(start, min(start + batch_size, self._rows))
            yield pa.RecordBatch.from_arrays([pa.array(values)], names=["n"])


@pytest.mark.parametrize("most", [30, 300])
def test_a_batch_beyond_two_gib_is_read_again_in_smaller_ones(most: int) -> None:
    batches = list(read_batches(Path("x"), _Chunked(600, most)))
    assert [n for batch in batches for n in batch.column(0).to_pylist()] == list(range(600))
