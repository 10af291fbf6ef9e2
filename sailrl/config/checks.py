"""Rules no field can check alone: ``validate`` asks about the configuration itself, ``preflight`` about the machine.

Each rule is one small function; what all of them say is reported together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sailrl.config.base import Section
from sailrl.config.complaint import Complaint, Rule, Rules, ask
from sailrl.config.data_checks import DATA_RULES
from sailrl.config.filtering import FilterConfig
from sailrl.config.load import join
from sailrl.config.losses import GSPO_CLIP_SCALE, ClipRange, Gspo, GspoToken, ScheduleClip, SteeredClip, TokenTis
from sailrl.config.needs import NEEDS
from sailrl.config.recipe import RECIPE_RULES
from sailrl.config.references import refers
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import BatchConfig, EvalConfig, LearnerConfig, ModelConfig, RlvrConfig, SourceConfig
from sailrl.config.sft import SFT_RULES
from sailrl.config.yaml_text import Where
from sailrl.errors import ConfigError


def validate(config: Section, where: Where | None = None) -> None:
    """Checks the rules across sections.

    Raises:
        ConfigError: every rule that is broken, one paragraph each, with its line when ``where`` is given.
    """
    _raise(ask(RULES, config, where or Where()))


def preflight(config: Section, where: Where | None = None) -> None:
    """Checks what the configuration needs of this machine: files, model folders, plug-ins.

    Raises:
        ConfigError: everything that is missing, one paragraph each.
    """
    _raise(preflight_problems(config, where or Where()))


def preflight_problems(config: Section, where: Where) -> list[str]:
    """What ``preflight`` would raise, as paragraphs. What refers to an earlier stage of a recipe is asked about when
    that stage has run."""
    return ask([(kind, _when_known(rule)) for kind, rule in NEEDS], config, where)


def _when_known(rule: Rule) -> Rule:
    return lambda section: iter(()) if refers(section) else rule(section)


def warnings(config: Section, where: Where | None = None) -> list[str]:
    """What is allowed but most likely not meant, as paragraphs."""
    return ask(WARNINGS, config, where or Where())


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError(join(problems))


def _whole_groups(batch: BatchConfig) -> Iterator[Complaint]:
    g, e, u = batch.group_size, batch.rollouts_per_episode, batch.rollouts_per_update
    if e % g:
        yield Complaint(
            ("rollouts_per_episode",),
            f"is {e} and group_size is {g}, which makes {e / g:.4g} groups, but an episode holds whole groups. "
            f"Write rollouts_per_episode: {_or(_multiples_near(e, g if u % g else u))}.",
        )
    if u % g:
        yield Complaint(
            ("rollouts_per_update",),
            f"is {u} and group_size is {g}, which makes {u / g:.4g} groups, but an update takes whole groups. "
            f"Write rollouts_per_update: {_or(_updates_near(u, g, e) or _multiples_near(u, g))}.",
        )
    elif e % u and not e % g:
        updates = _updates_near(u, g, e)
        yield Complaint(
            ("rollouts_per_update",),
            f"is {u} and rollouts_per_episode is {e}, which makes {e / u:.4g} updates, but a pass over an episode is "
            f"a whole number of updates. Write rollouts_per_episode: {_or(_multiples_near(e, u))}"
            f"{f', or rollouts_per_update: {_or(updates)}' if updates else ''}.",
        )


def _multiples_near(number: int, step: int) -> list[int]:
    below = number // step * step
    return [n for n in (below, below + step) if n > 0]


def _updates_near(update: int, group: int, episode: int) -> list[int]:
    """The largest valid update below and the smallest above: divisors of the episode that hold whole groups."""
    valid = [n for n in range(group, episode + 1, group) if episode % n == 0]
    return [n for n in valid if n < update][-1:] + [n for n in valid if n > update][:1]


def _or(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))


def _one_model(model: ModelConfig) -> Iterator[Complaint]:
    if model.path is not None and model.build is not None:
        yield Complaint(
            ("path",), f"is {model.path!r}, but build is given too; a policy has one origin. Remove one of the two."
        )
    if model.path is None and model.build is None:
        yield Complaint(
            (),
            "says neither path nor build; a policy has one origin. "
            "Write for example `path: Qwen/Qwen3-VL-2B-Thinking`.",
        )


def _one_source(source: SourceConfig) -> Iterator[Complaint]:
    if source.path is not None and source.generate is not None:
        yield Complaint(
            ("path",),
            f"is {source.path!r}, but generate is given too; problems have one origin. Remove one of the two.",
        )
    if source.path is None and source.generate is None:
        yield Complaint(
            (),
            "says neither path nor generate; problems have one origin. Write for example `path: data/problems.jsonl`.",
        )


def _regex_has_a_group(source: SourceConfig) -> Iterator[Complaint]:
    if source.answer_regex is None:
        return
    try:
        groups = re.compile(source.answer_regex).groups
    except re.error as error:
        yield Complaint(("answer_regex",), f"is {source.answer_regex!r}, which is no regular expression: {error}.")
        return
    if groups == 0:
        yield Complaint(
            ("answer_regex",),
            f"is {source.answer_regex!r}, which has no group, but the answer is what its first group matches. "
            "Put the answer's part in parentheses: '####\\s*(.+)'.",
        )


def _accuracy_is_no_penalty(rewards: RewardsConfig) -> Iterator[Complaint]:
    name = rewards.accuracy_part
    if rewards.parts[name].penalty:
        others = [other for other, part in rewards.parts.items() if not part.penalty]
        yield Complaint(
            ("accuracy",),
            f"is the part {name!r}{'' if rewards.accuracy else ' (the first one)'}, which is a penalty, but dynamic "
            "sampling and evaluation need the part that says whether an answer is right. "
            f"Write accuracy: {others[0] if others else '<a part that is no penalty>'}.",
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


def _generation_can_go_on(config: RlvrConfig) -> Iterator[Complaint]:
    staleness = config.rollout.max_staleness
    if config.run.deterministic and staleness:
        yield Complaint(
            ("rollout", "max_staleness"),
            f"is {staleness} and run.deterministic is true, but what is sampled while the learner learns depends on "
            "the speed of both, so a run could not be repeated. Write deterministic: false under run.",
        )
    if config.placement == "colocated" and staleness:
        yield Complaint(
            ("rollout", "max_staleness"),
            f"is {staleness} and placement is colocated, where engines sleep while the learner learns, so nothing can "
            "be sampled meanwhile. Write max_staleness: 0, or placement: split.",
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


def _clip_range(clip: ClipRange) -> Iterator[Complaint]:
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


def _token_weights_fit_gspo(config: RlvrConfig) -> Iterator[Complaint]:
    algorithm, correction = config.algorithm, config.mismatch.correction
    if not isinstance(algorithm, Gspo | GspoToken) or not isinstance(correction, TokenTis):
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


def _replay_has_something_to_replay(config: RlvrConfig) -> Iterator[Complaint]:
    batch = config.batch
    updates = batch.rollouts_per_episode // batch.rollouts_per_update * batch.passes_per_episode
    if config.learner.routing_replay == "r2" and updates == 1:
        yield Complaint(
            ("learner", "routing_replay"),
            "is r2 and an episode has 1 update, in which the old policy is the current one: nothing is replayed.",
        )


def _gspo_clips(config: RlvrConfig) -> Iterator[Complaint]:
    algorithm = config.algorithm
    if isinstance(algorithm, Gspo | GspoToken) and algorithm.clip.high > GSPO_CLIP_SCALE:
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


_TOLERANCE = {"float32": (1e-6, 1e-4), "float16": (5e-3, 2e-2), "bfloat16": (2e-2, 0.1)}
"""Per precision: below this the engine and the learner never agree; what to write instead."""


def _tolerance_fits_precision(config: RlvrConfig) -> Iterator[Complaint]:
    tolerance, dtype = config.sync.probe_tolerance, config.model.dtype
    floor, good = _TOLERANCE[dtype]
    if tolerance < floor:
        yield Complaint(
            ("sync", "probe_tolerance"),
            f"is {tolerance:g} nats and model.dtype is {dtype}, in which the engine and the learner differ by about "
            f"{floor:g} even with equal weights, so every publish would be refused. "
            f"Write probe_tolerance: {good:g}{'' if dtype == 'float32' else ', or dtype: float32'}.",
        )


def _longest(config: RlvrConfig) -> int:
    return config.data.max_prompt_tokens + config.rollout.max_response_tokens


def _microbatch_holds_one(config: RlvrConfig) -> Iterator[Complaint]:
    budget, longest = config.learner.max_tokens_per_microbatch, _longest(config)
    if budget < longest:
        yield Complaint(
            ("learner", "max_tokens_per_microbatch"),
            f"is {budget}, but the longest sequence has {longest} tokens ({config.data.max_prompt_tokens} of "
            f"data.max_prompt_tokens and {config.rollout.max_response_tokens} of rollout.max_response_tokens), and a "
            f"micro-batch holds at least one. Write max_tokens_per_microbatch: {longest}, or lower one of the limits.",
        )


def _same_response_limit(config: RlvrConfig | FilterConfig) -> Iterator[Complaint]:
    limit = config.rollout.max_response_tokens
    for name, part in config.rewards.parts.items() if config.rewards else ():
        given = part.args.get("max_response_tokens", limit)
        if given != limit:
            yield Complaint(
                ("rewards", "parts", name, "args", "max_response_tokens"),
                f"is {given} and rollout.max_response_tokens is {limit}, but a reward that looks at the limit must "
                f"know the real one. Write max_response_tokens: {limit} here, too.",
            )


def _way_of_weights_fits_placement(config: RlvrConfig) -> Iterator[Complaint]:
    method, placement = config.sync.method, config.placement
    if (method, placement) == ("nccl", "colocated"):
        yield Complaint(
            ("sync", "method"),
            "is nccl, whose group holds every GPU once, but placement is colocated, where rank i and engine i share "
            "one. Write sync.method: disk (or ipc), or placement: split.",
        )
    if (method, placement) == ("ipc", "split"):
        yield Complaint(
            ("sync", "method"),
            "is ipc, which hands weights over inside a GPU, but placement is split, where engines and learner ranks "
            "have GPUs of their own. Write placement: colocated, or sync.method: nccl.",
        )


def _sharing_pairs_up(config: RlvrConfig) -> Iterator[Complaint]:
    workers, ranks = config.rollout.workers, config.learner.ranks
    if config.placement != "colocated":
        return
    why = "but placement is colocated, where every learner rank shares its GPU with one engine."
    if workers != ranks:
        yield Complaint(
            ("rollout", "workers"),
            f"is {workers} and learner.ranks is {ranks}, {why} Write workers: {ranks}, or placement: split.",
        )
    if (width := config.rollout.engine.tensor_parallel) > 1:
        yield Complaint(
            ("rollout", "engine", "tensor_parallel"),
            f"is {width}, {why} Write tensor_parallel: 1, or placement: split.",
        )


def _adapters_come_alone(model: ModelConfig) -> Iterator[Complaint]:
    if model.lora is not None and model.freeze:
        yield Complaint(
            ("freeze",),
            f"is {list(model.freeze)} and lora is set, but with lora the whole model is frozen and only the adapter "
            "learns. Remove freeze, and choose with lora.target_modules where there is an adapter.",
        )


def _adapters_are_merged_to_disk(config: RlvrConfig) -> Iterator[Complaint]:
    if config.model.lora is not None and config.sync.method != "disk":
        yield Complaint(
            ("sync", "method"),
            f"is {config.sync.method} and model.lora is set, but weights with an adapter are merged when they are "
            "written. Write method: disk.",
        )


def _groups_of_ranks_are_equal(learner: LearnerConfig) -> Iterator[Complaint]:
    ranks, sharing = learner.ranks, learner.shard_ranks
    if sharing is not None and ranks % sharing:
        divisors = [n for n in range(2, ranks + 1) if ranks % n == 0]
        yield Complaint(
            ("shard_ranks",),
            f"is {sharing} and ranks is {ranks}, which makes {ranks / sharing:.4g} copies of the weights, but every "
            f"rank belongs to a whole one. {f'Write shard_ranks: {_or(divisors)}' if divisors else 'Leave it out'}.",
        )


def _gradients_do_not_underflow(config: RlvrConfig) -> Iterator[Complaint]:
    if config.model.dtype == "float16":
        yield Complaint(
            ("model", "dtype"),
            "is float16, whose smallest number is 6e-8: gradients below it vanish unless losses are scaled up, which "
            "the learner does not do. Write dtype: bfloat16, or float32.",
        )


def _eval_has_problems(config: RlvrConfig) -> Iterator[Complaint]:
    if config.data.eval is None and config.eval != EvalConfig():
        yield Complaint(
            ("eval",),
            "is set, but data.eval is not, so there are no held-out problems to evaluate on. "
            "Write for example `eval: {path: data/held_out.jsonl}` under data, or remove the section eval.",
        )


RULES: Rules = [
    (ModelConfig, _one_model),
    (ModelConfig, _adapters_come_alone),
    (SourceConfig, _one_source),
    (SourceConfig, _regex_has_a_group),
    (RewardsConfig, _accuracy_is_no_penalty),
    (BatchConfig, _whole_groups),
    (ClipRange, _clip_range),
    (SteeredClip, _signal_has_a_target),
    (RlvrConfig, _correction_needs_all_tokens),
    (RlvrConfig, _token_weights_fit_gspo),
    (RlvrConfig, _tolerance_fits_precision),
    (RlvrConfig, _microbatch_holds_one),
    (RlvrConfig, _same_response_limit),
    (FilterConfig, _same_response_limit),
    (RlvrConfig, _way_of_weights_fits_placement),
    (RlvrConfig, _sharing_pairs_up),
    (RlvrConfig, _adapters_are_merged_to_disk),
    (RlvrConfig, _generation_can_go_on),
    (LearnerConfig, _groups_of_ranks_are_equal),
    (RlvrConfig, _gradients_do_not_underflow),
    (RlvrConfig, _eval_has_problems),
    *DATA_RULES,
    *SFT_RULES,
    *RECIPE_RULES,
]

WARNINGS: Rules = [
    (RlvrConfig, _gspo_clips),
    (RlvrConfig, _ramp_ends_within_the_run),
    (RlvrConfig, _replay_has_something_to_replay),
    (RlvrConfig, _stale_tokens_are_corrected),
    (RlvrConfig, _limits_see_the_policy_move),
]
"""Rules whose breach is allowed and said."""
