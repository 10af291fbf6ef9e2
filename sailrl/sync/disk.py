"""Weights through a folder, in shared memory where there is one: the way on CPU, and the simplest anywhere."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sailrl.errors import WeightSyncError

SHARED_MEMORY = Path("/dev/shm")


class DiskSync:
    """The learner writes safetensors, every engine reads them. The folder of the version before is kept: it lets a
    failed probe tell which parameters an engine still has from then."""

    def __init__(self, learners: Any, pool: Any, *, timeout_s: float) -> None:
        self._learners, self._pool, self._timeout_s = learners, pool, timeout_s
        parent = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        self._root = Path(tempfile.mkdtemp(prefix="sailrl-weights-", dir=parent))
        self.current: Path | None = None
        self.previous: Path | None = None

    async def publish(self, version: int) -> None:
        """See WeightSync.publish."""
        folder = self._root / f"version-{version}"
        try:
            self._learners.export(str(folder))
        except OSError as error:
            raise WeightSyncError(
                f"cannot write weights to {folder}: {error}. Free some space there and run again to resume."
            ) from error
        await self._pool.load_weights(str(folder), version, timeout_s=self._timeout_s)
        if self.previous is not None and self.previous != folder:
            shutil.rmtree(self.previous, ignore_errors=True)
        self.previous, self.current = self.current, folder

    def close(self) -> None:
        """Removes what is in shared memory."""
        shutil.rmtree(self._root, ignore_errors=True)
