"""Hashes of what a result depends on."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from sailrl.launch.fingerprint import file_fault, file_sums, model_digest


def digest(folder: Path, memory: Path | None = None) -> str:
    return model_digest(str(folder), False, memory=memory)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    return folder


def test_a_model_is_its_content_and_not_its_name(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "copy")
    assert digest(model) == digest(tmp_path / "copy")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "chat_template.jinja", "code.py", "merges.txt"])
def test_every_file_that_makes_a_model_counts(model: Path, file: str) -> None:
    before = digest(model)
    (model / file).write_bytes(b"other")
    assert digest(model) != before


def test_files_that_decide_nothing_do_not_count(model: Path) -> None:
    before = digest(model)
    for name in ("README.md", ".gitattributes", "training_args.bin"):
        (model / name).write_text("x")
    (model / "original").mkdir()
    assert digest(model) == before


def test_one_changed_byte_in_the_middle_is_another_model(model: Path) -> None:
    before = digest(model)
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(500)
        file.write(b"\1")
    assert digest(model) != before


def test_a_file_that_did_not_change_is_not_read_again(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    before = digest(model, memory)
    # Had it been read, it would have another hash than the one that was put into the memory.
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), "remembered")))
    assert digest(model, memory) != before
    memory.write_text("damaged")
    assert digest(model, memory) == before


def test_a_file_that_changed_is_read_again_though_its_size_and_time_are_the_same(model: Path, tmp_path: Path) -> None:
    memory, file = tmp_path / "memory.json", model / "model.safetensors"
    before, times = digest(model, memory), file.stat()
    time.sleep(0.05)  # longer than the clock of a file system takes to its next tick
    file.write_bytes(b"\1" + bytes(999))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of the inode's change cannot be set
    assert digest(model, memory) != before


def test_the_memory_keeps_more_than_one_model(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    shutil.copytree(model, tmp_path / "other")
    digest(model, memory)
    digest(tmp_path / "other", memory)
    assert len(json.loads(memory.read_text())) == 4  # two files of each


def test_sums_know_every_file_below_a_folder(model: Path) -> None:
    (model / "below").mkdir()
    (model / "below" / "file").write_text("text")
    sums = file_sums(model)
    assert {name: size for name, (size, _) in sums.items()} == {
        "below/file": 4,
        "config.json": 2,
        "model.safetensors": 1000,
    }
    assert file_fault(model, sums) is None
    (model / "below" / "file").write_text("tex.")
    assert file_fault(model, sums) == "below/file is damaged: its checksum is not that of what was written"
