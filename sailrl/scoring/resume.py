"""Lets an interrupted ``sailrl score`` continue: a file next to the output has the input and the rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.scoring.spec import PartSpec, ScoringSpec


class Unfinished:
    """The file ``<out>.state.json``. It exists exactly while ``out`` is incomplete."""

    def __init__(self, source: Path, out: Path, spec: ScoringSpec) -> None:
        self._path = out.with_name(out.name + ".state.json")
        stat = source.stat()
        self._state = {
            "input": {"path": str(source.resolve()), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns},
            **identity(spec),
        }

    def begin(self) -> bool:
        """True when ``out`` holds the beginning of this very job; otherwise the job starts again."""
        try:
            same = json.loads(self._path.read_bytes()) == self._state
        except (OSError, ValueError):
            same = False
        if not same:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._state, indent=1), encoding="utf-8")
        return same

    def finished(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


def identity(spec: ScoringSpec) -> dict[str, Any]:
    """What makes two scores of one response the same: rewards, their arguments and their code."""
    return {
        "rewards": {name: _identity(part) for name, part in spec.parts.items()},
        "combine": _identity(spec.combine),
        "deadline_s": spec.deadline_s,
    }


def _identity(part: PartSpec) -> dict[str, Any]:
    """What must be the same for old and new scores to stand in one file, the reward's own code included."""
    args = json.loads(json.dumps(dict(part.args), default=str))
    return {"use": part.use, "args": args, "weight": part.weight, "code": plugins.code_digest(part.use)}
