"""``sailrl init``: a small configuration to start from, with comments."""

from __future__ import annotations

from pathlib import Path

from sailrl.config.kinds import kind_class
from sailrl.errors import ConfigError

TEMPLATES = Path(__file__).with_name("templates")


def init_job(kind: str, out: Path | None) -> Path:
    """Writes the template of ``kind`` to ``out``, or to ``<kind>.yaml`` in this folder, and prints the next commands.

    Raises:
        ConfigError: there is no such kind, or the file is there already.
    """
    kind_class(kind)
    path = out or Path(f"{kind}.yaml")
    text = (TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already, and `sailrl init` overwrites nothing. Name another file: "
            f"sailrl init {kind} {path.with_stem(path.stem + '_2')}"
        ) from None
    print(f"wrote {path}. Next:\n  sailrl check {path}\n  sailrl run {path}")
    return path
