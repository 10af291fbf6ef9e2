"""Files and folders that get their name only when they are complete, since a process may be killed at any time."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path in the same folder, where the block writes a file or makes a folder. It is renamed to
    ``path`` when the block ends without an error, and removed after one. A file ``path`` from before stays until then;
    a folder ``path`` must not exist by then.

    Args:
        shared: other processes or threads may write the same path at the same time.

    Raises:
        OSError: the rename fails.
    """
    own = f"-{secrets.token_hex(4)}" if shared else ""
    partial = path.with_name(f".writing-{path.name}{own}")
    shutil.rmtree(partial, ignore_errors=True)  # a folder that a killed process left; a file is overwritten
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.unlink()
        raise
