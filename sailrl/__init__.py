"""sailrl: reinforcement-learning post-training for vision-language reasoning models."""

__version__ = "0.1.0"
