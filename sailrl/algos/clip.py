"""The clip range over a run: fixed, scheduled, or steered by a signal inside [0.20, 0.28].

SAIL-VL2 (arXiv 2509.14033, section 4.2.3) and SAIL-RL (2511.02280) say that the clip is "dynamically adjusted within
the range of [0.20, 0.28]" to encourage exploration, and give no rule. DAPO's constants are the ends of that range,
0.20 below and 0.28 above. The rule here is ours: the upper bound starts at DAPO's value and follows the policy's
entropy. Entropy below target widens the range (unlikely tokens may gain more per update), entropy above narrows it.
The lower bound stays: widening it would push tokens towards probability 0 (DAPO, section 3.1). For GSPO give its own
scale, 3e-4 to 4e-4.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

Mode = Literal["asymmetric", "symmetric", "schedule", "adaptive"]
Signal = Literal["entropy", "clip_fraction", "approx_kl"]

_WIDEN_WHEN_BELOW = {"entropy": True, "clip_fraction": False, "approx_kl": True}


class ClipRange(NamedTuple):
    """Ratios are clipped to ``[1 - low, 1 + high]``."""

    low: float
    high: float


class ClipController:
    """Holds the range of the current episode; ``update`` moves it once per episode.

    Args:
        mode: ``asymmetric``: always (low, high). ``adaptive``: (low, moving). ``symmetric``: the same moving number on
            both sides (the literal reading of SAIL-RL). ``schedule``: (low, ramp from ``start`` to ``end``).
        low, high: ends of the range; in adaptive, symmetric and schedule mode the moving bound stays inside.
        signal: what ``update`` is given, averaged over all tokens and ranks of the episode: ``entropy`` in nats,
            ``clip_fraction`` (share of tokens clipped above; above target means the range is too tight) or
            ``approx_kl`` in nats (above target means steps are too large).
        target: the signal's set point. None, for entropy only: ``target_share`` times its mean over the first
            ``baseline_episodes`` episodes, during which the range rests.
        dead_band: relative; within it around the target nothing moves, so that noise does not become jitter.
        ema: weight of the past in the smoothed signal, which starts at the first value.
        step: how far a bound moves per episode; None is a quarter of ``high - low`` (0.02 for 0.20 to 0.28).
        start: first value of the moving bound; None is ``high``, and ``low`` in schedule mode.
        end, schedule_episodes: where the ramp ends, and after how many updates; None is ``high``.

    Raises:
        ValueError: numbers that contradict one another, or a signal without a target.
    """

    def __init__(
        self,
        *,
        mode: Mode = "adaptive",
        low: float = 0.20,
        high: float = 0.28,
        signal: Signal = "entropy",
        target: float | None = None,
        target_share: float = 0.8,
        baseline_episodes: int = 10,
        dead_band: float = 0.05,
        ema: float = 0.9,
        step: float | None = None,
        start: float | None = None,
        end: float | None = None,
        schedule_episodes: int = 100,
    ) -> None:
        if mode not in get_args(Mode) or signal not in get_args(Signal):
            raise ValueError(
                f"mode {mode!r} must be one of {get_args(Mode)} and signal {signal!r} of {get_args(Signal)}"
            )
        if not 0 < low <= high:
            raise ValueError(f"clip range: low is {low} and high is {high}; needed is 0 < low <= high")
        if target is None and signal != "entropy" and mode in ("adaptive", "symmetric"):
            raise ValueError(
                f"signal {signal!r} needs a target; only entropy can take one from the run's first episodes"
            )
        if not (0 <= ema < 1 and dead_band >= 0 and baseline_episodes >= 1 and schedule_episodes >= 1):
            raise ValueError(
                f"ema is {ema} (0 <= ema < 1), dead_band {dead_band} (>= 0), baseline_episodes {baseline_episodes} and "
                f"schedule_episodes {schedule_episodes} (>= 1)"
            )
        self.mode, self.low, self.high, self.signal = mode, low, high, signal
        self.target, self.target_share, self.baseline_episodes = target, target_share, baseline_episodes
        self.dead_band, self.ema = dead_band, ema
        self.step = (high - low) / 4 if step is None else step
        self.start = self._inside("start", start, low if mode == "schedule" else high)
        self.end = self._inside("end", end, high)
        self.schedule_episodes = schedule_episodes
        self._bound = high if mode == "asymmetric" else self.start
        self._episodes = 0
        self._smoothed: float | None = None
        self._baseline_sum = 0.0

    @property
    def range(self) -> ClipRange:
        """The range to use now, until the next ``update``."""
        return ClipRange(self._bound if self.mode == "symmetric" else self.low, self._bound)

    def update(self, signal: float) -> ClipRange:
        """Takes the signal of the episode that ended and returns the range of the next one.

        Deterministic, so ranks that are given the same all-reduced signal keep the same range.

        Raises:
            ValueError: the signal is not finite.
        """
        if not math.isfinite(signal):
            raise ValueError(f"the clip controller's signal ({self.signal}) is {signal}; it must be finite")
        self._episodes += 1
        if self.mode == "schedule":
            done = min(self._episodes / self.schedule_episodes, 1.0)
            self._bound = self.start + done * (self.end - self.start)
        elif self.mode in ("adaptive", "symmetric"):
            self._smoothed = signal if self._smoothed is None else self.ema * self._smoothed + (1 - self.ema) * signal
            if self._episodes <= self.baseline_episodes:
                self._baseline_sum += signal
            target = self._current_target()
            if target is not None and abs(self._smoothed - target) > self.dead_band * abs(target):
                widen = (self._smoothed < target) == _WIDEN_WHEN_BELOW[self.signal]
                self._bound = min(max(self._bound + (self.step if widen else -self.step), self.low), self.high)
        return self.range

    def state_dict(self) -> dict[str, Any]:
        """Everything ``update`` changes, for the checkpoint; JSON-serialisable."""
        return {
            "bound": self._bound,
            "episodes": self._episodes,
            "smoothed": self._smoothed,
            "baseline_sum": self._baseline_sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where ``state_dict`` was taken.

        Raises:
            ValueError: the saved bound lies outside this controller's range, which was then changed in between.
        """
        bound = self._inside("the checkpoint's bound", float(state["bound"]), self.high)
        self._bound = bound
        self._episodes = int(state["episodes"])
        self._smoothed = None if state["smoothed"] is None else float(state["smoothed"])
        self._baseline_sum = float(state["baseline_sum"])

    def _current_target(self) -> float | None:
        if self.target is not None:
            return self.target
        if self._episodes <= self.baseline_episodes:
            return None
        return self.target_share * self._baseline_sum / self.baseline_episodes

    def _inside(self, name: str, value: float | None, default: float) -> float:
        value = default if value is None else value
        if not self.low <= value <= self.high:
            raise ValueError(f"clip range: {name} is {value}, outside low {self.low} to high {self.high}")
        return value
