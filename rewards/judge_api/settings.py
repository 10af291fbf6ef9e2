"""The settings of a judge's endpoint: one frozen record that can be pickled, compared and printed."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sailrl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """Every judging reward takes these as keyword arguments. The API key is not among them: only the name of the
    environment variable that holds it, so no dump, error, cache file or pickle can contain it.
    """

    base_url: str
    """Root of an OpenAI-compatible API, e.g. ``http://127.0.0.1:8000/v1``."""
    model: str
    """Name of the model, as the endpoint knows it."""
    api_key_env: str | None = None
    """Environment variable with the API key; None for an endpoint without a key, such as your own vLLM server."""
    timeout_s: float = 60.0
    """Longest wait for one HTTP request."""
    deadline_s: float = 180.0
    """Longest time for one verdict with all its retries, counted from when it leaves the queue."""
    max_concurrency: int = 32
    """Requests under way at once; all others queue."""
    max_retries: int = 4
    """Further attempts after a rate limit (429), a server error (5xx), a timeout or a broken connection."""
    backoff_s: float = 0.5
    """Wait before the first retry. It doubles with each one and is shortened by up to half at random, so that
    calls that failed together do not come back together. A longer ``Retry-After`` of the server wins."""
    max_backoff_s: float = 20.0
    """Longest wait before a retry."""
    breaker_failures: int = 10
    """Calls in a row that failed for good before the endpoint counts as down."""
    breaker_cooldown_s: float = 30.0
    """How long calls then fail at once, before a single one may try again."""
    cache_dir: str | None = None
    """Folder for verdicts, shared by any number of processes and runs; None keeps them in memory. A verdict is kept
    under the name of the model: a server that gets other weights under the same name needs another folder."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_verdict_tokens: int = 1024
    """Room for the judge's reply, its own reasoning included."""
    max_response_chars: int = 20_000
    """How much of a field the judge reads. Longer texts keep their beginning and their end."""
    max_image_bytes: int = 8 * 2**20
    """Larger image files are scaled down before they are sent."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """More fields for the request body, e.g. ``{"chat_template_kwargs": {"enable_thinking": false}}``."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.username or url.password or url.query:
            # The URL itself is left out of the message: it may hold a key.
            raise ConfigError(
                "judge: base_url carries a user, a password or a query. Keys belong in an environment variable: "
                "base_url=https://HOST/v1 and api_key_env=NAME."
            )
        try:
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:  # a port beyond 65535
            usable = False
        if not usable:
            raise ConfigError(
                f"judge: base_url is {self.base_url!r}, but it must be an http or https address such as "
                "http://127.0.0.1:8000/v1."
            )
        if not self.model:
            raise ConfigError("judge: model is empty. Name the model as the endpoint's /models lists it.")
        at_least: dict[str, float] = {"max_retries": 0, "temperature": 0, "backoff_s": 0, "max_backoff_s": 0}
        at_least |= {"max_concurrency": 1, "breaker_failures": 1, "max_verdict_tokens": 1, "max_response_chars": 100}
        for name, lowest in at_least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"judge: {name} is {getattr(self, name)}, but it must be at least {lowest:g}.")
        for name in ("timeout_s", "deadline_s", "breaker_cooldown_s", "max_image_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"judge: {name} is {getattr(self, name)}, but it must be positive.")
        if self.api_key_env is not None and self.api_key() is None:
            raise ConfigError(
                f"judge: api_key_env names the environment variable {self.api_key_env!r}, which is not set, or holds "
                "something that cannot be a key. Export it before starting, or leave api_key_env out for an endpoint "
                "without a key."
            )

    def api_key(self) -> str | None:
        """The key, read from the environment at each call and never stored; None when there is none that fits into an
        HTTP header.

        A key with a line break or beyond ASCII is refused here, because HTTP libraries quote such a header in their
        error messages.
        """
        key = os.environ.get(self.api_key_env or "", "").strip()
        return key if key and key.isascii() and key.isprintable() else None

    @classmethod
    def of(cls, **settings: Any) -> JudgeSettings:
        """The settings from keyword arguments as they stand in a YAML file.

        Raises:
            ConfigError: one is unknown, has a wrong value, or is missing.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
                raise ConfigError(f"judge: there is no setting {name!r}. {hint}")
        for name in ("base_url", "model"):
            if name not in settings:
                raise ConfigError(f"judge: {name} is missing. A judge needs base_url and model.")
        return cls(**settings)

    def key(self) -> str:
        """Equal for equal settings; hashable although ``extra_body`` is a mapping."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
