"""Relative paths in Ray's actors. On a cluster an actor starts in the folder where ``ray start`` was typed, not in the
one where the user typed the command."""

from __future__ import annotations

import os


def start_in(folder: str) -> None:
    """Makes ``folder`` this process's working folder. A machine that does not have it keeps its own: absolute paths
    still work there."""
    if os.path.isdir(folder):
        os.chdir(folder)
