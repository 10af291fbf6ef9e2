"""Soft overlong punishment: DAPO (arXiv 2503.14476), equation 13. A penalty in [-1, 0], added to the other rewards."""

from __future__ import annotations

from sailrl.errors import ConfigError
from sailrl.types import Problem, Score


class SoftOverlong:
    """Punishes responses that come close to the length limit, linearly from 0 to -1 over the last ``buffer_tokens``.

    With ``L = max_response_tokens`` and ``B = buffer_tokens``, a response of ``y`` tokens gets

        0                   when y <= L - B
        ((L - B) - y) / B   when L - B < y <= L
        -1                  when y > L

    DAPO adds it with weight 1 to an answer reward of +1 or -1; for rewards in {0, 1} a weight of 0.5 keeps the same
    proportion between being right and being short.
    """

    def __init__(self, max_response_tokens: int, buffer_tokens: int) -> None:
        """Args:
            max_response_tokens: the longest response the engine may write (``L``). DAPO: 20480.
            buffer_tokens: how many tokens before that limit the punishment starts (``B``). DAPO: 4096, a fifth of L.

        Raises:
            ConfigError: a buffer that is not positive, or that covers the whole response.
        """
        if buffer_tokens < 1:
            raise ConfigError(
                f"overlong: buffer_tokens is {buffer_tokens}, but the punishment needs at least 1 token to grow in. "
                f"A fifth of max_response_tokens is {max(1, max_response_tokens // 5)}."
            )
        if buffer_tokens >= max_response_tokens:
            raise ConfigError(
                f"overlong: buffer_tokens is {buffer_tokens} and max_response_tokens is {max_response_tokens}, which "
                "would punish every token. The buffer must be shorter than the response; "
                f"DAPO's proportion is a fifth: buffer_tokens={max(1, max_response_tokens // 5)}."
            )
        self.max_response_tokens = max_response_tokens
        self.buffer_tokens = buffer_tokens

    def __call__(self, response: str, problem: Problem, *, response_tokens: int | None = None) -> Score:
        """Scores by length alone. Without a token count (scoring text off line) there is nothing to go by."""
        if response_tokens is None:
            return Score(None, "unscorable", "no_token_count")
        free = self.max_response_tokens - self.buffer_tokens
        if response_tokens <= free:
            return Score(0.0, reason="within")
        if response_tokens <= self.max_response_tokens:
            return Score((free - response_tokens) / self.buffer_tokens, reason="in_buffer")
        return Score(-1.0, reason="too_long")

    fast = __call__  # three comparisons: no need for a worker
