"""The only place where a problem becomes tokens: chat template, image placeholders, length limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sailrl.config.schema import DataConfig
from sailrl.data.contract import IMAGE_MARK
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.errors import DataError
from sailrl.types import Message, Problem, Prompt


@dataclass(frozen=True, slots=True)
class Rendered:
    """Prompts, and the problems that could not become one."""

    prompts: list[Prompt]
    too_long: list[Problem] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    """Why, with the problem's id."""


class Template:
    """Renders problems with the model's own tokenizer, chat template and image processor."""

    def __init__(self, processor: Processor, images: ImageStore, data: DataConfig) -> None:
        self._processor, self._images, self._data = processor, images, data

    def render(self, problem: Problem) -> Prompt:
        """The prompt of one problem, whatever its length.

        Raises:
            DataError: an image cannot be used, or images and places for them differ in number.
        """
        text = self._processor.render(self._messages(problem))
        if not text.endswith(problem.response_prefix):
            text += problem.response_prefix
        # Rewards must know what the template has already written of the response.
        problem = replace(problem, response_prefix=problem.response_prefix or _opened(text))
        try:
            images = [self._images.add(source) for source in problem.images]
        except DataError as error:
            raise DataError(f"problem {problem.id}: {error}") from error
        engine_ids = self._processor.encode(text)
        token_ids = self._processor.expand(engine_ids, [self._images.size(i) for i in images], problem.id)
        return Prompt(problem=problem, token_ids=token_ids, engine_ids=engine_ids, images=tuple(images))

    def render_all(self, problems: Sequence[Problem]) -> Rendered:
        """All prompts that fit ``max_prompt_tokens``; longer ones, and those whose images cannot be used, are set
        aside or refused, as configured.

        Raises:
            DataError: a prompt is too long and ``on_long_prompt`` is ``error``, an image is unusable and
                ``on_bad_row`` is ``error``, or no prompt is left.
        """
        limit, rendered = self._data.max_prompt_tokens, Rendered([])
        for problem in problems:
            try:
                prompt = self.render(problem)
            except DataError as error:
                if self._data.on_bad_row == "error":
                    raise DataError(f"{error}. Repair it, or leave it out with data.on_bad_row=skip.") from error
                rendered.unusable.append(str(error))
                continue
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
                f"none of {len(problems)} problems gives a prompt of at most data.max_prompt_tokens = {limit} tokens "
                f"({len(rendered.too_long)} too long, {len(rendered.unusable)} with unusable images)."
            )
        return rendered

    def _messages(self, problem: Problem) -> list[Message]:
        if isinstance(problem.prompt, str):
            messages: list[Message] = [{"role": "user", "content": _placed(problem.prompt, len(problem.images))}]
        else:
            messages = list(problem.prompt)
        if self._data.instruction:
            messages = [*messages[:-1], _with_text(messages[-1], "\n" + self._data.instruction)]
        if self._data.system_prompt is not None:
            messages = [{"role": "system", "content": self._data.system_prompt}, *messages]
        return messages


def _placed(text: str, images: int) -> str | list[dict[str, str]]:
    """Text with ``<image>`` marks as content parts, images first where none is marked; without images, as it is."""
    if not images:
        return text
    if IMAGE_MARK not in text:
        text = IMAGE_MARK * images + text
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(text.split(IMAGE_MARK)):
        if number:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def _with_text(message: Message, text: str) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + text}
    return {**message, "content": [*content, {"type": "text", "text": text}]}


def _opened(text: str) -> str:
    """What the rendered prompt has already written of the response: a thinking tag left open at its very end."""
    stripped = text.rstrip()
    return text[len(stripped) - len("<think>") :] if stripped.endswith("<think>") else ""
