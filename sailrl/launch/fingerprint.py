"""Short hashes of everything a result depends on: settings as JSON, the content of model folders and checkpoints."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from sailrl import plugins
from sailrl.config.model_files import read_object
from sailrl.config.schema import PromptConfig
from sailrl.config.sources import origin
from sailrl.data.chat_template import read_template
from sailrl.families import family_at
from sailrl.launch.run_folder import write_file

DIGESTS = ".digests.json"
"""In a run folder: hashes of model files, so that an 8B is read once and not at every start."""
MODEL_FILES = (".json", ".jinja", ".model", ".py", ".safetensors", ".txt")
"""Endings of the files of a model folder that count; a README does not."""
THREADS = 8
"""Files that are hashed at a time."""


def digest(value: Any) -> str:
    """32 hex digits of a JSON-able value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def prompt_settings(data: PromptConfig) -> dict[str, Any]:
    """What decides how a problem becomes a prompt: settings, and of a chat template its text."""
    rest = {"max_prompt_tokens", "on_long_prompt", "on_bad_row"}
    settings = data.model_dump(mode="json", include=set(PromptConfig.model_fields) - rest)
    return settings | {"chat_template": None if data.chat_template is None else read_template(data.chat_template)}


def model_digest(weights: str, trust_remote_code: bool, *, memory: Path | None = None) -> str:
    """Fingerprint of a model folder's content, whatever its name; of a model on the hub, the commit in use.

    Args:
        memory: a file that keeps hashes from one start to the next, so that only what has changed is read again.
    """
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        config = family_at(weights).config(weights, trust_remote_code=trust_remote_code)
        return f"{weights}@{config._commit_hash}"
    files = [path for path in folder.iterdir() if path.suffix in MODEL_FILES and path.is_file()]
    stamps = {path: _stamp(path) for path in files}
    known = {} if memory is None else read_object(memory)
    old = {path: known[stamp] for path, stamp in stamps.items() if stamp in known}
    hashes = old | _hashes(path for path in files if path not in old)
    if memory is not None:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_file(memory, json.dumps(known | {stamps[path]: found for path, found in hashes.items()}))
    return digest({path.name: hashes[path] for path in files})


def _stamp(path: Path) -> str:
    """A text that changes whenever the file does; the system itself sets the time of the last change."""
    stat = path.stat()
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def source_digest(path: str) -> str | None:
    """Fingerprint of everything that a source's path names: the content of files; of a dataset on the hub, the commit
    that is in the cache, None before it is there."""
    kind, local = origin(path), Path(path).expanduser()
    if kind == "hub":
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(path, "README.md", repo_type="dataset")
        return f"{path}@{Path(found).parent.name}" if isinstance(found, str) else None
    if kind == "file":
        return file_digest(local) if local.is_file() else None
    named = glob.glob(str(local), recursive=True) if kind == "pattern" else map(str, local.rglob("*"))
    files = [Path(name) for name in named if os.path.isfile(name)]
    return digest(list(_hashes(files).values()))


def named_contents(settings: Any) -> dict[str, str]:
    """Fingerprints of what the texts in some settings name, by what is written there: the content of files and of model
    folders, and the code of plug-ins."""
    if isinstance(settings, Mapping):
        path = settings.get("path")
        if "answer_field" in settings and isinstance(path, str):  # a source of problems
            found = source_digest(path)
            return {} if found is None else {path: found}
        code = {settings["use"]: plugins.code_digest(settings["use"])} if isinstance(settings.get("use"), str) else {}
        return code | {name: found for value in settings.values() for name, found in named_contents(value).items()}
    if isinstance(settings, str):
        path = os.path.expanduser(settings)
        if os.path.isfile(path):  # False where a text is too long for a name
            return {settings: file_digest(Path(path))}
        return {settings: model_digest(path, False)} if os.path.isfile(os.path.join(path, "config.json")) else {}
    parts = settings if isinstance(settings, list | tuple) else ()
    return {name: found for value in parts for name, found in named_contents(value).items()}


FileSums: TypeAlias = dict[str, list[Any]]
"""``[bytes, hash]`` of files by their path within a folder."""


def file_sums(folder: Path) -> FileSums:
    """Size and hash of every file in a folder and below; at 1 GB/s or more."""
    hashes = _hashes(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): [path.stat().st_size, found] for path, found in hashes.items()}


def file_fault(folder: Path, sums: FileSums) -> str | None:
    """What is wrong with a file that ``file_sums`` has hashed, or None. Files that were added later do not count."""
    if missing := [name for name in sums if not (folder / name).is_file()]:
        more = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        return f"{missing[0]} is missing{more}"
    for name, (size, _) in sums.items():
        if (now := (folder / name).stat().st_size) != size:
            return f"{name} has {now:,} bytes, {size:,} were written"
    hashes = _hashes(folder / name for name in sums)
    damaged = [name for name, (_, written) in sums.items() if hashes[folder / name] != written]
    return f"{damaged[0]} is damaged: its checksum is not that of what was written" if damaged else None


def _hashes(files: Iterable[Path]) -> dict[Path, str]:
    """Hashes of files' contents, several at a time, since hashing lets other threads run."""
    paths = sorted(files)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(paths, pool.map(file_digest, paths), strict=True))


def file_digest(path: Path) -> str:
    """32 hex digits of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
