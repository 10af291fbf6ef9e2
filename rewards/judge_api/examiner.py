"""What the judging rewards have in common: an endpoint, and the way from a problem and a prompt to a verdict."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from rewards.judge_api.client import JudgeClient, Unanswered
from rewards.judge_api.images import JudgeImage, UnusableImage, load_image
from rewards.judge_api.prompts import JudgePrompt
from rewards.judge_api.settings import JudgeSettings
from rewards.judge_api.text import question_text
from rewards.judge_api.verdict import Verdict
from sailrl.types import Problem

_TO_DO = {
    "unreachable": "Start its server, or correct base_url",
    "timeout": "Raise timeout_s, or lower max_concurrency",
    "http_401": "Name the environment variable that holds its key as api_key_env",
    "http_404": "Correct base_url, which for most servers ends in /v1, or the name of the model",
    "not_a_reply": "Correct base_url: what answers there is no chat API",
}
"""By reason, what most likely helps."""


class Examiner:
    """Asks the judge of one endpoint. Examiners with equal settings share one client."""

    def __init__(self, **settings: Any) -> None:
        self.settings = JudgeSettings.of(**settings)
        self.client = JudgeClient.shared(self.settings)

    async def examine(
        self, prompt: JudgePrompt, problem: Problem | None, fields: Mapping[str, str]
    ) -> Verdict | Unanswered:
        """Asks about ``fields``, preceded by the images and the question of ``problem`` where one is given."""
        images: tuple[JudgeImage, ...] = ()
        shown: dict[str, str] = {}
        if problem is not None:
            try:
                images = await self._images(problem)
            except UnusableImage as unusable:
                return Unanswered(unusable.reason, "unscorable")
            shown = _question(problem)
        return await self.client.ask(
            prompt.inquiry({**shown, **fields}, images, max_chars=self.settings.max_response_chars)
        )

    async def _images(self, problem: Problem) -> tuple[JudgeImage, ...]:
        """Loads the images in a thread: files may be on a network, and large images are encoded again."""
        if problem.videos:  # in training they have become images; in a file of responses they are still videos
            raise UnusableImage("video_not_shown")
        if not problem.images:
            return ()
        limit = self.settings.max_image_bytes
        return await asyncio.to_thread(lambda: tuple(load_image(source, limit) for source in problem.images))


class AsksJudge:
    """What asks one judge; subclasses say what."""

    def __init__(self, base_url: str, model: str, **settings: Any) -> None:
        """Args:
        base_url: root of an OpenAI-compatible API, e.g. ``http://127.0.0.1:8000/v1``.
        model: name of the model, as the endpoint knows it.
        **settings: the other fields of ``rewards.judge_api.settings.JudgeSettings``: ``api_key_env``, ``timeout_s``,
            ``deadline_s``, ``max_concurrency``, ``max_retries``, ``cache_dir``, ``max_response_chars``, ...
        """
        self.examiner = Examiner(base_url=base_url, model=model, **settings)

    @property
    def deadline_s(self) -> float:
        """No limit for the caller to set: the client limits each call itself, and waiting in its queue does not
        count."""
        return math.inf

    def failure(self, reason: str) -> str:
        """Which judge a failed score is about, and what to do, for the line that is said of it."""
        settings = self.examiner.settings
        todo = _TO_DO.get(reason)
        return f"asked {settings.model} at {settings.base_url}{f'. {todo}' if todo else ''}"

    def metrics(self) -> dict[str, float]:
        """Calls, retries, cache hits, tokens and latencies of the endpoint, shared with all rewards that ask it."""
        return self.examiner.client.metrics()

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self.examiner.client.aclose()


def _question(problem: Problem) -> dict[str, str]:
    fields = {}
    question = question_text(problem).strip()
    if question:
        fields["QUESTION"] = question
    if problem.choices:
        fields["CHOICES"] = "\n".join(f"{chr(ord('A') + n)}. {text}" for n, text in enumerate(problem.choices))
    return fields
