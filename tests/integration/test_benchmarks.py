"""Public benchmarks from VLMEvalKit's tables, asked of a toy model: the table at the end, and what a new start does."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sailrl.demo import tiny_vlm
from tests.integration.conftest import end, log_of, run, start, wait_until

pytestmark = pytest.mark.slow


def _table(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def _picture(number: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (56, 56), (10 * number, 0, 0)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_tables_of_pictures_end_with_their_figures_and_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    tiny_vlm.build(tmp_path / "model")
    choice = {"question": "how many discs ?", "A": "1", "B": "2", "answer": "A", "category": "count"}
    _table(tmp_path / "MMStar.tsv", *({"index": n, "image": _picture(n), **choice} for n in range(6)))
    number = {"question": "which number ?", "answer": "['3', 'three']"}
    _table(tmp_path / "DocVQA_VAL.tsv", *({"index": n, "image": _picture(n), **number} for n in range(4)))
    config = tmp_path / "bench.yaml"
    config.write_text(
        f"kind: eval\nmodels: {{toy: {{path: {tmp_path}/model, dtype: float32}}}}\n"
        f"benchmarks: [mmstar, docvqa]\nbenchmarks_folder: {tmp_path}\ninstructions: {{direct: ''}}\n"
        "data: {instruction: '', max_prompt_tokens: 200}\n"
        "rollout: {max_response_tokens: 8, engine: {enforce_eager: true}}\n"
    )
    folder = tmp_path / "eval"
    evals = folder / "evals.jsonl"
    process = start(folder, config=config)
    try:
        wait_until("the first benchmark", lambda: evals.is_file() and evals.stat().st_size > 0, 200)
    finally:
        end(process)
    assert json.loads(evals.read_text().splitlines()[0])["benchmark"] == "mmstar", log_of(folder).read_text()

    done = run(folder, config=config)
    assert done.code == 0, done.output
    assert "2 benchmarks" in done.output
    assert "published" in done.output
    lines = [json.loads(line) for line in evals.read_text().splitlines()]
    assert [(line["benchmark"], line["problems"]) for line in lines] == [("mmstar", 6), ("docvqa", 4)]
    responses = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    assert {row["id"] for row in responses} >= {"mmstar-5", "docvqa-3"}
    assert all("answer" in row["scores"] for row in responses)

    again = run(folder, config=config)
    assert again.code == 0, again.output
    assert "starting Ray" not in again.output  # both are there
    assert "2 benchmarks" in again.output
