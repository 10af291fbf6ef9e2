"""Checkpoints on disk: folders named after a number. The last file of each, its seal, has a state, the size and hash of
every other file, and a checksum of itself. A changed or missing file is named and refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sailrl.data.atomic import atomic
from sailrl.errors import CheckpointError
from sailrl.launch.fingerprint import digest, file_fault, file_sums
from sailrl.launch.run_folder import write_file

CHECKPOINTS = "checkpoints"
"""Their folder in a run folder."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Sealed:
    """One kind of checkpoint."""

    prefix: str
    """In front of the number in a folder's name."""
    seal: str
    """Name of the file that seals a folder."""
    digits: int = 1
    """The number in a folder's name has at least so many."""

    def latest(self, run_dir: Path) -> Path | None:
        """The newest complete one in a run folder, or None."""
        return next(reversed(self.folders(run_dir)), None)

    def name(self, number: int) -> str:
        """Of the folder with this number."""
        return f"{self.prefix}{number:0{self.digits}d}"

    def save(
        self, run_dir: Path, number: int, state: Mapping[str, Any], write: Callable[[Path], None], *, keep: int
    ) -> Path:
        """Writes a checkpoint whole and to the disk, or not at all; see ``atomic``. Removes all but the newest
        ``keep``.

        Args:
            write: puts everything but the seal into a folder.

        Raises:
            CheckpointError: the disk refuses; the last checkpoint is still whole.
        """
        parent = run_dir / CHECKPOINTS
        final = parent / self.name(number)
        try:
            for leftover in parent.glob(".writing-*"):  # of a killed run, which may have been at another number
                shutil.rmtree(leftover)
            with atomic(final) as partial:
                partial.mkdir(parents=True)
                write(partial)
                self.write(partial, state)
                for path in [*partial.rglob("*"), partial]:
                    _to_disk(path)
                if final.exists():
                    shutil.rmtree(final)
            _to_disk(parent)
        except OSError as error:
            before = self.latest(run_dir)
            kept = f"The last one, {before}, is whole" if before else "There is none before it"
            raise CheckpointError(
                f"cannot write checkpoint {final}: {error}. {kept}. Make room (a checkpoint takes about three times "
                "the model in float32), and run the same command to resume."
            ) from error
        for old in self.folders(run_dir)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def folders(self, run_dir: Path) -> list[Path]:
        """All in a run folder by number, the newest last. Folders with other names do not count."""
        name = re.compile(re.escape(self.prefix) + "[0-9]+")
        found = (run_dir / CHECKPOINTS).glob(f"{self.prefix}*")
        return sorted((path for path in found if name.fullmatch(path.name) and path.is_dir()), key=self.number)

    def number(self, folder: Path) -> int:
        """The one in a folder's name."""
        return int(folder.name.removeprefix(self.prefix))

    def write(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Seals a folder whose other files are complete."""
        sealed = json.loads(json.dumps({"state": state, "files": file_sums(folder)}))
        write_file(folder / self.seal, json.dumps({**sealed, "checksum": digest(sealed)}))

    def read(self, folder: Path) -> dict[str, Any]:
        """The state in a seal. Raises CheckpointError when that is missing or damaged."""
        return self._sealed(folder)["state"]

    def load(self, folder: Path, kind: type[State]) -> State:
        """The state in a seal as the dataclass that was saved. Raises CheckpointError as ``read`` does."""
        try:
            return kind(**self.read(folder))
        except TypeError as error:
            raise self.unusable(folder, f"{self.seal} is of another version of sailrl ({error})") from error

    def verify(self, folder: Path) -> None:
        """Raises CheckpointError when a file is missing, cut or damaged; the message names it and the fix."""
        if (fault := file_fault(folder, self._sealed(folder)["files"])) is not None:
            raise self.unusable(folder, fault)

    def unusable(self, folder: Path, fault: str) -> CheckpointError:
        """The error about a checkpoint that cannot be resumed, with the fix."""
        older = [path for path in self.folders(folder.parent.parent) if self.number(path) < self.number(folder)]
        advice = "There is no older one. Restore the file, or start again with another run.dir."
        if older:
            advice = f"Remove {folder}: the same command then goes on from {older[-1]}."
        return CheckpointError(f"{folder} cannot be resumed: {fault}. {advice}")

    def _sealed(self, folder: Path) -> dict[str, Any]:
        try:
            sealed = json.loads((folder / self.seal).read_text(encoding="utf-8"))
            checksum, _, _ = sealed.pop("checksum"), sealed["state"], sealed["files"]
        except KeyError as error:
            raise self.unusable(folder, f"{self.seal} has no {error}, as before sailrl wrote checksums") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self.unusable(folder, f"{self.seal} cannot be read ({error})") from error
        if checksum != digest(sealed):
            raise self.unusable(folder, f"{self.seal} is damaged: its checksum is not that of what was written")
        return dict(sealed)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
