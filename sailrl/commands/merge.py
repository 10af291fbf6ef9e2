"""``sailrl merge``: a model soup (SAIL-VL2, section 4.2.1), or an adapter put into its base model."""

from __future__ import annotations

import errno
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sailrl.config.model_files import INDEX, SINGLE, tensor_shapes, weight_files
from sailrl.errors import DataError
from sailrl.families import family_at
from sailrl.launch.run_folder import write_whole
from sailrl.learner.weights import publish_layout

ADAPTER, CONFIG = "adapter_config.json", "config.json"
PASSING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Entries of a config.json, at any depth, in which models of one kind may differ."""
MOST_LISTED = 6
"""Differences that an error lists."""
FAR = 0.1
"""Relative distance from the first model beyond which a soup is doubtful. Ours: the papers give none. Runs of one
recipe from one start lie within some hundredths; models of different origin at 1 and more."""


def merge_job(models: Sequence[Path], out: Path, weights: Sequence[float] = ()) -> None:
    """Writes the merged model to ``out`` and prints how far the models lie apart.

    Raises:
        DataError: the models cannot be merged, or ``out`` is there already.
    """
    if out.exists():
        raise DataError(f"{out} is there already. Name another folder with --out, or remove it.")
    folders = [_model_in(path) for path in models]
    if len(folders) == 1 and (folders[0] / ADAPTER).is_file():
        write_whole(out, lambda folder: _merge_adapter(folders[0], folder))
        print(f"adapter and base model as one: {out}")
        return
    shares = _shares(folders, weights)
    _refuse_strangers(folders)
    write_whole(out, lambda folder: _soup([_Weights(path) for path in folders], shares, folders, folder))
    print(f"model              {out}")


def _model_in(path: Path) -> Path:
    """The folder itself, or ``model/`` in it: run folders of SFT and checkpoints of RL keep it there."""
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() or (folder / ADAPTER).is_file():
            return folder
    raise DataError(f"{path} is no model folder: neither it nor {path / 'model'} has a {CONFIG} or {ADAPTER}.")


def _merge_adapter(adapter: Path, out: Path) -> None:
    from peft import PeftConfig, PeftModel

    base = PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    if base is None:
        raise DataError(f"{adapter / ADAPTER} does not say which model it belongs to (base_model_name_or_path).")
    family = family_at(base)
    whole = family.model_class().from_pretrained(base, config=family.config(base))
    model: Any = PeftModel.from_pretrained(whole, str(adapter)).merge_and_unload()
    publish_layout(model)
    model.save_pretrained(out)
    family.processor_class().from_pretrained(base).save_pretrained(out)


def _shares(folders: Sequence[Path], weights: Sequence[float]) -> list[float]:
    if len(folders) < 2:
        raise DataError(f"{folders[0]} is one model without an adapter: there is nothing to merge. Name two or more.")
    if not weights:
        return [1 / len(folders)] * len(folders)
    if len(weights) != len(folders):
        raise DataError(f"{len(folders)} models and {len(weights)} weights: give one --weight per model, or none.")
    total = math.fsum(weights)
    if any(not math.isfinite(w) or w < 0 for w in weights) or total <= 0:
        raise DataError(f"the weights {', '.join(f'{w:g}' for w in weights)} must be at least 0 and not all 0.")
    return [weight / total for weight in weights]


def _refuse_strangers(folders: Sequence[Path]) -> None:
    """Refuses models of different kinds: their average does not work (the paper: 74.5 and 75.4 became 12.9)."""
    first = folders[0]
    for folder in folders:
        if (folder / ADAPTER).is_file():
            raise DataError(
                f"{folder} is an adapter. First merge it into its base model: `sailrl merge {folder} --out FOLDER`."
            )
    for other in folders[1:]:
        mine, theirs = dict(_entries(_json(first / CONFIG))), dict(_entries(_json(other / CONFIG)))
        differing = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
        if differing:
            listed = "; ".join(f"{key}: {theirs.get(key)!r} and {mine.get(key)!r}" for key in differing[:MOST_LISTED])
            more = f"; and {len(differing) - MOST_LISTED} more" if len(differing) > MOST_LISTED else ""
            raise DataError(
                f"{other} is another kind of model than {first}: {CONFIG} differs in {listed}{more}. Only models of "
                "one kind can be averaged."
            )
        vocabularies = [_json(folder / "tokenizer.json").get("model", {}).get("vocab") for folder in (first, other)]
        if vocabularies[0] != vocabularies[1]:
            raise DataError(f"{other} has another tokenizer than {first}, so the same row means another token.")


def _entries(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a configuration that decide on the kind of a model, by dotted name."""
    for key, value in config.items():
        if key in PASSING:
            continue
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class _Weights:
    """The tensors of a model folder, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = weight_files(folder)
        if not names:
            raise DataError(f"{folder} has no weights: neither {SINGLE} nor {INDEX}. Save the model as safetensors.")
        for name in names:
            if Path(name).name != name:  # the output file gets this name, too
                raise DataError(
                    f"{folder / INDEX} names {name!r}. Weights are in the folder of their index: write file names."
                )
        self.files = {tensor: name for name in names for tensor in tensor_shapes(folder / name)}

    def tensor(self, name: str) -> torch.Tensor:
        with safe_open(self.folder / self.files[name], framework="pt") as file:
            return file.get_tensor(name)


@dataclass(slots=True)
class _Distance:
    """Squared distance of each further model from the first, and the first one's squared norm."""

    squares: list[float]
    norm: float = 0.0

    def of(self, number: int) -> float:
        return math.sqrt(self.squares[number] / self.norm) if self.norm else 0.0


