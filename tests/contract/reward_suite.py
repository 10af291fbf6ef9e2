"""The contract suite for rewards, one test per rule; subclass it and name your reward.

class TestMyReward(RewardSuite):
    use = "my_reward.py:MyReward"
"""

from __future__ import annotations

import asyncio
from typing import Any

from sailrl.scoring import PartSpec, Scorer, ScoreRequest, ScoringSpec
from sailrl.scoring.contract import ORDINARY, check_reward, hostile
from sailrl.types import STATUSES, Problem


class RewardSuite:
    use: str
    args: dict[str, Any] = {}  # noqa: RUF012 - subclasses replace it
    deadline_s = 1.0

    def scorer(self, workers: int = 2) -> Scorer:
        spec = ScoringSpec({"reward": PartSpec(self.use, self.args, 1.0)}, deadline_s=self.deadline_s)
        return Scorer(spec, workers=workers)

    def test_it_keeps_the_rules_for_rewards(self) -> None:
        check_reward(self.use, self.args, deadline_s=self.deadline_s)

    def test_its_scores_are_the_same_for_any_number_of_workers_and_any_caller(self) -> None:
        rows = [(i, request) for i, request in enumerate(ORDINARY)]
        with self.scorer(1) as one, self.scorer(3) as three:
            alone = [scored for _, scored in one.score_stream(iter(rows))]
            assert [scored for _, scored in three.score_stream(iter(rows))] == alone

            async def together() -> list[Any]:
                return await asyncio.gather(*(three.score(*request) for request in ORDINARY))

            assert asyncio.run(together()) == alone

    def test_hostile_rows_cost_their_own_deadline_and_their_neighbours_nothing(self) -> None:
        plain = ScoreRequest("<think>x</think>\\boxed{4}", Problem(answer="4"), 9)
        with self.scorer() as scorer:
            expected = scorer.score_now(*plain)
            for name, request in hostile():
                before = scorer._pool.calls
                score = scorer.score_now(*request).scores["reward"]
                # Each call ends at its deadline: the first, once more alone on a busy machine, and a dry run.
                assert scorer._pool.calls - before <= 3, name
                assert score.status in STATUSES, name
                assert scorer.score_now(*plain) == expected, name
