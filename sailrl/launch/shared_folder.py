"""Whether every machine of a cluster sees the run folder. Weights, images and checkpoints go through it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from sailrl.errors import ConfigError

Ask = Callable[[str, str, str], Mapping[str, bool]]
"""``ask(folder, name, reply)`` calls ``answer`` with these on every machine; its results by the machine's address."""


def require_shared(folder: Path, ask: Ask) -> None:
    """Every machine reads a new file in the folder and writes one back, which this machine then has to find.

    Raises:
        ConfigError: a machine does not see the folder, or what it writes there does not arrive.
    """
    name = f".seen-{uuid.uuid4().hex}"
    question = folder / name
    question.touch()
    try:
        answers = ask(str(folder.absolute()), name, f"{name}-")
        blind = [address for address, saw in answers.items() if not saw or not (folder / f"{name}-{address}").is_file()]
    finally:
        for path in folder.glob(f"{name}*"):
            path.unlink(missing_ok=True)
    if blind:
        raise ConfigError(
            f"{len(blind)} of {len(answers)} machines of the cluster do not see the run folder {folder.absolute()}: "
            f"{', '.join(blind)}. Checkpoints, images and weights go through it. Set run.dir to a folder on a disk "
            "that all machines share."
        )


def answer(folder: str, name: str, reply: str) -> bool:
    """Whether this machine sees the file and can write the reply."""
    try:
        if not os.path.isfile(os.path.join(folder, name)):
            return False
        Path(folder, reply).touch()
    except OSError:
        return False
    return True
