"""Caches verdicts by content hash: a bounded number in memory, and a JSON file per verdict if a folder is given."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rewards.judge_api.verdict import Verdict, is_verdict

_MEMORY_ENTRIES = 100_000  # about 30 MB


class VerdictCache:
    """Safe with any number of processes and machines on one folder: a file is written under a name of its own and then
    renamed, so a reader sees all of it or none, and two writers of one key write the same thing.

    A file holds the verdict and nothing else. What was asked stands only in the hash, so neither responses nor keys
    can be read from a cache.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder).expanduser()
        self._memory: OrderedDict[str, Verdict] = OrderedDict()
        self.errors = 0
        """Files that could not be read or written. Each costs a repeated call, and does not stop the run."""

    def recall(self, key: str) -> Verdict | None:
        """The verdict in memory, or None; never waits."""
        verdict = self._memory.get(key)
        if verdict is not None:
            self._memory.move_to_end(key)
        return verdict

    def read(self, key: str, names: Sequence[str], texts: Sequence[str] = ()) -> Verdict | None:
        """The verdict in the folder, or None. A file that is damaged or holds anything but these booleans and texts
        counts as absent and is overwritten by the next verdict."""
        if self._folder is None:
            return None
        try:
            verdict = json.loads(self._path(key).read_bytes())["verdict"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self.errors += 1
            return None
        if not is_verdict(verdict, names, texts):
            self.errors += 1
            return None
        return cast(Verdict, verdict)

    def remember(self, key: str, verdict: Verdict) -> None:
        """Keeps a verdict in memory only."""
        self._memory[key] = verdict
        self._memory.move_to_end(key)
        if len(self._memory) > _MEMORY_ENTRIES:
            self._memory.popitem(last=False)

    def write(self, key: str, verdict: Verdict) -> None:
        """Writes a verdict into the folder, atomically."""
        if self._folder is None:
            return
        path = self._path(key)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({"verdict": verdict}, file)
            os.replace(temporary, path)
        except OSError:
            self.errors += 1
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def _path(self, key: str) -> Path:
        """256 sub-folders keep each one small enough to list for a million verdicts."""
        assert self._folder is not None
        return self._folder / key[:2] / f"{key}.json"
