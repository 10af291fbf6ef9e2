"""Every number in ``metrics.jsonl``: what it means, its unit, and the range of a healthy run.

The one declaration of all keys: the log requires those that are fixed, ``docs/metrics.md`` is made from it, and a test
compares it with what runs log. ``<name>`` in a key stands for any text without a slash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Metric:
    """One key, or several of one form."""

    key: str
    meaning: str
    unit: str = ""
    healthy: str = ""
    """The range or the course in a healthy run; empty where every value is fine."""
    when: str = ""
    """What a run needs to log it; empty for a key that is on every line of its kind."""
    fixed: bool = False
    """Whether scripts rely on the key: every line has it, and its name does not change."""


_COUNTED = "scoring, since the line of the episode before"
_JUDGE = "a reward that asks a judge"
_DUAL_CLIP = "`algorithm.dual_clip` is set"
_CORRECTED = "`mismatch.correction` or `mismatch.veto_below` is on"
_REFERENCE = "`algorithm.kl_coef` above 0"
_FLOAT16 = "`model.dtype: float16`"
_EXPERTS = "a mixture of experts"
_PROBED_EXPERTS = f"{_EXPERTS}; the last update of an episode"
_REPLAY = "`learner.routing_replay` is on"
_BALANCED = "`learner.router_aux_coef` above 0"
_SCORING = (
    Metric(
        "score/<name>/reason/<reason>",
        "Responses by the reason of the score, see [rewards](rewards.md).",
        "responses",
        "no `too_slow`, no reason that takes over",
        _COUNTED,
    ),
    Metric("score/<name>/latency_s/mean", "Mean time of a score.", "seconds", "far below its deadline", _COUNTED),
    Metric("score/<name>/latency_s/max", "Longest time of a score.", "seconds", "below its deadline", _COUNTED),
    Metric("score/<name>/calls", "Questions to the judge since the start.", "calls", "", _JUDGE),
    Metric("score/<name>/requests", "HTTP requests for them, retries counted.", "requests", "", _JUDGE),
    Metric("score/<name>/retries", "Requests that were made again.", "requests", "near 0", _JUDGE),
    Metric("score/<name>/cache_hits", "Questions answered from the cache.", "calls", "", _JUDGE),
    Metric("score/<name>/cache_errors", "Answers that the cache could not read or write.", "calls", "0", _JUDGE),
    Metric("score/<name>/deduplicated", "Questions that waited for the same one.", "calls", "", _JUDGE),
    Metric("score/<name>/unreadable_replies", "Replies that were no verdict.", "replies", "near 0", _JUDGE),
    Metric("score/<name>/failed/<reason>", "Questions without an answer, by reason.", "calls", "absent", _JUDGE),
    Metric("score/<name>/prompt_tokens", "Tokens that the judge has read.", "tokens", "", _JUDGE),
    Metric("score/<name>/completion_tokens", "Tokens that the judge has written.", "tokens", "", _JUDGE),
    Metric("score/<name>/breaker_opened", "How often the breaker stopped all calls.", "times", "0", _JUDGE),
    Metric("score/<name>/breaker_open", "1 while the breaker stops all calls.", "", "0", _JUDGE),
    Metric(
        "score/<name>/request_s/<figure>",
        "`mean`, `p50`, `p95` and `max` time of the last 4,096 requests.",
        "seconds",
        "below `timeout_s`",
        _JUDGE,
    ),
    Metric(
        "score/<name>/queue_s/<figure>",
        "The same of the wait for one of the judge's `max_concurrency` places.",
        "seconds",
        "below `request_s`; more means that `max_concurrency` is the bottleneck",
        _JUDGE,
    ),
    Metric(
        "score/<name>/<count>",
        "Responses by status of a reward's score (`scored`, `unscorable`, `failed`, `timed_out`), and by where it ran "
        "(`inline`, `worker`, `async`). `metrics_failed` is 1 where the reward's own `metrics()` fails.",
        "responses",
        "`failed` and `timed_out` 0",
        _COUNTED,
    ),
)
"""What scoring counts."""

UPDATE_METRICS = (
    Metric("step", "Number of the update; 1 is the first.", "updates", fixed=True),
    Metric("episode", "Number of the episode that the update learns from; 1 is the first.", "episodes", fixed=True),
    Metric("version", "Version of the weights when the episode began. Version 0 is the start.", "versions", fixed=True),
    Metric(
        "reward/mean",
        "Mean reward of the responses sampled for this episode, in dropped groups too. Responses without a reward are "
        "left out.",
        "",
        "rises",
        fixed=True,
    ),
    Metric("reward/<name>", "Mean score of one reward, over the same responses.", "", "depends on the reward"),
    Metric(
        "accuracy",
        "Share of the same responses that are right: those to which the part that `rewards.accuracy` names gave a full "
        "1. Partial credit is not right; its mean is `reward/<name>`. Responses without a score are left out.",
        "share",
        "rises; at 0 or 1 all groups are dropped",
        fixed=True,
    ),
    Metric("response_tokens/mean", "Mean length of the same responses.", "tokens", "no sudden change", fixed=True),
    Metric("response_tokens/max", "Longest response.", "tokens", "at most `rollout.max_response_tokens`"),
    Metric(
        "truncated_fraction",
        "Share of responses that were cut at `rollout.max_response_tokens`.",
        "share",
        "small; if it rises, responses grow past the limit",
    ),
    Metric(
        "unscored_fraction",
        "Share of responses without a reward. They leave their group.",
        "share",
        "0; the run stops above `rewards.max_unscored_rate`",
    ),
    Metric(
        "staleness/max",
        "Largest number of versions between the weights that sampled a response's first token and the current ones, in "
        "kept groups.",
        "versions",
        "at most `rollout.max_staleness`",
        fixed=True,
    ),
    Metric("staleness/mean", "Mean of the same number.", "versions", "at most `rollout.max_staleness`"),
    Metric("groups/kept", "Groups that the episode learns from.", "groups", "the prompts per episode", fixed=True),
    Metric(
        "groups/dropped",
        "Groups that were sampled for the episode and not used.",
        "groups",
        "below groups/kept; more means that most problems are too easy or too hard",
        fixed=True,
    ),
    Metric(
        "groups/dropped_<reason>",
        "The same by reason. `all_correct`, `all_wrong`, `all_equal`: the accuracy part gave all responses the same. "
        "`unscored`: fewer than 2 responses have a score. `stale`: older than `rollout.max_staleness`. `surplus`: the "
        "episode was full already.",
        "groups",
        "`unscored` 0",
        "a group was dropped for this reason",
    ),
    Metric("groups/waves", "Waves of prompts of the episode; 0 where generation never stops.", "waves"),
    *_SCORING,
    Metric("workers/alive", "Rollout workers that are ready.", "workers", "`rollout.workers`"),
    Metric("workers/restarts", "Rollout workers that were replaced since the start.", "workers", "0"),
    Metric("loss", "The loss. Its value says little in RL; its gradient is what counts.", "", "near 0"),
    Metric(
        "entropy",
        "Mean entropy of the policy at the tokens of the responses.",
        "nats per token",
        "falls slowly; near 0 the policy has stopped exploring",
        fixed=True,
    ),
    Metric(
        "reference/k1",
        "Mean over the tokens of log(policy / start weights), a plain estimate of the KL from the start weights.",
        "nats per token",
        "rises slowly",
        _REFERENCE,
    ),
    Metric(
        "reference/k3",
        "The same KL by an estimate with less variance, exp(-x) - 1 + x; never negative.",
        "nats per token",
        "rises slowly; 0 at the start",
        _REFERENCE,
    ),
    Metric(
        "grad_norm",
        "Global norm of the gradient before it is clipped to `learner.grad_clip`; null where it is not finite.",
        "",
        "no sudden jump",
        fixed=True,
    ),
    Metric("learning_rate", "Learning rate of the update.", ""),
    Metric(
        "approx_kl",
        "KL from the policy at the start of the episode, estimated by r - 1 - log r.",
        "nats",
        "small; grows over the updates of an episode",
    ),
    Metric("ratio/mean", "Mean ratio of the policy to that at the start of the episode.", "", "near 1"),
    Metric("ratio/max", "Largest such ratio. GSPO: of a sequence; others: of a token.", ""),
    Metric("clip/low", "Ratios are clipped below at 1 - this; null without a clip.", "", "`algorithm.clip.low`"),
    Metric(
        "clip/high",
        "The upper clip bound: ratios are clipped above at 1 + this; null without a clip.",
        "",
        "between `algorithm.clip.low` and `algorithm.clip.high` in a mode that moves it",
        fixed=True,
    ),
    Metric(
        "clip/low_fraction",
        "Share of tokens (GSPO: of sequences) whose gradient the lower bound removed; null without a clip.",
        "share",
        "about 0.002 is common; GSPO clips far more",
        fixed=True,
    ),
    Metric(
        "clip/high_fraction",
        "Share of tokens (GSPO: of sequences) whose gradient the upper bound removed; null without a clip.",
        "share",
        "about 0.002 is common; GSPO clips far more",
        fixed=True,
    ),
    Metric("clip/dual_fraction", "Share of tokens whose loss `dual_clip` bounded.", "share", "near 0", _DUAL_CLIP),
    Metric(
        "mismatch/k3",
        "KL from the engine's distribution to the learner's, before the update, estimated by k - 1 - log k.",
        "nats per token",
        "bfloat16: below 1e-3 for dense models, a few 1e-3 for experts",
        fixed=True,
    ),
    Metric(
        "mismatch/mean_abs_dlogp",
        "Mean distance between the engine's and the learner's log-probability of a sampled token.",
        "nats",
        "in the first update at most the limit of `sync/mean_abs_dlogp`, or the run stops",
    ),
    Metric("mismatch/max_abs_dlogp", "Largest such distance.", "nats", "float32 on a CPU: about 1e-5", fixed=True),
    Metric("mismatch/p50_abs_dlogp", "Median of the same distance (upper edge of its bin).", "nats"),
    Metric("mismatch/p99_abs_dlogp", "99th percentile of the same distance (upper edge of its bin).", "nats"),
    Metric("mismatch/outside_fraction", "Share of tokens with k_t outside [0.5, 2].", "share", "near 0"),
    Metric("mismatch/k_mean", "Mean of k_t, the learner's probability divided by the engine's.", "", "near 1"),
    Metric("mismatch/k_square_mean", "Mean of k_t squared.", "", "near 1"),
    Metric("mismatch/ess", "Effective sample size: (mean of k_t)^2 / mean of k_t^2.", "share", "near 1"),
    Metric(
        "mismatch/images/<name>",
        "The same numbers (`k3`, `mean_abs_dlogp`, ...) over responses to prompts with images alone.",
        "as above",
        "like those of all responses; much more points to the image path",
        "the update has prompts with images",
    ),
    Metric("mismatch/weight_mean", "Mean importance weight of the correction.", "", "near 1", _CORRECTED),
    Metric("mismatch/capped_fraction", "Share of tokens with a lowered weight.", "share", "near 0", _CORRECTED),
    Metric("mismatch/dropped_fraction", "Share of tokens that are left out.", "share", "near 0", _CORRECTED),
    Metric(
        "sync/mean_abs_dlogp",
        "Mean difference between engine and learner on the probe's prompts, after the publish.",
        "nats",
        "in half precision at most 4 times what rounding does; the run stops above it",
        "the last update of an episode",
    ),
    Metric(
        "sync/p99_abs_dlogp",
        "99th percentile of the same difference.",
        "nats",
        "as the mean",
        "the last update of an episode",
    ),
    Metric(
        "sync/max_abs_dlogp",
        "Largest such difference.",
        "nats",
        "in float32 at most 4 times what rounding does, or `sync.probe_tolerance`; the run stops above it",
        "the last update of an episode",
    ),
    Metric("loss_scale", "Factor on the loss before the backward pass.", "", "no long fall", _FLOAT16),
    Metric("skipped", "1 where gradients overflowed and no weight changed, else 0.", "", "mostly 0", _FLOAT16),
    Metric(
        "router/load_entropy/<layer>",
        "Entropy of the experts' load in a layer (`layer_0`, ...) and its mean over layers, divided by its maximum.",
        "share",
        "near 1 is even; a fall means that fewer experts work",
        _EXPERTS,
    ),
    Metric("router/dead_experts", "Experts without a token in the update, all layers.", "experts", "0", _EXPERTS),
    Metric("router/changed_fraction", "Share of choices that replay replaced.", "share", "small", _REPLAY),
    Metric("router/balance_loss", "The load-balancing loss.", "", "near 1 is even", _BALANCED),
    Metric(
        "router/probe/load_entropy/<layer>",
        "The same entropy on a fixed set of prompts without images.",
        "share",
        "no fall",
        _PROBED_EXPERTS,
    ),
    Metric("router/probe/dead_experts", "Experts without a token there.", "experts", "no rise", _PROBED_EXPERTS),
    Metric("time/step_s", "Wall time since the line before: the sum of the six below.", "seconds", fixed=True),
    Metric("time/generate_s", "Waiting for scored responses; in an episode's first line.", "seconds", fixed=True),
    Metric("time/learn_s", "Old log-probabilities, gradients and the step.", "seconds", fixed=True),
    Metric("time/sync_s", "Publishing and the probe; in an episode's last line.", "seconds", fixed=True),
    Metric("time/eval_s", "Evaluating held-out problems; in the line after the evaluation.", "seconds"),
    Metric("time/checkpoint_s", "Writing a checkpoint; in the line after it.", "seconds"),
    Metric("time/other_s", "Everything else.", "seconds", "small"),
    Metric(
        "time/update_s",
        "Mean wall time of an update over the last updates, as many as an episode has; evaluations and checkpoints are "
        "left out. It is what the progress display shows as `step`.",
        "seconds",
        "steady",
    ),
    Metric(
        "tokens/trained_per_s",
        "Response tokens of the same updates per second of the same time: the speed of whole episodes.",
        "tokens per second",
        "steady",
        fixed=True,
    ),
)
"""Lines of ``kind: rlvr``, one per update."""

EVAL_METRICS = (
    Metric("step", "Updates before the evaluation; 0 before the first.", "updates", fixed=True),
    Metric(
        "eval/accuracy",
        "Share of responses that are right: the part that `rewards.accuracy` names gave a full 1. Responses without a "
        "score are left out.",
        "share",
        "rises",
        fixed=True,
    ),
    Metric("eval/response_tokens", "Mean length of the responses.", "tokens", fixed=True),
    Metric("eval/unscored", "Responses without a score; they are left out of the accuracy.", "responses", "0"),
    Metric("eval/reward/<name>", "Mean score of one reward, partial credit included.", "", "depends on the reward"),
    *(replace(metric, key=f"eval/{metric.key}") for metric in _SCORING),
)
"""Lines of ``kind: rlvr``, one per evaluation on held-out problems."""

_AS_IN_RL = (
    "entropy",
    "loss_scale",
    "skipped",
    "router/load_entropy/<layer>",
    "router/dead_experts",
    "router/balance_loss",
)
SFT_METRICS = (
    Metric("step", "Number of the optimizer step; 1 is the first.", "steps", fixed=True),
    Metric("loss", "The loss as `training.loss_reduction` defines it.", "nats", "falls", fixed=True),
    Metric("nll", "Mean negative log-likelihood of a response token.", "nats per token", "falls", fixed=True),
    Metric("learning_rate", "Learning rate of the step.", "", fixed=True),
    Metric("grad_norm", "Global norm of the gradient before it is clipped.", "", "steady", fixed=True),
    Metric("tokens", "Response tokens in the step.", "tokens", fixed=True),
    Metric("time/step_s", "Wall time since the line before.", "seconds"),
    Metric("time/update_s", "Mean wall time of a step over the last 16.", "seconds", "steady"),
    Metric("tokens/trained_per_s", "Response tokens of the same steps per second.", "tokens per second", "steady"),
    *(metric for metric in UPDATE_METRICS if metric.key in _AS_IN_RL),
)
"""Lines of ``kind: sft``, one per optimizer step."""


def fixed_keys(metrics: tuple[Metric, ...]) -> tuple[str, ...]:
    """The keys that every line has and that scripts rely on."""
    return tuple(metric.key for metric in metrics if metric.fixed)
