"""The only place where a problem becomes tokens: chat template, image placeholders, length limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sailrl.config.schema import PromptConfig
from sailrl.data.fields import BrokenRow
from sailrl.data.images import ImageStore
from sailrl.data.messages import add_text, choices_are_unseen, listed_choices, split_marks, with_marks
from sailrl.data.processor import Processor
from sailrl.data.videos import as_images
from sailrl.errors import DataError
from sailrl.types import ImageSource, Message, Problem, Prompt, content_texts

_SHOWN = 60
"""Characters of an instruction that are printed."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Prompts, and the problems that could not become one."""

    prompts: list[Prompt]
    too_long: list[Problem] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    """Why, with the problem's id."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a problem did not become a prompt."""

    reason: Literal["too_long", "unusable"]
    detail: str
    prompt_tokens: int | None = None
    """Length of a prompt that is too long."""


class Template:
    """Renders problems with the model's own tokenizer, chat template and image processor."""

    def __init__(
        self, processor: Processor, images: ImageStore, data: PromptConfig, *, images_per_prompt: int | None = None
    ) -> None:
        self._processor, self._images, self._data = processor, images, data
        self._images_per_prompt = images_per_prompt

    def render(self, problem: Problem) -> Prompt:
        """The prompt of one problem, whatever its length.

        Raises:
            DataError: an image cannot be used, there are more images than the engine takes, images or videos and places
                for them differ in number, or a text contains a placeholder of the model.
        """
        problem, names = as_images(problem, self._data.frames_per_video)
        if problem.images and self._processor.image_id is None:
            raise DataError(
                f"problem {problem.id} has {len(problem.images)} images, and this model takes none. Use a "
                "vision-language model, or leave them out with `ignore: [images]` under the source"
            )
        limit = self._images_per_prompt
        if limit is not None and len(problem.images) > limit:
            raise DataError(
                f"problem {problem.id} has {len(problem.images)} images, the engine takes {limit} per prompt. "
                f"Set rollout.engine.images_per_prompt to {len(problem.images)} or more"
                + (", or data.frames_per_video lower" if any(name.startswith("videos") for name in names) else "")
            )
        text = self.text(problem)
        # Rewards must know what the template has already written of the response.
        problem = replace(problem, response_prefix=problem.response_prefix or _opened(text))
        images = [self._add(problem, image, name) for image, name in zip(problem.images, names, strict=True)]
        engine_ids = self._processor.encode(text)
        token_ids = self._processor.expand(engine_ids, [self._images.size(i) for i in images], problem.id)
        return Prompt(problem=problem, token_ids=token_ids, engine_ids=engine_ids, images=tuple(images))

    def text(self, problem: Problem) -> str:
        """The rendered chat, up to where the model goes on, with one placeholder per image.

        Raises:
            DataError: a text of the problem contains a placeholder of the model.
        """
        problem, _ = as_images(problem, self._data.frames_per_video)
        messages = self._messages(problem)
        self._refuse_control_tokens(problem, messages)
        text = self._processor.chat.render(messages, problem.id)
        return text if text.endswith(problem.response_prefix) else text + problem.response_prefix

    def instruction_note(self, problem: Problem, name: str = "data.instruction") -> str:
        """By how many tokens the instruction, which is set under ``name``, makes the prompt of a problem longer."""
        bare = Template(self._processor, self._images, self._data.model_copy(update={"instruction": ""}))
        with_it, without = (len(self._processor.encode(template.text(problem))) for template in (self, bare))
        text = self._data.instruction
        begin = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
        return f"{name} adds {with_it - without:,} tokens to each prompt: {begin}"

    def render_all(self, problems: Sequence[Problem]) -> Rendered:
        """All prompts that fit ``max_prompt_tokens``; longer ones, and those whose images cannot be used, are set
        aside or refused, as configured.

        Raises:
            DataError: a prompt is too long and ``on_long_prompt`` is ``error``, an image is unusable and
                ``on_bad_row`` is ``error``, or no prompt is left.
        """
        rendered = Rendered([])
        for problem in problems:
            prompt = self.admit(problem)
            if isinstance(prompt, Prompt):
                rendered.prompts.append(prompt)
            elif prompt.reason == "too_long":
                rendered.too_long.append(problem)
            else:
                rendered.unusable.append(prompt.detail)
        if not rendered.prompts:
            raise DataError(
                f"none of {len(problems)} problems gives a prompt of at most data.max_prompt_tokens = "
                f"{self._data.max_prompt_tokens} tokens ({len(rendered.too_long)} too long, {len(rendered.unusable)} "
                "with unusable images)."
            )
        return rendered

    def admit(self, problem: Problem) -> Prompt | Refused:
        """The prompt of one problem that fits ``max_prompt_tokens``, or why there is none.

        Raises:
            DataError: there is none, and the configuration says that this is an error.
        """
        limit = self._data.max_prompt_tokens
        try:
            prompt = self.render(problem)
        except DataError as error:
            if self._data.on_bad_row == "error":
                raise DataError(f"{error}. Repair it, or leave it out with data.on_bad_row=skip.") from error
            return Refused("unusable", str(error))
        tokens = len(prompt.token_ids)
        if tokens <= limit:
            return prompt
        says = f"the prompt of problem {problem.id} has {tokens} tokens, data.max_prompt_tokens is {limit}"
        if self._data.on_long_prompt == "error":
            raise DataError(f"{says}. Raise the limit, or set data.on_long_prompt: drop.")
        return Refused("too_long", says, tokens)

    def _messages(self, problem: Problem) -> list[Message]:
        try:
            prompt = with_marks(problem.prompt, len(problem.images), 0)
        except BrokenRow as broken:
            raise DataError(f"problem {problem.id}: {broken.rule}") from None
        messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if problem.images:
            messages = [{**message, "content": split_marks(message["content"])} for message in messages]
        if self._data.write_choices and choices_are_unseen(problem):
            messages[-1] = add_text(messages[-1], "\n" + listed_choices(problem.choices))
        if self._data.instruction:
            messages[-1] = add_text(messages[-1], "\n" + self._data.instruction)
        if self._data.system_prompt is not None:
            messages = [{"role": "system", "content": self._data.system_prompt}, *messages]
        return messages

    def _add(self, problem: Problem, image: ImageSource, name: str) -> str:
        try:
            return self._images.add(image)
        except DataError as error:
            raise DataError(f"problem {problem.id}: {name}: {error}") from error

    def _refuse_control_tokens(self, problem: Problem, messages: Sequence[Message]) -> None:
        """A control token in a text would act as one; escaping it would change what was asked."""
        texts = [text for message in messages for text in content_texts(message["content"])]
        for tokens, what in (
            (self._processor.placeholders, "this model reads as pixels of an image"),
            (
                self._processor.chat.turn_marks,
                "the chat template writes around turns; text that was rendered already has it",
            ),
        ):
            for token in tokens:
                if any(token in text for text in (*texts, problem.response_prefix)):
                    raise DataError(
                        f"problem {problem.id}: a text contains `{token}`, which {what}. Take it out, or write it "
                        "differently"
                    )


def _opened(text: str) -> str:
    """What the rendered prompt has already written of the response: a thinking tag left open at its very end."""
    stripped = text.rstrip()
    return text[len(stripped) - len("<think>") :] if stripped.endswith("<think>") else ""
