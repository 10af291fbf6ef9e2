"""The text that a judge reads: the parts of a response, in fields that the text itself cannot close."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass

from rewards.answers.extract import CLOSE, OPEN, can_be_seen, end_of_turn
from sailrl.types import Message, Problem, content_text

# Servers turn these strings into control tokens wherever they stand, so a response that writes them could open a turn
# of its own or claim an image that is not there. A blank after the first character makes them plain text.
_CONTROL = re.compile(
    r"<(?=[|\uff5c])|(?<=[|\uff5c])>|"
    r"<(?=/?(?:s|bos|eos|pad|unk|img|image|video|IMG_CONTEXT|start_of_turn|end_of_turn|start_of_image|end_of_image)>)|"
    r"\[(?=/?(?:INST|SYSTEM_PROMPT|IMG|IMG_BREAK|IMG_END)\])|<(?=</?SYS>>)"
)
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ResponseParts:
    """A response in the recipe's own form: ``<judge>...</judge><think>...</think>answer``."""

    judgment: str
    """Inside ``<judge>``; empty when there is no such block."""
    thinking: str
    """Between the first ``<think>`` and the last ``</think>``; empty when the model did not think."""
    answer: str | None
    """After the thinking, or everything where there is none. None when a ``<think>`` never closes: then the model was
    still thinking when it stopped, and nothing it wrote is its answer."""


def split_response(response: str, problem: Problem) -> ResponseParts:
    """Takes a response apart in linear time, ``response_prefix`` counted as part of it. Where the answer begins is the
    same for a judge as for a rule."""
    text = problem.response_prefix + response[: end_of_turn(response)]
    first_open, first_close, last_close = text.find(OPEN), text.find(CLOSE), text.rfind(CLOSE)
    first_tag = min((at for at in (first_open, first_close) if at >= 0), default=len(text))
    judgment, after_judgment = "", 0
    opened, closed = text.find("<judge>"), text.find("</judge>")
    if 0 <= opened < closed < first_tag:
        judgment = text[opened + len("<judge>") : closed].strip()
        after_judgment = closed + len("</judge>")
    start = first_open + len(OPEN) if first_open == first_tag else after_judgment
    if text.rfind(OPEN) > last_close:
        return ResponseParts(judgment, _trimmed(text[start:]), None)
    if last_close < 0:
        return ResponseParts(judgment, "", _trimmed(text[after_judgment:]))
    return ResponseParts(judgment, _trimmed(text[start:last_close]), _trimmed(text[last_close + len(CLOSE) :]))


def _trimmed(text: str) -> str:
    """Without white space around it; empty when nothing in it can be seen, or zero-width characters would count as
    thinking."""
    return text.strip() if can_be_seen(text) else ""


def question_text(problem: Problem) -> str:
    """The prompt as plain text: a string as it stands, chat messages one after the other under their roles."""
    if isinstance(problem.prompt, str):
        return problem.prompt
    if len(problem.prompt) == 1:
        return _shown(problem.prompt[0])
    return "\n\n".join(f"{turn.get('role', '?')}: {_shown(turn)}" for turn in problem.prompt)


def _shown(message: Message) -> str:
    return content_text(message.get("content"), between="\n", mark="[{}]")


def field(name: str, text: str, max_chars: int) -> str:
    """``text`` between a BEGIN and an END line that share a tag which does not occur in it.

    The tag is taken from the hash of the text: a text would have to contain its own hash to close the field, and then
    the next hash is taken. The same text always gets the same tag, so equal requests are equal to the byte. Verdicts
    are then reproducible, and the cache and the server's prefix cache work for all responses of a group.
    """
    text = plain(shorten(text, max_chars))
    tag = free_tag(text)
    return f"[BEGIN {name} {tag}]\n{text}\n[END {name} {tag}]"


def free_tag(text: str, digits: int = 12) -> str:
    """Hexadecimal digits from the hash of ``text`` that do not occur in it."""
    body = text.encode()
    tags = (hashlib.sha256(b"%d " % guess + body).hexdigest()[:digits] for guess in itertools.count())
    return next(tag for tag in tags if tag not in text)


def shorten(text: str, max_chars: int) -> str:
    """Keeps the beginning and the end, where problems are set up and answers are given, and says what it left out."""
    if len(text) <= max_chars:
        return text
    head = max_chars // 2
    tail = max_chars - head
    return f"{text[:head]}\n[... {len(text) - max_chars} characters left out ...]\n{text[-tail:]}"


def plain(text: str) -> str:
    """Text that means nothing to a chat template or a tokenizer: control tokens broken up, control characters and lone
    surrogates replaced."""
    return UNPRINTABLE.sub("\ufffd", _CONTROL.sub(lambda found: _apart(found.group()), text))


def _apart(character: str) -> str:
    """``<|im_end|>`` becomes ``< |im_end| >``: the same to a reader, nothing to a tokenizer."""
    return f" {character}" if character == ">" else f"{character} "
