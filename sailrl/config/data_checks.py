"""Rules of the jobs that build data: ``filter`` and ``fuse``."""

from __future__ import annotations

from collections.abc import Iterator

from sailrl.config.complaint import Complaint, Rules
from sailrl.config.filtering import DecontaminateConfig, FilterConfig, PassAtKConfig
from sailrl.config.fusing import FuseConfig, SelectConfig


def _one_origin_of_responses(config: FilterConfig) -> Iterator[Complaint]:
    given = [name for name in ("model", "data", "mcq") if getattr(config, name) is not None]
    if config.scored is not None and given:
        yield Complaint(
            ("scored",),
            f"is {config.scored!r}, but {', '.join(given)} {'is' if len(given) == 1 else 'are'} given too; responses "
            f"are either there already or sampled. Remove scored, or {' and '.join(given)} (`--from` does that).",
        )
    missing = [name for name in ("model", "data", "rewards") if getattr(config, name) is None]
    if config.scored is None and missing:
        yield Complaint(
            (missing[0],),
            f"is missing, and so is scored; a filter samples with model, data and rewards, or reads scored responses. "
            f"Write the section{'s' if len(missing) > 1 else ''} {', '.join(missing)}, or scored: FILE.jsonl.",
        )


def _something_to_keep_out(config: DecontaminateConfig) -> Iterator[Complaint]:
    if not config.files and not config.benchmarks:
        yield Complaint(
            (), "names neither files nor benchmarks, so nothing is kept out. Write for example `benchmarks: [mmstar]`."
        )


def _enough_samples(config: FilterConfig) -> Iterator[Complaint]:
    if config.scored is None and config.samples < config.pass_at_k.k:
        yield Complaint(
            ("samples",),
            f"is {config.samples} and pass_at_k.k is {config.pass_at_k.k}, but a decision needs k scored responses. "
            f"Write samples: {config.pass_at_k.k}, or lower k.",
        )


def _correct_is_a_score(config: FilterConfig) -> Iterator[Complaint]:
    if config.correct is not None and config.rewards is not None:
        known = (*config.rewards.parts, "reward")
        if config.correct not in known:
            yield Complaint(
                ("correct",),
                f"is {config.correct!r}, but the rewards are {', '.join(config.rewards.parts)}. "
                f"Write correct: {config.rewards.accuracy_part}, or reward for the total.",
            )


def _streams(config: FilterConfig) -> Iterator[Complaint]:
    if config.run.deterministic:
        yield Complaint(
            ("run", "deterministic"),
            "is true, but a filter samples whatever is missing as engines are free, in no fixed waves. "
            "Write deterministic: false.",
        )


def _accuracies_in_order(rule: PassAtKConfig) -> Iterator[Complaint]:
    low, high = rule.keep
    if not 0.0 <= low < high <= 1.0:
        yield Complaint(
            ("keep",),
            f"is from {low:g} to {high:g}, but it must be two accuracies with 0 <= low < high <= 1. "
            "The recipe's is [0.0, 1.0].",
        )


def _judge_rank_has_a_judge(select: SelectConfig) -> Iterator[Complaint]:
    if "judge_score" in select.rank and select.sound is None:
        yield Complaint(
            ("rank",),
            "has judge_score, but sound names no judge's score to rank by. Name it in sound, or drop judge_score.",
        )


def _direct_rows_are_there(config: FuseConfig) -> Iterator[Complaint]:
    if config.cot_share < 1 and not config.direct:
        yield Complaint(
            ("direct",),
            f"is empty and cot_share is {config.cot_share:g}, so {1 - config.cot_share:g} of the rows have no source. "
            "Name files with direct answers, or write cot_share: 1.0.",
        )
    if "{answer}" not in config.direct_template:
        yield Complaint(
            ("direct_template",), f"is {config.direct_template!r}, which has no {{answer}} to put the answer in."
        )


DATA_RULES: Rules = [
    (FilterConfig, _one_origin_of_responses),
    (FilterConfig, _enough_samples),
    (FilterConfig, _correct_is_a_score),
    (FilterConfig, _streams),
    (DecontaminateConfig, _something_to_keep_out),
    (PassAtKConfig, _accuracies_in_order),
    (SelectConfig, _judge_rank_has_a_judge),
    (FuseConfig, _direct_rows_are_there),
]
