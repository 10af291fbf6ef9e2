"""The `algorithm:` section: a tagged union with one class per algorithm, each with its own defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sailrl.config.base import Section


class AsymmetricClip(Section):
    """A fixed lower and upper clip (DAPO's clip-higher, section 3.1)."""

    mode: Literal["asymmetric"] = "asymmetric"
    """Fixed bounds."""
    low: float = Field(default=0.20, gt=0, lt=1)
    """The ratio is clipped below at 1 - low."""
    high: float = Field(default=0.28, gt=0)
    """The ratio is clipped above at 1 + high."""


ClipConfig = AsymmetricClip


class Dapo(Section):
    """DAPO (arXiv 2503.14476): token-level clipped policy gradient, clip-higher, no KL term, no value model."""

    name: Literal["dapo"] = "dapo"
    """The algorithm."""
    clip: ClipConfig = AsymmetricClip()
    """The clip range; SAIL-VL2 gives [0.20, 0.28], most likely DAPO's two bounds."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Upper bound on the loss of tokens with a negative advantage, as a multiple of the advantage; null is off."""
    normalize_std: bool = True
    """Divide advantages by the standard deviation of their group (false is Dr. GRPO's choice)."""


class TokenTis(Section):
    """Token-level truncated importance sampling between the learner and the engine: min(k_t, cap)."""

    kind: Literal["token_tis"] = "token_tis"
    """The correction."""
    cap: float = Field(default=2.0, gt=0)
    """Largest weight a token may have."""


class NoCorrection(Section):
    """Trust the engine's log-probabilities; the mismatch is still measured."""

    kind: Literal["none"] = "none"
    """The correction."""


Algorithm = Dapo
Correction = Annotated[TokenTis | NoCorrection, Field(discriminator="kind")]


class MismatchConfig(Section):
    """What is done about the engine's and the learner's log-probabilities differing."""

    correction: Correction = TokenTis()
    """Importance weights that correct the difference."""
    max_abs_dlogp: float | None = Field(default=None, gt=0)
    """Stop when any token's log-probabilities differ by more than this many nats; null only measures."""

