"""Publishes the learner's weights to the engines and proves that they arrived."""

from __future__ import annotations

from sailrl.errors import WeightSyncError
from sailrl.rl.diagnosis import diagnosis, explain_weights
from sailrl.rl.session import Session


async def publish(run: Session, version: int) -> float:
    """Gives the engines the learner's weights as ``version``.

    Returns:
        The largest difference between engine and learner log-probabilities that the probe found, in nats.

    Raises:
        WeightSyncError: the probe found more than its tolerance; the message names the likely cause.
    """
    previous = run.sync.current
    await run.wake("weights")
    await run.sync.publish(version)
    await run.wake("kv_cache")
    run.state.version = version
    try:
        return await run.probe.check(version, previous)
    except WeightSyncError as error:
        raise WeightSyncError(f"{error}\n{diagnosis(await explain_weights(run))}") from None
