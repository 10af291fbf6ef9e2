"""Logs that a crash cannot corrupt and that a resumed run takes up exactly where its checkpoint was."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from types import MappingProxyType

import pytest

from sailrl.data.jsonl import SCAN_BYTES, AppendOnlyFile, dump_line, parse_line, read, read_run
from sailrl.errors import DataError


def records(path: Path) -> list[dict]:
    return [record for _, record in read(path)]


def test_a_position_restores_the_file_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    file = AppendOnlyFile(path)
    file.append({"n": 1}, {"n": 2})
    position = file.position()
    before = path.read_bytes()
    assert position == len(before) == 2 * len(b'{"n":1}\n')
    file.append({"n": 3})
    file.close()
    resumed = AppendOnlyFile(path, resume_at=position)
    assert path.read_bytes() == before
    resumed.append({"n": "3, again"})
    assert records(path) == [{"n": 1}, {"n": 2}, {"n": "3, again"}]


def test_a_truncated_last_line_is_skipped_by_readers_and_removed_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2}\n{"n"')
    assert records(path) == [{"n": 1}, {"n": 2}]
    file = AppendOnlyFile(path, resume_at=10_000)  # a checkpoint that saw more than is left
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'
    file.append({"n": 3})
    assert records(path)[-1] == {"n": 3}


def test_a_partial_line_longer_than_one_scan_is_removed_too(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n":1}\n"' + b"x" * (2 * SCAN_BYTES + 3))
    AppendOnlyFile(path, resume_at=path.stat().st_size)
    assert path.read_bytes() == b'{"n":1}\n'


def test_a_log_that_was_deleted_does_not_stop_a_resume(tmp_path: Path) -> None:
    file = AppendOnlyFile(tmp_path / "log.jsonl", resume_at=500)
    file.append({"n": 1})
    assert records(tmp_path / "log.jsonl") == [{"n": 1}]


def test_a_fresh_start_keeps_what_was_there_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"old":1}\n')
    AppendOnlyFile(path)
    assert path.read_bytes() == b""
    assert (tmp_path / "log.jsonl.previous").read_bytes() == b'{"old":1}\n'


def test_a_disk_that_fills_in_the_middle_of_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    file = AppendOnlyFile(path)
    file.append({"n": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # bytes a file may have: a real refusal by the system
    try:
        with pytest.raises(OSError, match=r"File too large: .*log\.jsonl"):
            file.append({"text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b'{"n":1}\n'
    file.append({"n": 2})
    assert records(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "text", ["line\nbreak", "\u2028", "\x00\x1b[31m", "half \ud83d an emoji", '"quoted" \\ud800', "中文 😀"]
)
def test_any_text_is_one_line_of_valid_json_and_comes_back_the_same(text: str) -> None:
    line = dump_line({"text": text})
    assert line.count(b"\n") == 1
    assert json.loads(line.decode("utf-8"))["text"] == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")], {"a": {"b": float("-inf")}}])
def test_numbers_that_json_does_not_know_become_null_at_any_depth(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(dump_line({"v": value}), parse_constant=refuse) != {}
    assert b"null" in dump_line({"v": value})
    assert "NaN" in json.dumps(float("nan"))  # what the standard library would have written


@pytest.mark.parametrize(("beside", "written"), [(0.5, 0.5), (float("nan"), None)])
def test_an_object_of_any_kind_stays_one(beside: float, written: float | None) -> None:
    line = dump_line({"meta": MappingProxyType({"a": [1]}), "other": beside, "path": Path("x")})
    assert json.loads(line) == {"meta": {"a": [1]}, "other": written, "path": "x"}


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n":1}\nnonsense\n{"n":3}\n')
    with pytest.raises(DataError, match="line 2"):
        records(path)


def test_records_that_belong_together_are_found_again_by_their_offset(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    AppendOnlyFile(path).append({"g": 1, "n": "é"}, {"g": 2, "n": 1}, {"g": 2, "n": 2}, {"g": 3, "n": 3})
    offsets = [offset for offset, _ in read(path)]
    assert read_run(path, offsets[1], ("g",)) == [{"g": 2, "n": 1}, {"g": 2, "n": 2}]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"answer": "1", "answer": "2"}', "answer"),
        (b'{"a": 1, "b": {"c": 2}, "a": 3}', "a"),
        (b'{"a": {"b": 1}, "b": 2}', None),
        (b'{"b": "\\"b\\"", "c": "b"}', None),
        (b'{"a": {"c": 1, "c": 2}, "b": 2}', None),
    ],
)
def test_a_key_that_a_row_has_twice_is_a_fault_and_its_last_value_never_wins(line: bytes, key: str | None) -> None:
    row, rule, detail = parse_line(line)
    if key is None:
        assert row == json.loads(line)
    else:
        assert (row, rule, detail) == (None, "repeated_key", f"has the key {key!r} more than once")
