"""Verdicts on disk survive any number of writers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import rewards
from rewards.judge_api.cache import VerdictCache

KEYS = [f"{n:064x}" for n in range(40)]
NAMES = ("is_correct",)

# Writes every key many times and reads every key in between: a reader must see nothing or the whole.
WRITER = """
import sys
from rewards.judge_api.cache import VerdictCache
cache = VerdictCache(sys.argv[1])
keys = [f"{n:064x}" for n in range(40)]
for _ in range(20):
    for n, key in enumerate(keys):
        cache.write(key, {"is_correct": n % 2 == 0})
        assert cache.read(keys[-1 - n], ["is_correct"]) in (None, {"is_correct": n % 2 == 1}), n
assert cache.errors == 0, cache.errors
"""


def test_several_processes_write_the_same_folder_and_nobody_reads_half_a_file(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    cache = VerdictCache(str(tmp_path))
    assert [cache.read(key, NAMES) for key in KEYS] == [{"is_correct": n % 2 == 0} for n in range(40)]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(KEYS)


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    cache = VerdictCache(None)
    cache.write(KEYS[0], {"is_correct": True})
    assert cache.read(KEYS[0], NAMES) is None
    cache.remember(KEYS[0], {"is_correct": True})
    assert cache.recall(KEYS[0]) == {"is_correct": True}


def test_code_that_reads_replies_otherwise_names_its_verdicts_otherwise(tmp_path: Path) -> None:
    shutil.copytree(Path(rewards.__file__).parent, tmp_path / "rewards")
    program = """
from rewards.judge_api.client import Inquiry
from rewards.judge_api.settings import JudgeSettings
print(Inquiry("Judge.", "2 or 3?", ("is_correct",)).key(JudgeSettings(base_url="http://127.0.0.1:1/v1", model="m")))
"""
    root = Path(rewards.__file__).parents[1]

    def key() -> str:
        path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=path, cwd=tmp_path, capture_output=True, check=True).stdout.decode()

    before = key()
    assert key() == before
    with (tmp_path / "rewards" / "judge_api" / "verdict.py").open("a", encoding="utf-8") as file:
        file.write("# reads otherwise\n")
    assert key() != before
