"""The `algorithm:` and `mismatch:` sections: tagged unions with one class per algorithm, clip rule and correction, each
with its own defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sailrl.config.base import Section

GSPO_CLIP_SCALE = 1e-2
"""A clip of GSPO above this never binds: its sequence ratio stays within about 1 +- 1e-3."""


class ClipBounds(Section):
    """Ratios are clipped to [1 - low, 1 + high]; the modes differ in how the bounds move from episode to episode."""

    mode: Literal["adaptive", "asymmetric", "symmetric", "schedule"]
    """The rule."""
    low: float = Field(default=0.20, gt=0, lt=1)
    """Ratios are clipped below at 1 - low. In a mode that moves a bound, low is also the least that it becomes."""
    high: float = Field(default=0.28, gt=0)
    """Ratios are clipped above at 1 + high. In a mode that moves a bound, high is also the most that it becomes."""


class AsymmetricClip(ClipBounds):
    """Fixed bounds: DAPO's clip-higher (arXiv 2503.14476, section 3.1), most likely what the papers' range means."""

    mode: Literal["asymmetric"] = "asymmetric"
    """Both bounds stay."""


class SteeredClip(ClipBounds):
    """A bound that follows a signal of the run, once per episode.

    SAIL-VL2 (section 4.2.3) and SAIL-RL say that the clip is "dynamically adjusted within the range of [0.20, 0.28]" to
    encourage exploration, and give no rule. This one is ours: entropy (smoothed) below its target widens the range,
    entropy above it narrows it, and within a dead band nothing moves. A run starts at the upper end, which is DAPO's.
    """

    signal: Literal["entropy", "clip_fraction", "approx_kl"] = "entropy"
    """The signal that moves the bound: entropy in nats, the share of tokens that are clipped above, or the KL from the
    old policy in nats."""
    target: float | None = Field(default=None, gt=0)
    """The value that the signal is held at. Null is allowed for entropy only: `target_share` times its mean over the
    first episodes."""
    target_share: float = Field(default=0.8, gt=0)
    """The target as a share of the mean entropy of the first episodes, where `target` is null."""
    baseline_episodes: int = Field(default=10, ge=1)
    """Episodes whose mean sets the target where `target` is null; the bound does not move before they are over."""
    dead_band: float = Field(default=0.05, ge=0, lt=1)
    """Relative distance from the target within which the bound does not move, so that it does not follow noise."""
    ema: float = Field(default=0.9, ge=0, lt=1)
    """Weight of the earlier episodes in the smoothed signal; 0 does not smooth."""
    step: float | None = Field(default=None, gt=0)
    """How far the bound moves in an episode; null is a quarter of high - low."""
    start: float | None = Field(default=None, gt=0)
    """Where the bound starts; null is `high`."""


class AdaptiveClip(SteeredClip):
    """The lower bound stays at `low`, the upper one moves between `low` and `high`."""

    mode: Literal["adaptive"] = "adaptive"
    """The upper bound follows the signal."""


class SymmetricClip(SteeredClip):
    """One moving number on both sides: the literal reading of SAIL-RL's "clipping value eps"."""

    mode: Literal["symmetric"] = "symmetric"
    """Both bounds follow the signal together."""


class ScheduleClip(ClipBounds):
    """The lower bound stays at `low`, the upper one moves on a straight line from `start` to `end`."""

    mode: Literal["schedule"] = "schedule"
    """The upper bound follows the episode number."""
    start: float | None = Field(default=None, gt=0)
    """Where the ramp starts; null is `low`."""
    end: float | None = Field(default=None, gt=0)
    """Where the ramp ends; null is `high`."""
    schedule_episodes: int = Field(default=100, ge=1)
    """Episodes that the ramp takes. Default: `batch.episodes`."""


class GspoScale(Section):
    """The ends of GSPO's range."""

    low: float = Field(default=3e-4, gt=0, lt=1)
    """Sequence ratios are clipped below at 1 - low. In a mode that moves a bound, low is also the least that it
    becomes."""
    high: float = Field(default=4e-4, gt=0)
    """Sequence ratios are clipped above at 1 + high. In a mode that moves a bound, high is also the most that it
    becomes."""


class GspoAsymmetricClip(GspoScale, AsymmetricClip):
    """GSPO's own bounds (arXiv 2507.18071, section 5.1)."""


class GspoAdaptiveClip(GspoScale, AdaptiveClip):
    """The adaptive rule on GSPO's scale: [0.20, 0.28] would never clip a sequence ratio."""


