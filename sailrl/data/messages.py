"""The one reader of prompts: text or a chat, with the places of its images and videos."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sailrl.data.columns import looks_like_pictures
from sailrl.data.fields import BrokenRow, kind_of, value_in_text
from sailrl.data.pictures import PICTURE_KEYS
from sailrl.types import Message, Part, Problem, content_parts, content_texts

ChatPrompt: TypeAlias = str | Sequence[Message]
IMAGE_MARK, VIDEO_MARK = "<image>", "<video>"
"""In a text, stand for the next image or video of the problem, like a part ``{"type": "image"}`` or
``{"type": "video"}`` of a chat message."""
_MARKS = re.compile(f"({IMAGE_MARK}|{VIDEO_MARK})")
_OTHER_MARKS = re.compile(
    r"<(?:image|img|video|picture)[ _-]?\d+>|<\|(?:image|video)(?:_\d+)?\|>|<image_?(?:here|placeholder)>",
    re.IGNORECASE,
)
"""Marks of other customs, which stand for nothing here."""
_MARK_LIKE = re.compile(rf"{_OTHER_MARKS.pattern}|<img>|\[(?:image|img|picture|video)[ _-]?\d*\]", re.IGNORECASE)
"""Those, and what may also be words where a row has no pictures."""
_ROLES = ("system", "user", "assistant", "tool")
_SENDERS = {"human": "user", "gpt": "assistant", "observation": "tool"}
"""ShareGPT's names of roles that are not ours."""
_CHAT_AS_TEXT = re.compile(r"""\[?\s*\{\s*['"].*\}\s*\]?""", re.DOTALL)
_CHAT_KEYS = tuple(
    re.compile(rf"""['"]{one}['"]\s*:.*['"]{two}['"]\s*:""", re.DOTALL)
    for one, two in (("role", "content"), ("content", "role"), ("from", "value"), ("value", "from"))
)


def parse_prompt(value: Any) -> tuple[str | list[Message], list[Any]]:
    """Checks the value of a row's ``prompt``.

    Returns:
        The prompt, its parts with pictures of their own as plain marks; and these pictures, in order, unchecked.

    Raises:
        BrokenRow: it is neither text nor a chat.
    """
    if isinstance(value, str):
        if not is_chat_as_text(value):
            return value, []
        value = _chat_from_text(value)
    if not isinstance(value, list | tuple):
        raise BrokenRow("prompt", f"must be text or a list of chat messages, this is {kind_of(value)}")
    pictures: list[Any] = []
    return [_message(message, f"prompt[{i}]", pictures) for i, message in enumerate(value)], pictures


def is_chat_as_text(text: str) -> bool:
    """Whether a text is a list of messages that was written as text."""
    return bool(_CHAT_AS_TEXT.fullmatch(text.strip())) and any(keys.search(text) for keys in _CHAT_KEYS)


def _chat_from_text(text: str) -> list[Any]:
    """The chat in a text that files have which went through a table."""
    chat = value_in_text(text)
    if chat is None:
        raise BrokenRow(
            "prompt", "begins like a chat that was written as text, but is neither JSON nor Python. Write the list"
        )
    return list(chat) if isinstance(chat, list | tuple) else [chat]


def without_response(prompt: Any) -> tuple[Any, str | None]:
    """A chat that ends with the assistant's message without it, and the text of that message; anything else as it is.

    Raises:
        BrokenRow: the chat was written as text, and cannot be read.
    """
    chat = _chat_from_text(prompt) if isinstance(prompt, str) and is_chat_as_text(prompt) else prompt
    last = chat[-1] if isinstance(chat, list | tuple) and chat else None
    if not isinstance(last, Mapping) or _named_as_ours(last).get("role") != "assistant":
        return prompt, None
    return list(chat[:-1]), "".join(content_texts(_named_as_ours(last).get("content")))


