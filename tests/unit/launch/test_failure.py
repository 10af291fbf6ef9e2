"""What is printed for an error that nothing of ours put into words, and where its traceback is."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from sailrl import plugins
from sailrl.commands.run import run_stage
from sailrl.config.fusing import FuseConfig
from sailrl.errors import CheckpointError, DataError, Fault
from sailrl.launch.failure import TRACEBACK, explained


def raised(error: Exception, cause: BaseException | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.ENOSPC, "No space left on device", "images/decoded/0f.npy"),
    OSError(errno.EDQUOT, "Disk quota exceeded", "metrics.jsonl"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[Errno 28] No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 445632 vs 445524"),  # torch.save's words
]


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_a_full_disk_is_one_message_whoever_met_it(tmp_path: Path, error: Exception) -> None:
    told = explained(raised(error), tmp_path)
    assert isinstance(told, DataError)
    assert str(told).startswith("the disk is full: ")
    assert str(getattr(error, "filename", None) or tmp_path) in str(told)  # the file, or else the run folder
    assert "GiB are free" in str(told)
    assert not (tmp_path / TRACEBACK).exists()


def test_a_full_disk_of_which_no_file_is_known_names_none() -> None:
    told = str(explained(raised(FULL[0])))
    assert told.startswith("the disk is full: a file could not be written (No space left on device). ")


def test_a_full_disk_behind_another_error_is_found(tmp_path: Path) -> None:
    told = explained(raised(RuntimeError("the writer failed"), FULL[1]), tmp_path)
    assert "the disk is full: images/decoded/0f.npy" in str(told)


def test_an_error_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    own = raised(CheckpointError("cannot write checkpoint x"), FULL[0])
    assert explained(own, tmp_path) is own


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EFBIG])
def test_missing_rights_name_the_path(tmp_path: Path, number: int) -> None:
    told = explained(raised(OSError(number, "not allowed", "runs/a/resolved.yaml")), tmp_path)
    assert isinstance(told, DataError)
    assert str(told).startswith("runs/a/resolved.yaml: not allowed.")


def test_too_little_memory_is_no_fault() -> None:
    assert isinstance(explained(raised(MemoryError())), DataError)


def test_a_fault_is_one_paragraph_and_its_traceback_is_in_the_run_folder(tmp_path: Path) -> None:
    told = explained(raised(ValueError("bad \x1b[31mthing\n" + "x" * 9000)), tmp_path)
    assert isinstance(told, Fault)
    assert str(told).startswith("ValueError: bad \\x1b[31mthing")
    assert "This is a fault in sailrl" in str(told)
    assert str(tmp_path / TRACEBACK) in str(told)
    assert len(str(told)) < 1200
    assert "Traceback (most recent call last)" in (tmp_path / TRACEBACK).read_text(encoding="utf-8")


def test_without_a_run_folder_the_traceback_goes_into_a_temporary_file() -> None:
    told = str(explained(raised(KeyError("x"))))
    saved = Path(told.rpartition("The traceback is in ")[2].rstrip("."))
    assert "KeyError" in saved.read_text(encoding="utf-8")
    saved.unlink()


def test_an_error_in_a_plug_in_names_its_file_and_line(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def step(row):\n    return row['no such key']\n", encoding="utf-8")
    try:
        plugins.load(f"{mine}:step")({})
    except KeyError as error:
        told = str(explained(error, tmp_path))
    assert f"raised in your code, {mine}, line 2" in told
    assert "fault in sailrl" not in told


def test_a_job_whose_folder_is_full_is_told_so_whatever_it_writes(tmp_path: Path) -> None:
    (tmp_path / "scored.jsonl").write_text('{"prompt": "1?", "response": "1"}\n', encoding="utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".writing-resolved.yaml").symlink_to("/dev/full")
    sources = {"cot": [str(tmp_path / "scored.jsonl")], "direct": [{"path": str(tmp_path / "scored.jsonl")}]}
    with pytest.raises(DataError, match=r"the disk is full: .*No space left"):
        run_stage(FuseConfig.model_validate({"kind": "fuse", **sources}), folder)


BREAK = """
import sys
from sailrl import cli

@cli.app.command("break")
def fail() -> None:
    {what}

sys.argv = ["sailrl", "break"]
cli.main()
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("1 / 0", 1, "error: ZeroDivisionError: division by zero"),
        ("raise OSError(28, 'No space left on device', 'soup/model.safetensors')", 2, "error: the disk is full: soup/"),
        ("from sailrl.errors import DataError; raise DataError('line 3 is broken')", 2, "error: line 3 is broken"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_the_command_line_never_shows_a_traceback(tmp_path: Path, what: str, code: int, said: str) -> None:
    command = [sys.executable, "-c", BREAK.format(what=what)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback (most" not in done.stderr
