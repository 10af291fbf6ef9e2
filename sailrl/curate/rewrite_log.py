"""Keeps a language model's rewrites of multiple choice by request, so that each request is made once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_filters.reading import Row, image_digest
from sailrl.config.base import Plugin
from sailrl.data import jsonl
from sailrl.data.jsonl import AppendOnlyFile, dump_line
from sailrl.errors import DataError
from sailrl.launch.fingerprint import digest
from sailrl.plugins import code_digest

FOLDER = "rewrites"


class RewriteLog:
    """A rewriter that looks into ``rewrites/<key>.jsonl`` first; another rewriter, other arguments or other code have a
    file of their own. No answer at all (RewardError) is not kept: the next run asks again.

    A line reaches the operating system before it is used: SIGKILL loses nothing that was answered.
    """

    def __init__(self, rewriter: Any, plugin: Plugin, run_dir: Path) -> None:
        self._rewriter = rewriter
        path = run_dir / FOLDER / f"{digest([plugin.use, plugin.args, code_digest(plugin.use)])[:16]}.jsonl"
        self._file = AppendOnlyFile.going_on(path)
        self._said = {record["key"]: record["said"] for _, record in jsonl.read(path)}

    async def rewrite(self, row: Row) -> Mapping[str, str] | None:
        """See ``data_filters.mcq_rewrite.Rewrite``."""
        return await self._once("rewrite", row)

    async def solve(self, row: Row) -> str:
        """See ``data_filters.mcq_rewrite.Solve``."""
        return await self._once("solve", row)

    async def aclose(self) -> None:
        """Closes the file and what the rewriter has open."""
        self._file.close()
        if hasattr(self._rewriter, "aclose"):
            await self._rewriter.aclose()

    async def _once(self, what: str, row: Row) -> Any:
        try:
            images = [image_digest(image).hex() for image in row.get("images") or ()]
        except DataError:  # the rewriter decides about such a row
            return await getattr(self._rewriter, what)(row)
        key = digest([what, dump_line({**row, "images": images}).decode()])
        if key not in self._said:
            said = await getattr(self._rewriter, what)(row)
            self._file.append({"key": key, "said": said})
            self._said[key] = said
        return self._said[key]