def _named_as_ours(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without nulls; ShareGPT's ``from`` and ``value`` as ``role`` and ``content``."""
    given = {name: value for name, value in message.items() if value is not None}
    if "role" not in given and "from" in given and "content" not in given:
        sender = given.pop("from")
        given = {"role": _SENDERS.get(sender, sender), "content": given.pop("value", None), **given}
    return given


def check_has_question(prompt: ChatPrompt) -> None:
    """Checks that there is something to answer.

    Raises:
        BrokenRow: there is not.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise BrokenRow("prompt", "is empty")
    elif not prompt or prompt[-1]["role"] not in ("user", "tool"):
        last = f"it ends with the {prompt[-1]['role']}'s" if prompt else "it has none"
        raise BrokenRow("prompt", f"as a chat must end with a message to answer (the user's), but {last}")
    elif not any(part["type"] != "text" or part["text"].strip() for part in content_parts(prompt[-1]["content"])):
        raise BrokenRow(f"prompt[{len(prompt) - 1}].content", "is empty")


def _message(message: Any, place: str, pictures: list[Any]) -> Message:
    if not isinstance(message, Mapping):
        raise BrokenRow(place, f"must be an object with role and content, this is {kind_of(message)}")
    message = _named_as_ours(message)
    if message.get("role") not in _ROLES:
        raise BrokenRow(f"{place}.role", f"must be one of {', '.join(_ROLES)}, this is {message.get('role')!r}")
    content = message.get("content")
    if isinstance(content, list | tuple):
        message["content"] = [_part(part, f"{place}.content[{i}]", pictures) for i, part in enumerate(content)]
    elif not isinstance(content, str):
        raise BrokenRow(f"{place}.content", f"must be text or a list of parts, this is {kind_of(content)}")
    _refuse_pictures(message, place)
    return message


def _part(part: Any, place: str, pictures: list[Any]) -> Part:
    if not isinstance(part, Mapping):
        raise BrokenRow(place, f"must be an object with a type, this is {kind_of(part)}")
    part = {name: value for name, value in part.items() if value is not None}
    kind = part.get("type")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise BrokenRow(f"{place}.text", f"must be text, this is {kind_of(part.get('text'))}")
        _refuse_pictures(part, place)
        return part
    if kind not in ("image", "image_url", "video"):
        raise BrokenRow(f"{place}.type", f"must be text, image or video, this is {kind!r}")
    given = set(part) - {"type"}
    if not given and kind != "image_url":
        return part
    if kind != "video" and len(given) == 1 and given <= set(PICTURE_KEYS):
        pictures.append(part[given.pop()])
        return {"type": "image"}
    extra = ", ".join(sorted(given)) or "nothing else"
    raise BrokenRow(place, f"a part of type {kind} has {extra}; it is a mark alone, or has its picture as `image`")


def _refuse_pictures(item: Mapping[str, Any], place: str) -> None:
    for name, value in item.items():
        if name not in ("role", "type", "text", "content") and looks_like_pictures(name, value):
            raise BrokenRow(f"{place}.{name}", "is a picture that nothing reads there; put it into `images`")


# --- places of images and videos -------------------------------------------------------------------------------------


def split_marks(content: Any) -> list[Part]:
    """The content of a message as parts, the marks in its texts among them."""
    return [
        piece
        for part in content_parts(content)
        for piece in (_split(part["text"]) if part["type"] == "text" else [part])
    ]


def _split(text: str) -> list[Part]:
    kinds = {IMAGE_MARK: "image", VIDEO_MARK: "video"}
    pieces = [piece for piece in _MARKS.split(text) if piece]
    return [{"type": kinds[piece]} if piece in kinds else {"type": "text", "text": piece} for piece in pieces]


def with_marks(prompt: ChatPrompt, images: int, videos: int) -> str | list[Message]:
    """A prompt that has a place for every image and video: those of a kind without any stand in front of the first
    turn of the user, images first.

    Raises:
        BrokenRow: there are places of a kind, but another number of them.
    """
    for kind, mark, given in (("video", VIDEO_MARK, videos), ("image", IMAGE_MARK, images)):
        found = _count(prompt, kind, mark)
        if not found:
            _refuse_other_marks(prompt, kind, mark, given)
        if found == given:
            continue
        if found:
            raise BrokenRow(
                f"{kind}s",
                f"the prompt has {found} {kind} marks (`{mark}` or parts of type {kind}), but the row has {given} "
                f"{kind}s",
            )
        prompt = _in_front(prompt, kind, mark, given)
    return prompt if isinstance(prompt, str) else list(prompt)


def _count(prompt: ChatPrompt, kind: str, mark: str) -> int:
    if isinstance(prompt, str):
        return prompt.count(mark)
    parts = [part for message in prompt for part in split_marks(message["content"])]
    return sum(part["type"] == kind for part in parts)


def _refuse_other_marks(prompt: ChatPrompt, kind: str, mark: str, given: int) -> None:
    """A mark of another custom would be read as words, and its picture would stand elsewhere or be missing."""
    for text in prompt_texts(prompt):
        found = (_MARK_LIKE if given else _OTHER_MARKS).search(text)
        if found and ("video" in found[0].lower()) == (kind == "video"):
            raise BrokenRow(
                "prompt",
                f"has `{found[0]}`, which would be read as words, and the row has {given} {kind}s. "
                f"Write `{mark}` where each {kind} belongs",
            )


def _in_front(prompt: ChatPrompt, kind: str, mark: str, given: int) -> ChatPrompt:
    if isinstance(prompt, str):
        return mark * given + prompt
    first = next((i for i, message in enumerate(prompt) if message["role"] == "user"), len(prompt) - 1)
    content = [*({"type": kind} for _ in range(given)), *content_parts(prompt[first]["content"])]
    return [*prompt[:first], {**prompt[first], "content": content}, *prompt[first + 1 :]]


# --- texts -----------------------------------------------------------------------------------------------------------


def prompt_texts(prompt: ChatPrompt) -> list[str]:
    """All texts of a prompt, in order."""
    if isinstance(prompt, str):
        return [prompt]
    return [text for message in prompt for text in content_texts(message["content"])]


def add_text(message: Message, text: str) -> Message:
    """The message with a text behind its own."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + text}
    return {**message, "content": [*content, {"type": "text", "text": text}]}


def plain_content(message: Message) -> Message:
    """The message with its content as one text, where it has no parts but text: what templates of text models read."""
    content = message["content"]
    if isinstance(content, str) or any(part["type"] != "text" for part in content):
        return message
    return {**message, "content": "".join(content_texts(content))}


def choices_are_unseen(problem: Problem) -> bool:
    """Whether most of the choices of a problem stand nowhere in its prompt."""
    if not problem.choices:
        return False
    text = _words("\n".join(prompt_texts(problem.prompt)))
    there = sum(_words(choice) in text for choice in problem.choices)
    return 2 * there < len(problem.choices)


def _words(text: str) -> str:
    return " ".join(text.casefold().split())


def listed_choices(choices: Sequence[str]) -> str:
    """The options of a question as a prompt shows them, ``A. ...`` on a line each."""
    return "\n".join(f"{chr(ord('A') + number)}. {choice}" for number, choice in enumerate(choices))
