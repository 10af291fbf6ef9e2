"""Every error a user can meet: what is wrong, with both numbers and the place; the rule; one fix."""

from __future__ import annotations

import re


class SailError(Exception):
    """Base of all errors with a message meant for the user; the CLI prints it without a traceback and exits with 2.

    All subclasses take one string, so they pickle and cross process borders (Ray, worker pipes) unharmed.
    """


class ConfigError(SailError):
    """The configuration is wrong, in itself or against the model and the data."""


class DataError(SailError):
    """A file, a row or an image cannot be used."""


class RewardError(SailError):
    """A reward cannot be loaded, or too many responses could not be scored."""


class RolloutError(SailError):
    """An engine could not start, died or did not answer in time."""


class WorkerDied(RolloutError):
    """A rollout worker is gone, or no longer to be trusted. It is replaced; where it cannot be, the run restarts."""


class WeightSyncError(SailError):
    """The engine does not hold the weights that were published."""


class MismatchError(SailError):
    """Engine and learner disagree on the probabilities of what was sampled, past a configured threshold."""


class LearnerError(SailError):
    """A learner rank failed, or a number that must be finite is not."""


class LearnerDied(LearnerError):
    """A learner rank is gone or hangs. The run restarts from its last checkpoint."""


class CheckpointError(SailError):
    """A checkpoint cannot be written, read, or does not belong to this run."""


def memory_kill(message: str) -> str:
    """Ray's message that it ended a process because the machine's memory was full, as one sentence.

    Args:
        message: of ``ray.exceptions.OutOfMemoryError``; Ray 2.60 has the numbers in it.
    """
    machine = re.search(r"was ([\d.]+)GB used / ([\d.]+)GB", message)
    process = re.search(r"Selected to kill.*?actual memory used=([\d.]+)GB", message)
    full = f": {machine[1]} of {machine[2]} GB were used" if machine else ""
    own = f", {process[1]} GB of them by this process" if machine and process else ""
    return f"Ray ended it because the machine's memory was full{full}{own}."


class Fault(Exception):
    """An error that nothing expected: a fault in sailrl or in a plug-in. The CLI prints its text and exits with 1; the
    text names the file that has the traceback."""
