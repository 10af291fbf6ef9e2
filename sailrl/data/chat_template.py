"""The model's chat template: messages in, text out, and every text that went in is looked for in what came out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sailrl.config.schema import PLAIN
from sailrl.data.messages import plain_content
from sailrl.errors import ConfigError, DataError
from sailrl.types import Message, content_texts

OURS = ("messages", "add_generation_prompt", "continue_final_message", "tokenize", "chat_template", "return_dict")
"""Arguments of a template that a configuration cannot set."""
_PLAIN_TEXT = (
    "{% for message in messages %}{{ message.content if message.content is string else "
    "raise_exception('plain prompts have no images') }}{% endfor %}"
)
_PROBE = "What is it?"
_SHOWN = 60


def read_template(path: str) -> str:
    """The text of a file with a chat template, or of the one called ``plain``.

    Raises:
        ConfigError: it cannot be read.
    """
    if path == PLAIN:
        return _PLAIN_TEXT
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"data.chat_template: cannot read {path}: {error}. Name a file with a Jinja template."
        ) from None


class ChatTemplate:
    """Renders chats.

    Args:
        owner: the tokenizer or processor that has the template.
        name: of the model, for errors.
        args: what the template gets besides the messages, e.g. ``{"enable_thinking": False}``.
        only_text: the model takes no images; its template may know text only as plain text.
        system: a system message will stand before every chat.

    Raises:
        ConfigError: there is no template, it cannot be rendered, it reads no such argument, it has no generation prompt
            or no system role where one is needed.
    """

    def __init__(
        self, owner: Any, name: str, *, args: Mapping[str, Any], only_text: bool, system: bool = False
    ) -> None:
        self._owner, self._name, self._args, self._only_text = owner, name, dict(args), only_text
        self._check_there()
        self._check_args()
        probe: Message = {"role": "user", "content": _PROBE}
        try:
            text = self._apply([probe])
        except Exception as error:  # Jinja's errors, and whatever a template's own code raises
            raise ConfigError(f"the chat template of {name} cannot be rendered: {error}. {_OTHER}") from None
        before, self.after_turn = self._around_turn(probe, text)
        """What the template writes behind a response."""
        self.turn_marks = [
            token for token in _tokenizer(owner).all_special_tokens if token in text or token in self.after_turn
        ]
        """Control tokens that the template writes around turns."""
        if before.strip() and self._apply([probe], generation_prompt=False) == text:
            raise ConfigError(
                f"the chat template of {name} has no generation prompt: it writes {before!r} in front of a response, "
                "but not at the end of a prompt. Add it there under {% if add_generation_prompt %}, in a file that "
                "data.chat_template names."
            )
        if system:
            self._check_system(probe)

    def render(self, messages: Sequence[Message], name: str) -> str:
        """The chat as text, up to where the model goes on; one placeholder per image.

        Args:
            name: of the problem, for errors.

        Raises:
            DataError: the template refuses the messages, or leaves out a text of theirs.
        """
        if self._only_text:
            messages = [plain_content(message) for message in messages]
        try:
            text = self._apply(messages)
        except Exception as error:
            raise DataError(f"problem {name}: the chat template refuses its messages: {error}") from None
        lost = _lost(messages, text)
        if lost is not None:
            role, missing = lost
            raise DataError(
                f"problem {name}: the chat template of {self._name} leaves out the text {missing!r} of the {role}. "
                f"The model would not see it. {_OTHER}"
            )
        return text

    def _apply(self, messages: Sequence[Message], *, generation_prompt: bool = True) -> str:
        return str(
            self._owner.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation_prompt, **self._args
            )
        )

    def _check_there(self) -> None:
        if not self._owner.chat_template:
            raise ConfigError(
                f"the model {self._name} has no chat template, so no prompt can be put to it. Name a file with one, "
                "data.chat_template: FILE.jinja, or write data.chat_template: plain for prompts as they are."
            )

    def _check_args(self) -> None:
        template = self._owner.chat_template
        text = template if isinstance(template, str) else "\n".join(map(str, template.values()))
        for name in self._args:
            if name in OURS:
                raise ConfigError(f"data.template_args: {name} is set by sailrl itself. Remove it.")
            if not re.search(rf"\b{re.escape(name)}\b", text):
                raise ConfigError(
                    f"data.template_args: the chat template of {self._name} does not read {name!r}, so it would change "
                    "nothing. Correct the name, or remove it."
                )

    def _around_turn(self, probe: Message, prompt: str) -> tuple[str, str]:
        """What is written between ``prompt`` and a response to ``probe``, and behind the response; nothing where the
        template knows no response."""
        said = "It is this."
        try:
            whole = self._apply([probe, {"role": "assistant", "content": said}], generation_prompt=False)
        except Exception:
            return "", ""
        before, _, after = whole.rpartition(said)
        return before.removeprefix(prompt) if before.startswith(prompt) else "", after

    def _check_system(self, probe: Message) -> None:
        text = "Be exact and brief."
        try:
            there = text in self._apply([{"role": "system", "content": text}, probe])
            why = "leaves it out"
        except Exception as error:
            there, why = False, f"says: {error}"
        if not there:
            raise ConfigError(
                f"data.system_prompt is set, but the chat template of {self._name} has no system role ({why}). "
                f"Remove it and put the text into data.instruction. Or: {_OTHER}"
            )


_OTHER = "Name another template in data.chat_template."


def _tokenizer(owner: Any) -> Any:
    return getattr(owner, "tokenizer", owner)


def _lost(messages: Sequence[Message], rendered: str) -> tuple[str, str] | None:
    """Role and beginning of the first text that is not in what was rendered, white space apart."""
    squeezed = None
    for message in messages:
        for text in content_texts(message["content"]):
            if message["role"] == "assistant":  # templates cut the thoughts out of earlier turns
                text = text.rpartition("</think>")[2]
            if text.strip() in rendered:
                continue
            squeezed = squeezed or "".join(rendered.split())
            if "".join(text.split()) not in squeezed and json.dumps(text)[1:-1] not in rendered:
                return message["role"], " ".join(text.split())[:_SHOWN]
    return None
