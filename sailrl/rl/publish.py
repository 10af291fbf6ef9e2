"""Publishes the learner's weights to the engines and proves that they compute the same with them."""

from __future__ import annotations

from sailrl.errors import WeightSyncError
from sailrl.rl.diagnosis import explained
from sailrl.rl.session import Session
from sailrl.sync.probe import Disagreement


async def publish(run: Session, version: int) -> dict[str, float]:
    """Gives the engines the learner's weights as ``version``.

    Returns:
        How far engines and learner are apart on the probe prompts, as metrics.

    Raises:
        WeightSyncError: they are further apart than rounding explains; the message names the cause where one is found.
    """
    await run.wake("weights")
    await run.sync.publish(version)
    await run.wake("kv_cache")
    run.state.version = version
    try:
        found = await run.probe.check(version)
    except Disagreement as error:
        raise WeightSyncError(f"{error}\n{await explained(run, error)}") from None
    return found.metrics()
