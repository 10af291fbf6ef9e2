"""Problem rows as chat: the prompt/completion form that TRL's SFTTrainer reads.

Prompt and completion are kept apart, rather than joined in one ``messages`` list, because the trainer then masks the
prompt and puts the loss on the completion alone: thought and answer for a CoT row, the answer for a direct one, which
are the two terms of equation 3 (SAIL-VL2, arXiv 2509.14033, section 4.2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_filters.reading import Row
from sailrl.errors import DataError
from sailrl.types import content_parts

IMAGE_MARK = "<image>"
"""In a plain-text prompt, the place of the next image, if the prompt marks every image; otherwise images come first."""


def prompt_messages(row: Row, instruction: str, vision: bool) -> list[dict[str, Any]]:
    """The row's prompt as chat messages, with ``instruction`` at the end of the last user turn unless it is there
    already; after a line break, as in training and evaluation, so that the model knows the question again.

    Args:
        row: a problem.
        instruction: e.g. how to think and where to put the answer; empty for none.
        vision: whether the data set has images anywhere. Then every content is a list of parts, so that all rows have
            one type; otherwise a plain string, which is what the templates of text models expect.

    Raises:
        DataError: the prompt has no user turn, or marks another number of images than the row has.
    """
    prompt = row["prompt"]
    if isinstance(prompt, str) and not vision and not row.get("images"):  # most rows of a text set, a million times
        missing = instruction and instruction not in prompt
        return [{"role": "user", "content": f"{prompt}\n{instruction}" if missing else prompt}]
    messages: list[Mapping[str, Any]] = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    )
    turns = [i for i, message in enumerate(messages) if message.get("role") == "user"]
    if not turns:
        raise DataError(f"row {row.get('id', '')!r}: the prompt has no user turn; there is nothing to answer.")
    images = len(row.get("images") or ())
    parts = [_parts(message.get("content"), images if i == turns[0] else 0) for i, message in enumerate(messages)]
    marked = sum(part["type"] == "image" for content in parts for part in content)
    if marked != images:
        raise DataError(
            f"row {row.get('id', '')!r}: the prompt has places for {marked} images and the row has {images}. "
            "Give one image part per image, or none and the images come first."
        )
    last = parts[turns[-1]]
    if instruction and not any(instruction in part.get("text", "") for part in last):
        _append_text(last, instruction)
    return [
        {"role": message["role"], "content": content if vision else "".join(part["text"] for part in content)}
        for message, content in zip(messages, parts, strict=True)
    ]


def completion_messages(response: str, vision: bool) -> list[dict[str, Any]]:
    """The assistant's turn."""
    return [{"role": "assistant", "content": [{"type": "text", "text": response}] if vision else response}]


def _parts(content: Any, images: int) -> list[dict[str, Any]]:
    if not isinstance(content, str) or not images:
        return [{"type": "image"} if part["type"] == "image" else dict(part) for part in content_parts(content)]
    pieces = content.split(IMAGE_MARK)
    if len(pieces) != images + 1:
        return [*({"type": "image"} for _ in range(images)), {"type": "text", "text": content}]
    between = [part for piece in pieces for part in ({"type": "text", "text": piece}, {"type": "image"})][:-1]
    return [part for part in between if part.get("text", IMAGE_MARK).strip()]


def _append_text(parts: list[dict[str, Any]], text: str) -> None:
    if parts and parts[-1]["type"] == "text":
        parts[-1]["text"] += f"\n{text}"
    else:
        parts.append({"type": "text", "text": f"\n{text}"})
