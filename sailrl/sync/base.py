"""What every way of getting weights to the engines offers the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class WeightSync(Protocol):
    """One way. Built once per run; the first publish connects both sides where that is needed."""

    current: Path | None
    """Folder of the weights published last; None before the first publish, and always where there is no folder."""
    previous: Path | None
    """Folder of those before."""

    async def publish(self, version: int) -> None:
        """Gives every engine the learner's present weights as ``version``.

        Requests in flight are frozen meanwhile and go on with the new weights; caches that old weights filled are
        dropped. Only a probe proves that the engines compute with them.

        Raises:
            SailError: one side failed or was late; it is named. The engines must not be used any more.
        """

    def close(self) -> None:
        """Frees what was taken for it; a second call does nothing."""
