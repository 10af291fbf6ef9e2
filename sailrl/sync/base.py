"""What the loop uses of every method that sends weights to the engines."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class WeightSync(Protocol):
    """One method. Built once per run; the first publish connects both sides where that is needed."""

    current: Path | None
    """Folder of the weights published last; None before the first publish, and always where there is no folder."""
    previous: Path | None
    """Folder of the weights published before those."""

    async def publish(self, version: int) -> None:
        """Gives every engine the learner's current weights as ``version``.

        Requests in flight are paused meanwhile and continue with the new weights; caches computed with the old weights
        are dropped. It does not check that the engines compute with the new weights: see ``sync.probe``.

        Raises:
            SailError: the learner or an engine failed or was late; the message says which. The engines must not be
                used any more.
        """

    def close(self) -> None:
        """Frees its resources; a second call does nothing."""
