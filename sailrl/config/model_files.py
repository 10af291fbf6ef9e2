"""Which files of a model folder hold its weights, and what their headers say. Read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sailrl.errors import DataError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path) -> list[str]:
    """Names of the files that transformers loads: the single one, or those that the index names; empty for neither."""
    if (folder / SINGLE).is_file():
        return [SINGLE]
    weight_map = read_object(folder / INDEX).get("weight_map")
    return sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a safetensors file, from its header.

    Raises:
        DataError: there is no such file, its header cannot be read, or promises more or fewer bytes than the file has.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        shapes = {str(name): tuple(int(side) for side in tensor["shape"]) for name, tensor in header.items()}
        promised = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise DataError(f"{path} is no whole safetensors file: its header cannot be read") from None
    if promised != size:
        raise DataError(f"{path} is cut or damaged: its header promises {promised:,} bytes, the file has {size:,}")
    return shapes


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none to read."""
    return _object_in(path) or {}


def holds_object(path: Path) -> bool:
    """Whether a JSON file has an object."""
    return _object_in(path) is not None


def _object_in(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
