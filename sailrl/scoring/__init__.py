"""Runs rewards on responses, for training and for ``sailrl score``. See ``scorer.Scorer``.

What a reward may have besides ``__call__(response, problem) -> Score``, each found by its name:

* ``fast(response, problem) -> Score | None``: asked first, in the caller's process; None means "ask ``__call__``";
* a keyword ``response_tokens`` on either: receives the length of the response in tokens;
* ``warm_up()``: called once in each worker before its first response (slow imports);
* ``explain(response, problem) -> list[str]``: the decision path in words, for ``sailrl score --explain``;
* for async rewards ``deadline_s`` (seconds for one response), ``metrics() -> dict[str, float]`` and ``aclose()``.
"""

from sailrl.scoring.scorer import Scored, Scorer, ScoreRequest
from sailrl.scoring.spec import PartSpec, ScoringSpec

__all__ = ["PartSpec", "ScoreRequest", "Scored", "Scorer", "ScoringSpec"]
