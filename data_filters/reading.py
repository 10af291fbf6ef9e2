"""What the filters read from a row: the text of its question, its fingerprint, the length of a text.

A row is a mapping with the fields of a problem file; see :class:`sailrl.types.Problem`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sailrl.errors import DataError
from sailrl.types import Filter, ImageSource, Score, Verdict, content_texts

Row: TypeAlias = Mapping[str, Any]

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNIT = re.compile(f"[{CJK}]|[^\\s{CJK}]+")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of one row in a filter that also changes rows."""

    row: Row | None
    """The converted row, the row as it was, or None when it is dropped."""
    verdict: Verdict


def units(text: str) -> list[str]:
    """Words, and single characters in scripts that write no spaces. What every length is counted in without a
    tokenizer."""
    return text.split() if text.isascii() else _UNIT.findall(text)


def count_units(text: str) -> int:
    """``len(units(text))``."""
    return len(units(text))


def normalise(text: str) -> str:
    """The same text for two typings of it: full-width forms, case and white space do not matter, everything else
    does."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def prompt_text(row: Row) -> str:
    """The question as text: the prompt itself, or the text of its user messages. System messages are not the question.

    Raises:
        DataError: the row has no usable prompt.
    """
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, Mapping)):
        turns = [message.get("content") for message in prompt if message.get("role") == "user"]
        return "\n".join(text for content in turns for text in content_texts(content))
    raise DataError(
        f"row {row.get('id', '')!r}: prompt is {type(prompt).__name__}. The rule: a string or a list of chat messages."
    )


def question_key(row: Row, images: Literal["bytes", "path"] = "bytes") -> str:
    """Fingerprint of (question, images): 32 hex digits of the normalised text, the options and every image in order.

    ``images="path"`` compares image paths instead of the files' bytes: no reading, but a copy under another name
    differs.
    """
    digest = hashlib.blake2b(normalise(prompt_text(row)).encode(), digest_size=16)
    for choice in row.get("choices") or ():
        digest.update(b"\x00choice:" + normalise(str(choice)).encode())
    for image in row.get("images") or ():
        by_path = images == "path" and isinstance(image, str)
        digest.update(b"\x00image:" + (image.encode() if by_path else image_digest(image)))
    return digest.hexdigest()


def problem_key(row: Row) -> str:
    """The problem a rollout belongs to: ``problem_id``, else ``id``, else the question itself."""
    return str(row.get("problem_id") or row.get("id") or question_key(row))


def score_value(row: Row, name: str) -> float | None:
    """The value of a named score of a scored row ("reward" is the row's total); None when it was not scored.

    Raises:
        DataError: the row has no such score; the message lists those it has.
    """
    if name == "reward" and "reward" in row:
        return row["reward"]
    scores = row.get("scores") or {}
    if name not in scores:
        raise DataError(
            f"row {problem_key(row)!r} has no score {name!r}; it has {', '.join(map(repr, scores)) or 'none'}. "
            "Score it with that reward first, or name another."
        )
    score = scores[name]
    return score.value if isinstance(score, Score) else score["value"]


def first_refusal(filters: Iterable[Filter], row: Row) -> Verdict | None:
    """The verdict of the first filter that drops the row; None when all keep it."""
    verdicts = (check(row) for check in filters)
    return next((verdict for verdict in verdicts if not verdict.keep), None)


def text_key(text: str) -> str:
    """Fingerprint of a text as it stands, 32 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def image_digest(image: ImageSource) -> bytes:
    """Fingerprint of an image file's bytes.

    Raises:
        DataError: the file cannot be read.
    """
    return _file_digest(image) if isinstance(image, str) else hashlib.blake2b(image, digest_size=16).digest()


@lru_cache(maxsize=65536)
def _file_digest(path: str) -> bytes:
    return hashlib.blake2b(image_bytes(path), digest_size=16).digest()


def image_bytes(image: ImageSource) -> bytes:
    """The encoded bytes of an image given as path or bytes.

    Raises:
        DataError: the file cannot be read.
    """
    if not isinstance(image, str):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"image {image!r} cannot be read: {error.strerror}. Paths must be absolute by now.") from error