class GspoSymmetricClip(GspoScale, SymmetricClip):
    """One moving number on both sides, on GSPO's scale."""


class GspoScheduleClip(GspoScale, ScheduleClip):
    """A ramp on GSPO's scale."""


class PpoClip(AsymmetricClip):
    """The same fixed bound on both sides, as before DAPO."""

    high: float = Field(default=0.20, gt=0)
    """Ratios are clipped above at 1 + high."""


class CispoClip(AsymmetricClip):
    """Bounds of CISPO's importance weight (arXiv 2506.13585)."""

    low: float = Field(default=1.0, gt=0, le=1)
    """The weight is clipped below at 1 - low; 1.0 sets no bound, as in the paper."""
    high: float = Field(default=4.0, gt=0)
    """The weight is clipped above at 1 + high; 4.0 is the upper bound of 5 that others write."""


Clip = Annotated[AdaptiveClip | AsymmetricClip | SymmetricClip | ScheduleClip, Field(discriminator="mode")]
PlainClip = Annotated[AdaptiveClip | PpoClip | SymmetricClip | ScheduleClip, Field(discriminator="mode")]
GspoClip = Annotated[
    GspoAdaptiveClip | GspoAsymmetricClip | GspoSymmetricClip | GspoScheduleClip, Field(discriminator="mode")
]


class GroupAlgorithm(Section):
    """What all algorithms have: advantages within a group."""

    name: str
    """The algorithm."""
    normalize_std: bool = True
    """Divide advantages by the standard deviation of their group."""
    normalize_each: bool = False
    """GDPO (arXiv 2601.05242): normalise each reward by itself within its group, sum them with their weights, then
    normalise over the episode. For recipes with several rewards of which one is rare."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the KL from the start weights, a mean over the tokens of an update; 0 is off (1e-3 to 0.04 are common).
    Takes one more forward pass and, without LoRA, a second copy of the weights."""
    kl_estimator: Literal["k2", "k3"] = "k3"
    """`k3` as in GRPO; `k2` has the gradient of a penalty on the reward of each token."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of the mean entropy, which the loss subtracts; 0 is off. Above about 1e-2 a policy may turn to noise."""

    @property
    def needs_every_response(self) -> bool:
        """Whether a response teaches something without an advantage, too."""
        return self.kl_coef > 0 or self.entropy_coef > 0


class SequenceAlgorithm(GroupAlgorithm):
    """What both forms of GSPO have: one ratio per response."""

    clip: GspoClip = GspoAdaptiveClip()
    """The clip range of the sequence ratio, about a hundredth of the range of a token's ratio."""


class Dapo(GroupAlgorithm):
    """DAPO (arXiv 2503.14476): token-level clipped policy gradient, clip-higher, no KL term, no value model."""

    name: Literal["dapo"] = "dapo"
    """The algorithm."""
    clip: Clip = AdaptiveClip()
    """The clip range; SAIL-VL2 gives [0.20, 0.28], the ends of which are DAPO's two bounds."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Upper bound on the loss of tokens with a negative advantage, as a multiple of the advantage; null is off."""


class Gspo(SequenceAlgorithm):
    """GSPO (arXiv 2507.18071): one length-normalised ratio per response; SAIL-VL2's choice for mixture-of-experts."""

    name: Literal["gspo"] = "gspo"
    """The algorithm."""


class GspoToken(SequenceAlgorithm):
    """GSPO-token (arXiv 2507.18071, Eq. 13): GSPO's ratio, with advantages and corrections acting on each token."""

    name: Literal["gspo_token"] = "gspo_token"
    """The algorithm."""


class Grpo(GroupAlgorithm):
    """GRPO (arXiv 2402.03300) without its KL term: a mean over each response's tokens, then over responses."""

    name: Literal["grpo"] = "grpo"
    """The algorithm."""
    clip: PlainClip = PpoClip()
    """The clip range."""


class DrGrpo(GroupAlgorithm):
    """Dr. GRPO (arXiv 2503.20783): a sum over tokens over a constant, and no division by the standard deviation."""

    name: Literal["dr_grpo"] = "dr_grpo"
    """The algorithm."""
    clip: PlainClip = PpoClip()
    """The clip range."""
    normalize_std: bool = False
    """Divide advantages by the standard deviation of their group."""


