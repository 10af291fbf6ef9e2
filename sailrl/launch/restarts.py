"""How often a run starts again from its last checkpoint when one of its processes has died."""

from __future__ import annotations

from collections.abc import Callable

from sailrl.errors import LearnerDied, LearnerError, WorkerDied


class Restarts:
    """Counts them.

    Args:
        most: ``run.max_restarts``.
        say: prints one line.
    """

    def __init__(self, most: int, say: Callable[[str], None]) -> None:
        self._most, self._say, self._made = most, say, 0

    def after(self, death: LearnerDied | WorkerDied) -> None:
        """Says what died, and that the run starts again.

        Raises:
            LearnerError: it has started again as often as it may.
        """
        self._say(str(death))
        if self._made == self._most:
            raise LearnerError(
                f"{death} The run has started again {self._most} times, as often as run.max_restarts allows."
            ) from death
        self._made += 1
        self._say(f"starting again from the last checkpoint ({self._made} of {self._most})")