def _soup(models: Sequence[_Weights], shares: Sequence[float], folders: Sequence[Path], out: Path) -> None:
    first = models[0]
    for other in models[1:]:
        strange = sorted(first.files.keys() ^ other.files.keys())
        if strange:
            raise DataError(f"{other.folder} and {first.folder} differ in their tensors: {', '.join(strange[:3])}.")
    distance = _Distance([0.0] * len(models))
    for file in dict.fromkeys(first.files.values()):
        names = [name for name, where in first.files.items() if where == file]
        averaged = dict(_averaged(names, models, shares, distance))
        try:
            save_file(averaged, out / file, metadata={"format": "pt"})
        except SafetensorError as error:  # it does not name the file
            raise OSError(errno.EIO, str(error), str(out / file)) from None
    for path in folders[0].iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copy2(path, out / path.name)
    for number, folder in enumerate(folders[1:], start=1):
        apart = distance.of(number)
        print(f"{folder} differs from {folders[0]} by {100 * apart:.2f}% of its norm")
        if apart > FAR:
            print(
                f"warning: {folder} lies {apart:.2f} from {folders[0]}, and beyond {FAR:g} a soup is doubtful: models "
                "of different data or origin do not average. Evaluate it against its parts: sailrl eval.",
                file=sys.stderr,
            )


def _averaged(
    names: Sequence[str], models: Sequence[_Weights], shares: Sequence[float], distance: _Distance
) -> Iterator[tuple[str, torch.Tensor]]:
    for name in names:
        base = models[0].tensor(name)
        total = base.double() * shares[0]
        distance.norm += float(base.double().square().sum())
        for number, (model, share) in enumerate(zip(models[1:], shares[1:], strict=True), start=1):
            other = model.tensor(name)
            if other.shape != base.shape:
                raise DataError(f"{model.folder}: {name} is {tuple(other.shape)}, in the first {tuple(base.shape)}.")
            total += other.double() * share
            distance.squares[number] += float((other.double() - base.double()).square().sum())
        yield name, total.to(base.dtype)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return data if isinstance(data, dict) else {}
