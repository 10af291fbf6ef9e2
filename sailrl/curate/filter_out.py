"""What a filter writes: kept and dropped problems, the evidence for both, every scored response, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from data_filters.pass_at_k import PassAtKByTask
from data_filters.reading import score_value, text_key
from sailrl.config.filtering import FilterConfig
from sailrl.curate.candidates import Dropped
from sailrl.data.atomic import atomic
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.jsonl import dump_line
from sailrl.errors import DataError
from sailrl.report.filter_report import FilterReport

KEPT, DROPPED, EVIDENCE, SCORED = "kept.jsonl", "dropped.jsonl", "evidence.jsonl", "scored.jsonl"

ADVICE = {
    "too_easy": "Too easy: use harder problems, or raise pass_at_k.keep.",
    "impossible": "Impossible: the model cannot do them yet, or the reward never fires; look at the responses.",
    "too_few_samples": "Too few samples: a decision needs pass_at_k.k scored responses to the problem.",
}
"""Advice for a reason, printed when every problem was dropped."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A problem with the scores of the model's responses."""

    row: dict[str, Any]
    samples: Sequence[float | None]
    """One score per response, None where it has none."""
    fingerprints: Sequence[str]
    """Fingerprints of the responses, in the same order."""
    responses: Sequence[dict[str, Any]] = ()
    """The responses with their scores, if this run sampled them."""


def tried(row: dict[str, Any], responses: Sequence[dict[str, Any]], score: str) -> Tried:
    """A problem with responses as ``SampleLog`` keeps them."""
    samples = [score_value(response, score) for response in responses]
    return Tried(row, samples, [text_key(response["response"]) for response in responses], responses)


class Decisions:
    """Takes the problems one by one, decides, and writes. ``with whole_files(...)`` gives the files."""

    def __init__(self, config: FilterConfig, folder: Path, made: dict[str, Any], files: dict[str, BinaryIO]) -> None:
        rule = config.pass_at_k
        self._rule = PassAtKByTask(rule.k, rule.keep, rule.rules, rule.default, rule.correct_from)
        self._folder, self._made, self._files = folder, made, files
        self.report = FilterReport()

    def drop(self, dropped: Dropped) -> None:
        """A problem that an early step refused."""
        self.report.rows += 1
        self._write_dropped(self._plain(dropped.row), dropped.step, dropped.reason, dropped.evidence)

    def decide(self, case: Tried) -> None:
        """A problem that was tried: kept or dropped by its accuracy."""
        row, report = self._plain(case.row), self.report
        verdict = self._rule({"id": row["id"], "task": row.get("task"), "samples": list(case.samples)})
        report.rows += 1
        report.kept += verdict.keep
        report.steps.setdefault("pass_at_k", Counter())[verdict.reason] += 1
        report.tasks.setdefault(str(row.get("task") or "(none)"), Counter())[verdict.reason] += 1
        accuracy = verdict.evidence["accuracy"]
        if accuracy is not None:
            found = report.accuracies["kept" if verdict.keep else "dropped"]
            found[accuracy] = found.get(accuracy, 0) + 1
        numbers = {"reason": verdict.reason, **verdict.evidence}
        self._write(
            EVIDENCE,
            {"id": row["id"], "task": row.get("task"), "kept": verdict.keep, **numbers}
            | {"samples": list(case.samples), "responses": list(case.fingerprints), **self._made},
        )
        for response in case.responses:
            self._write(SCORED, {**row, **response})
        meta = row.get("meta") or {}
        row["meta"] = {**meta, "filters": {**(meta.get("filters") or {}), "pass_at_k": numbers}}
        if verdict.keep:
            self._write(KEPT, row)
        else:
            self._write_dropped(row, "pass_at_k", verdict.reason, numbers)

    def _write_dropped(self, row: dict[str, Any], step: str, reason: str, evidence: dict[str, Any]) -> None:
        self._write(DROPPED, {**row, "dropped_step": step, "dropped_reason": reason, "evidence": evidence})

    def _write(self, name: str, row: dict[str, Any]) -> None:
        self._files[name].write(dump_line(row))

    def _plain(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as JSON can hold it: images that came as bytes become files of the run's store."""
        if not any(isinstance(image, bytes) for image in row.get("images") or ()):
            return dict(row)
        return {**row, "images": [image for source in row["images"] if (image := self._path(source)) is not None]}

    def _path(self, source: str | bytes) -> str | None:
        if isinstance(source, str):
            return source
        try:
            return f"{FOLDER}/encoded/{ImageStore(self._folder / FOLDER).add(source)}"
        except DataError:  # not an image: the row was dropped for it
            return None


@contextmanager
def whole_files(folder: Path, names: Iterable[str]) -> Iterator[dict[str, BinaryIO]]:
    """Opens files that replace the old ones of these names when the block ends without an error."""
    with ExitStack() as renamed:
        partial = {name: renamed.enter_context(atomic(folder / name)) for name in names}
        with ExitStack() as opened:  # all are closed before the first is renamed
            files: dict[str, BinaryIO] = {}
            for name, path in partial.items():
                files[name] = path.open("wb")
                opened.callback(_let_go, files[name])
            yield files
            for file in files.values():
                file.close()


def _let_go(file: BinaryIO) -> None:
    with suppress(OSError):  # the error was raised by the write already
        file.close()


def refuse_empty(folder: Path, report: FilterReport) -> None:
    """Removes an empty ``kept.jsonl``, so that no run trains on it.

    Raises:
        DataError: nothing was kept; with the counted reasons.
    """
    if report.kept:
        return
    (folder / KEPT).unlink(missing_ok=True)
    reasons: Counter[str] = Counter()
    for step, found in report.steps.items():
        reasons.update({f"{reason} ({step})": n for reason, n in found.items() if reason != "kept"})
    advice = "".join(f"{ADVICE[reason]} " for reason in report.steps.get("pass_at_k", ()) if reason in ADVICE)
    listed = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common(6)) or "none was tried"
    raise DataError(
        f"none of {report.rows:,} problems is left: {listed}. {advice}Every drop is in {folder / DROPPED}, and nothing "
        "that was sampled is lost."
    )
