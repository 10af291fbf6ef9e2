"""The only place where a problem becomes tokens: chat template, image placeholders, length limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sailrl.config.schema import DataConfig
from sailrl.errors import DataError
from sailrl.types import Message, Problem, Prompt

IMAGE_MARK = "<image>"
"""Where a plain-text prompt wants its next image."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Prompts, and the problems that did not fit."""

    prompts: list[Prompt]
    too_long: list[Problem] = field(default_factory=list)


class Template:
    """Renders problems with the model's own tokenizer and chat template."""

    def __init__(self, tokenizer: Any, data: DataConfig) -> None:
        self._tokenizer, self._data = tokenizer, data

    def render(self, problem: Problem) -> Prompt:
        """The prompt of one problem, whatever its length."""
        text = self._tokenizer.apply_chat_template(self._messages(problem), tokenize=False, add_generation_prompt=True)
        if not text.endswith(problem.response_prefix):
            text += problem.response_prefix
        # Rewards must know what the template has already written of the response.
        problem = replace(problem, response_prefix=problem.response_prefix or _opened(text))
        ids = self._tokenizer(text, add_special_tokens=False).input_ids
        return Prompt(problem=problem, token_ids=ids, engine_ids=ids)

    def render_all(self, problems: Sequence[Problem]) -> Rendered:
        """All prompts that fit ``max_prompt_tokens``; longer ones are set aside or refused, as configured.

        Raises:
            DataError: a prompt is too long and ``on_long_prompt`` is ``error``, or none fits.
        """
        limit, rendered = self._data.max_prompt_tokens, Rendered([])
        for problem in problems:
            prompt = self.render(problem)
            if len(prompt.token_ids) <= limit:
                rendered.prompts.append(prompt)
            elif self._data.on_long_prompt == "drop":
                rendered.too_long.append(problem)
            else:
                raise DataError(
                    f"the prompt of problem {problem.id} has {len(prompt.token_ids)} tokens, data.max_prompt_tokens is "
                    f"{limit}. Raise the limit, or set data.on_long_prompt: drop."
                )
        if not rendered.prompts:
            raise DataError(
                f"none of {len(problems)} prompts fits data.max_prompt_tokens = {limit}; "
                "raise the limit or look at the instruction and the chat template."
            )
        return rendered

    def _messages(self, problem: Problem) -> list[Message]:
        if isinstance(problem.prompt, str):
            messages: list[Message] = [{"role": "user", "content": problem.prompt}]
        else:
            messages = list(problem.prompt)
        if self._data.instruction:
            messages = [*messages[:-1], _with_text(messages[-1], "\n" + self._data.instruction)]
        if self._data.system_prompt is not None:
            messages = [{"role": "system", "content": self._data.system_prompt}, *messages]
        return messages


def _with_text(message: Message, text: str) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + text}
    return {**message, "content": [*content, {"type": "text", "text": text}]}


def _opened(text: str) -> str:
    """What the rendered prompt has already written of the response: a thinking tag left open at its very end."""
    stripped = text.rstrip()
    return text[len(stripped) - len("<think>") :] if stripped.endswith("<think>") else ""
