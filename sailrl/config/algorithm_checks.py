"""Rules about the loss: its clip range, the corrections of a mismatch, and what staleness and replay ask of them."""

from __future__ import annotations

from collections.abc import Iterator

from sailrl.config.complaint import Complaint, Rules
from sailrl.config.losses import GSPO_CLIP_SCALE, ClipBounds, ScheduleClip, SequenceAlgorithm, SteeredClip, TokenTis
from sailrl.config.rewards import WEIGHTED
from sailrl.config.schema import RlvrConfig


def _clip_range(clip: ClipBounds) -> Iterator[Complaint]:
    low, high = clip.low, clip.high
    if low > high:
        yield Complaint(
            ("low",),
            f"is {low:g} and high is {high:g}, but the range goes from low to high. "
            f"Write low: {high:g} and high: {low:g}.",
        )
        return
    for name in ("start", "end"):
        value = getattr(clip, name, None)
        if value is not None and not low <= value <= high:
            yield Complaint(
                (name,),
                f"is {value:g}, but the bound moves between low, {low:g}, and high, {high:g}. "
                f"Write {name}: {min(max(value, low), high):g}.",
            )


def _signal_has_a_target(clip: SteeredClip) -> Iterator[Complaint]:
    if clip.signal != "entropy" and clip.target is None:
        example = "0.002" if clip.signal == "clip_fraction" else "0.01"
        yield Complaint(
            ("signal",),
            f"is {clip.signal} and target is empty (null), but only entropy can take its target from the run's first "
            f"episodes. Write for example target: {example}, or signal: entropy.",
        )


def _gspo_clips(config: RlvrConfig) -> Iterator[Complaint]:
    algorithm = config.algorithm
    if isinstance(algorithm, SequenceAlgorithm) and algorithm.clip.high > GSPO_CLIP_SCALE:
        yield Complaint(
            ("algorithm", "clip", "high"),
            f"is {algorithm.clip.high:g} and the algorithm is {algorithm.name}, whose sequence ratio stays within "
            f"about 0.001 of 1, so a bound above {GSPO_CLIP_SCALE:g} clips nothing. The paper has low: 3e-4, "
            "high: 4e-4.",
        )


def _ramp_ends_within_the_run(config: RlvrConfig) -> Iterator[Complaint]:
    clip = getattr(config.algorithm, "clip", None)
    if isinstance(clip, ScheduleClip) and clip.schedule_episodes > config.batch.episodes:
        yield Complaint(
            ("algorithm", "clip", "schedule_episodes"),
            f"is {clip.schedule_episodes} and batch.episodes is {config.batch.episodes}, so the run ends on the way. "
            f"Write schedule_episodes: {config.batch.episodes} to reach the end.",
        )


def _correction_needs_all_tokens(config: RlvrConfig) -> Iterator[Complaint]:
    correction = config.mismatch.correction.kind
    if correction == "none":
        return
    fix = "or switch the correction off with mismatch.correction: {kind: none}."
    why = f"but mismatch.correction is {correction}, whose weights need probabilities over all tokens on both sides."
    if config.rollout.top_p < 1:
        yield Complaint(("rollout", "top_p"), f"is {config.rollout.top_p:g}, {why} Write top_p: 1.0, {fix}")
    if config.rollout.top_k is not None:
        yield Complaint(("rollout", "top_k"), f"is {config.rollout.top_k}, {why} Write top_k: null, {fix}")


def _token_weights_fit_gspo(config: RlvrConfig) -> Iterator[Complaint]:
    algorithm, correction = config.algorithm, config.mismatch.correction
    if not isinstance(algorithm, SequenceAlgorithm) or not isinstance(correction, TokenTis):
        return
    room, high = correction.cap - 1, algorithm.clip.high
    if room > high:
        yield Complaint(
            ("mismatch", "correction"),
            f"is token_tis with a cap of {correction.cap:g} and algorithm.clip.high is {high:g}, but a token's weight "
            f"may then move a response by {room:g}, {room / high:,.0f} times what GSPO's clip lets the policy move it. "
            "Write mismatch.correction: {kind: icepop}, which drops the tokens that the two sides disagree on, or "
            "{kind: none}.",
        )


def _stale_tokens_are_corrected(config: RlvrConfig) -> Iterator[Complaint]:
    staleness = config.rollout.max_staleness
    if staleness and config.mismatch.correction.kind == "none":
        yield Complaint(
            ("mismatch", "correction"),
            f"is none and rollout.max_staleness is {staleness}, so responses of older weights are learned from as if "
            "the present ones had written them. Write correction: {kind: token_tis}, or {kind: icepop} with GSPO.",
        )


def _limits_see_the_policy_move(config: RlvrConfig) -> Iterator[Complaint]:
    staleness = config.rollout.max_staleness
    for name in ("max_abs_dlogp", "max_k3"):
        limit = getattr(config.mismatch, name)
        if staleness and limit is not None:
            yield Complaint(
                ("mismatch", name),
                f"is {limit:g} and rollout.max_staleness is {staleness}: with older responses the difference holds "
                "what the policy learned since, too. Write null, or a larger number.",
            )


def _replay_has_something_to_replay(config: RlvrConfig) -> Iterator[Complaint]:
    batch = config.batch
    updates = batch.rollouts_per_episode // batch.rollouts_per_update * batch.passes_per_episode
    if config.learner.routing_replay == "r2" and updates == 1:
        yield Complaint(
            ("learner", "routing_replay"),
            "is r2 and an episode has 1 update, in which the old policy is the current one: nothing is replayed.",
        )


def _each_reward_is_normalised(config: RlvrConfig) -> Iterator[Complaint]:
    if not config.algorithm.normalize_each:
        return
    keys = ("algorithm", "normalize_each")
    if config.rewards.combine.use != WEIGHTED:
        yield Complaint(
            keys,
            f"is true and rewards.combine is {config.rewards.combine.use}, but only the parts of a weighted sum can be "
            f"normalised one by one. Write normalize_each: false, or combine: {{use: {WEIGHTED}}}.",
        )
    if not config.algorithm.normalize_std:
        yield Complaint(
            keys,
            "is true and normalize_std is false, but GDPO divides by standard deviations. Write "
            "normalize_std: true, or normalize_each: false.",
        )


ALGORITHM_RULES: Rules = [
    (ClipBounds, _clip_range),
    (SteeredClip, _signal_has_a_target),
    (RlvrConfig, _correction_needs_all_tokens),
    (RlvrConfig, _token_weights_fit_gspo),
    (RlvrConfig, _each_reward_is_normalised),
]
ALGORITHM_WARNINGS: Rules = [
    (RlvrConfig, _gspo_clips),
    (RlvrConfig, _ramp_ends_within_the_run),
    (RlvrConfig, _replay_has_something_to_replay),
    (RlvrConfig, _stale_tokens_are_corrected),
    (RlvrConfig, _limits_see_the_policy_move),
]