class Cispo(GroupAlgorithm):
    """CISPO (arXiv 2506.13585): clips the importance weight, so that no token loses its gradient."""

    name: Literal["cispo"] = "cispo"
    """The algorithm."""
    clip: CispoClip = CispoClip()
    """Bounds of the importance weight."""


class Sapo(GroupAlgorithm):
    """SAPO (arXiv 2511.20347): a soft gate in place of the clip."""

    name: Literal["sapo"] = "sapo"
    """The algorithm."""
    tau_pos: float = Field(default=1.0, gt=0)
    """How fast the gradient fades with the ratio where the advantage is positive."""
    tau_neg: float = Field(default=1.05, gt=0)
    """How fast the gradient fades with the ratio where the advantage is negative."""


class Vespo(GroupAlgorithm):
    """VESPO (arXiv 2602.10693): a smooth weight on the ratio of the whole response in place of a clip."""

    name: Literal["vespo"] = "vespo"
    """The algorithm."""
    k_pos: float = Field(default=2.0, gt=0)
    """How fast the weight falls for responses that became less likely, where the advantage is positive."""
    lambda_pos: float = Field(default=3.0, gt=0)
    """How fast the weight falls for responses that became more likely, where the advantage is positive."""
    k_neg: float = Field(default=3.0, gt=0)
    """As `k_pos`, where the advantage is negative."""
    lambda_neg: float = Field(default=2.0, gt=0)
    """As `lambda_pos`, where the advantage is negative."""


Algorithm = Annotated[Dapo | Gspo | GspoToken | Grpo | DrGrpo | Cispo | Sapo | Vespo, Field(discriminator="name")]


class NoCorrection(Section):
    """Trust the engine's log-probabilities; the mismatch is still measured."""

    kind: Literal["none"] = "none"
    """The correction."""


class TokenTis(Section):
    """Token-level truncated importance sampling between the learner and the engine: min(k_t, cap)."""

    kind: Literal["token_tis"] = "token_tis"
    """The correction."""
    cap: float = Field(default=2.0, gt=0)
    """Largest weight a token may have."""


class IcePop(Section):
    """Weight k_t inside a range and 0 outside (arXiv 2510.18855): tokens on which both sides disagree are left out."""

    kind: Literal["icepop"] = "icepop"
    """The correction."""
    low: float = Field(default=0.5, ge=0, lt=1)
    """Tokens with a smaller weight are dropped."""
    high: float = Field(default=5.0, gt=1)
    """Tokens with a larger weight are dropped."""


class SequenceMask(Section):
    """Leaves out responses whose product of k_t is outside a range. Rounding alone takes long responses outside."""

    kind: Literal["sequence_mask"] = "sequence_mask"
    """The correction."""
    low: float = Field(default=0.0, ge=0, lt=1)
    """Smallest product that is kept."""
    high: float = Field(default=3.0, gt=1)
    """Largest product that is kept."""


class GeometricMask(Section):
    """Leaves out responses whose geometric mean of k_t is outside a range; this does not depend on their length."""

    kind: Literal["geometric_mask"] = "geometric_mask"
    """The correction."""
    low: float = Field(default=0.99, ge=0, lt=1)
    """Smallest geometric mean that is kept (published values go up to 0.999)."""
    high: float = Field(default=1.01, gt=1)
    """Largest geometric mean that is kept (published values go down to 1.001)."""


Correction = Annotated[
    NoCorrection | TokenTis | IcePop | SequenceMask | GeometricMask,
    Field(discriminator="kind"),
]


class MismatchConfig(Section):
    """What happens where engine and learner give a token different probabilities; k_t is the learner's (of the old
    policy) divided by the engine's."""

    correction: Correction = TokenTis()
    """The importance weights that correct the difference. Default with GSPO: `icepop`, since a token's weight would
    move a response further than GSPO's clip lets the policy move it."""
    veto_below: float | None = Field(default=None, gt=0, lt=1)
    """Leave out a response with any k_t below this (1e-4 is common); null leaves none out."""
    max_abs_dlogp: float | None = Field(default=None, gt=0)
    """Stop before learning from an update when the log-probabilities of any token differ by more; null never stops."""
    max_k3: float | None = Field(default=None, gt=0)
    """Stop before learning from an update when the mean KL between engine and learner is more; null never stops.
    Usual values in bfloat16: below 1e-3 for dense models, a few 1e-3 for experts."""
    action: Literal["stop", "pause"] = "stop"
    """`stop` leaves the last checkpoint as it is, `pause` saves one first; either way a diagnosis is printed and the
    same command resumes."""
