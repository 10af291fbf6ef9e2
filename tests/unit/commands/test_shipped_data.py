"""The shipped configurations name public data, which load as they are published: a folder stands in for the hub."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from sailrl.commands.check import check_job
from sailrl.commands.check_plan import Machines
from sailrl.commands.check_sources import _reader, _sources
from sailrl.config.load import load
from sailrl.config.schema import SourceConfig
from sailrl.config.sources import origin
from sailrl.errors import DataError

CONFIGS = Path(__file__).parents[3] / "configs"
ON_HUB = ("rlvr_2b", "rlvr_8b", "gspo_a3b", "longcot_sft", "filter_pass4")


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (60, 40)).save(out, "PNG")
    return out.getvalue()


PICTURE = {"bytes": _png(), "path": None}
PUBLISHED: dict[str, dict[str, Any]] = {
    "FanqingM/MMK12": {"id": "k12", "question": "1+1?", "answer": "2", "subject": "math", "image": PICTURE},
    "hiyouga/geometry3k": {"images": [PICTURE], "problem": "<image>Find x.", "answer": "3"},
    "OpenDataArena/MMFineReason-SFT-123K-Qwen3-VL-235B-Thinking": {
        "source": "a", "id": "1", "question": "<image>1+1?", "answer": "2", "ori_question": "1+1", "image": PICTURE,
        "qwen3vl_235b_thinking_response": "<think>\nOne and one.\n</think>\n<answer>2</answer>", "pass_rate": 0.0,
    },
}  # fmt: skip
"""A row of each data set, with its columns."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders as ``hf download --local-dir`` makes them, in the folder one runs from."""
    monkeypatch.chdir(tmp_path)
    for name, row in PUBLISHED.items():
        for split in ("train", "test"):
            path = tmp_path / name / "data" / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist([{**row, "answer": str(n)} for n in range(3)]), path)
    return tmp_path


def sources(name: str) -> Iterator[tuple[str, SourceConfig]]:
    config = load(CONFIGS / f"{name}.yaml").config
    yield from ((section, source) for section, source, _ in _sources(config))


@pytest.mark.parametrize("name", ON_HUB)
def test_the_data_are_on_the_hub_with_their_licence(name: str) -> None:
    found = dict(sources(name))
    assert all(origin(str(source.path)) == "hub" for source in found.values())
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert "as its card says" in text or "as their cards say" in text


@pytest.mark.parametrize("name", ON_HUB)
def test_rows_as_they_are_published_are_read(name: str, hub: Path) -> None:
    config = load(CONFIGS / f"{name}.yaml").config
    for section, source in sources(name):
        reader = _reader(config, section, source)
        rows = list(reader)
        reader.check("error")
        assert len(rows) == 3
        assert all(len(problem.images) == 1 for _, problem in rows)


def test_a_shipped_configuration_passes_the_check_with_a_folder_in_place_of_the_hub(hub: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    check_job(CONFIGS / "rlvr_8b.yaml", (), console, machines=Machines(1, 8, 80.0))
    printed = console.export_text()
    assert "data.train: 3 problems (no task 3); `prompt` is `question`, `images` is `image`" in printed
    assert "data.eval: 3 problems" in printed


def test_offline_the_error_names_the_line_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    config = load(CONFIGS / "rlvr_8b.yaml").config
    section, source = next(sources("rlvr_8b"))
    with pytest.raises(DataError, match=r"hf download FanqingM/MMK12 .* write data\.train: \{path: FILE\}\."):
        list(_reader(config, section, source))
