"""Short hashes of what a result depends on: settings as JSON, and the content of a model folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """32 hex digits of a JSON-able value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def model_digest(weights: str, trust_remote_code: bool) -> str:
    """Fingerprint of a model folder's content, whatever its name; of a model on the hub, the commit in use."""
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(weights, trust_remote_code=trust_remote_code)
        return f"{weights}@{config._commit_hash}"
    whole = hashlib.blake2b(digest_size=16)
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        whole.update(file.name.encode() + b"\0")
        with file.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()
