"""A soup is the weighted mean of models of one kind; strangers are refused, distant ones are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sailrl.commands.merge import merge_job
from sailrl.config.sft import SftConfig
from sailrl.demo import tiny_text
from sailrl.errors import DataError
from sailrl.sft.start import start_sft


def _moved(folder: Path, model: Path, by: float) -> Path:
    """A copy of a model with ``by`` added to every weight."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value + by for name, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_equal_weights_give_the_mean_and_others_their_share(tiny_folder: Path, tmp_path: Path) -> None:
    other = _moved(tmp_path / "b", tiny_folder, 0.5)
    merge_job([tiny_folder, other], tmp_path / "mean")
    merge_job([tiny_folder, other], tmp_path / "share", weights=[3.0, 1.0])
    start = load_file(tiny_folder / "model.safetensors")
    for name, value in load_file(tmp_path / "mean" / "model.safetensors").items():
        assert torch.allclose(value, start[name] + 0.25)  # (w + w + 0.5) / 2
    for name, value in load_file(tmp_path / "share" / "model.safetensors").items():
        assert torch.allclose(value, start[name] + 0.125)  # (3 w + w + 0.5) / 4
    assert (tmp_path / "mean" / "tokenizer.json").read_bytes() == (tiny_folder / "tokenizer.json").read_bytes()


def test_distance_is_relative_and_far_models_are_named(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = load_file(tiny_folder / "model.safetensors")
    count = sum(value.numel() for value in start.values())
    norm = sum(value.double().square().sum() for value in start.values()) ** 0.5
    near, far = 0.05 * norm / count**0.5, 0.2 * norm / count**0.5  # moving all n weights by d moves the model d sqrt(n)
    merge_job([tiny_folder, _moved(tmp_path / "b", tiny_folder, float(near))], tmp_path / "near")
    printed = capsys.readouterr()
    assert "by 5.00% of its norm" in printed.out
    assert not printed.err
    merge_job([tiny_folder, _moved(tmp_path / "c", tiny_folder, float(far))], tmp_path / "far")
    assert "lies 0.20 from" in capsys.readouterr().err


def test_models_of_another_kind_are_refused_and_leave_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    tiny_text.build(tmp_path / "wide", hidden_size=64, layers=1)
    with pytest.raises(DataError, match=r"another kind of model .* differs in .*hidden_size: 64 and 32"):
        merge_job([tiny_folder, tmp_path / "wide"], tmp_path / "out")
    alien = _moved(tmp_path / "alien", tiny_folder, 0.0)
    tokenizer = json.loads((alien / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["strange"] = 9999
    (alien / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError, match="another tokenizer"):
        merge_job([tiny_folder, alien], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _changed(folder: Path, model: Path, **sections: Any) -> Path:
    """A copy of a model whose config.json has other entries; a dictionary changes entries one level down."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    for name, value in sections.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_a_run_writes_into_a_configuration_makes_no_other_kind_of_model(vlm_folder: Path, tmp_path: Path) -> None:
    passing = {"use_cache": False, "dtype": "bfloat16", "transformers_version": "9.9"}
    other = _changed(tmp_path / "b", vlm_folder, **passing, text_config=passing, vision_config={"dtype": "float16"})
    merge_job([vlm_folder, other], tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_only_what_differs_is_listed_with_both_values(vlm_folder: Path, tmp_path: Path) -> None:
    theta = {"rope_parameters": {"rope_theta": 7.0}}
    other = _changed(tmp_path / "b", vlm_folder, text_config={"hidden_act": "gelu", "use_cache": False, **theta})
    with pytest.raises(DataError) as told:
        merge_job([vlm_folder, other], tmp_path / "out")
    text = str(told.value)
    assert "text_config.hidden_act: 'gelu' and 'silu'" in text
    assert "text_config.rope_parameters.rope_theta: 7.0 and " in text
    assert "use_cache" not in text
    assert "vision_config" not in text
    assert len(text) < 600


def test_what_cannot_be_merged_says_why(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is nothing to merge"):
        merge_job([tiny_folder], tmp_path / "out")
    with pytest.raises(DataError, match="2 models and 1 weights"):
        merge_job([tiny_folder, tiny_folder], tmp_path / "out", weights=[1.0])
    with pytest.raises(DataError, match="at least 0 and not all 0"):
        merge_job([tiny_folder, tiny_folder], tmp_path / "out", weights=[1.0, -1.0])
    with pytest.raises(DataError, match="is no model folder"):
        merge_job([tmp_path, tiny_folder], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    shutil.copy(tiny_folder / "config.json", tmp_path / "empty")
    shutil.copy(tiny_folder / "tokenizer.json", tmp_path / "empty")
    with pytest.raises(DataError, match="has no weights"):
        merge_job([tiny_folder, tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="is there already"):
        merge_job([tiny_folder, tiny_folder], tmp_path / "there")


def test_an_index_cannot_make_a_merge_write_elsewhere(tiny_folder: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.safetensors"
    shutil.copy(tiny_folder / "model.safetensors", precious)
    before = precious.stat().st_mtime_ns
    hostile = Path(shutil.copytree(tiny_folder, tmp_path / "hostile"))
    names = load_file(precious).keys()
    (hostile / "model.safetensors").unlink()
    (hostile / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(names, str(precious))})
    )
    with pytest.raises(DataError, match=r"precious.*write file names"):
        merge_job([hostile, tiny_folder], tmp_path / "out")
    assert precious.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_or_absent_file_of_weights_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    whole = (tiny_folder / "model.safetensors").read_bytes()
    for content in (b"", whole[:5], whole[:200], whole[:-10], whole + b"x"):
        (other / "model.safetensors").write_bytes(content)
        with pytest.raises(DataError, match=r"other/model.safetensors is "):
            merge_job([tiny_folder, other], tmp_path / "out")
    (other / "model.safetensors").unlink()
    (other / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(DataError, match=r"other/gone.safetensors cannot be read: No such file"):
        merge_job([tiny_folder, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_and_its_base_become_one_plain_model(tiny_folder: Path, tmp_path: Path) -> None:
    source = {"generate": {"use": "sailrl.demo.additions:rows", "args": {"count": 8, "seed": 1}}}
    raw = {
        "kind": "sft",
        "model": {"path": str(tiny_folder), "dtype": "float32", "lora": {"rank": 2}},
        "data": {"train": source},
        "training": {"rows_per_step": 4, "learning_rate": 1e-2},
    }
    start_sft(SftConfig.model_validate(raw), tmp_path)
    merge_job([tmp_path / "adapter"], tmp_path / "merged")
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "model"))
    assert mine.keys() == theirs.keys()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
