"""The contract of a problem row, field by field. Training, filtering and scoring read rows through this one door."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from sailrl.data.videos import IMAGE_MARK, VIDEO_MARK, parse_video
from sailrl.errors import DataError
from sailrl.types import ImageSource, Message, Problem, Video

_ROLES = ("system", "user", "assistant", "tool")


class BrokenRow(Exception):
    """A row breaks a rule of the contract."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(field, rule)
        self.field = field
        """The field, or empty when the row as a whole is at fault."""
        self.rule = rule


def problem_from_row(row: Any, *, where: str, need_prompt: bool, folder: Path | None = None) -> Problem:
    """Checks one row and returns it as a record; see ``parse_problem``.

    Raises:
        DataError: a field breaks a rule.
    """
    try:
        return parse_problem(row, where=where, need_prompt=need_prompt, folder=folder)
    except BrokenRow as broken:
        field = f"{broken.field}: " if broken.field else ""
        raise DataError(f"{where}: {field}{broken.rule}.") from None


def parse_problem(row: Any, *, where: str, need_prompt: bool, folder: Path | None = None) -> Problem:
    """Checks one row and returns it as a record. Fields the contract does not name are left alone.

    Args:
        where: ``<file>:<line>``; becomes the id when the row has none.
        need_prompt: the row will be put to a model: it needs a prompt, and its images and videos must exist and fit the
            prompt's marks. Scoring a response needs neither.
        folder: what relative image paths start from: the folder of the file.

    Raises:
        BrokenRow: a field breaks a rule.
    """
    if not isinstance(row, Mapping):
        raise BrokenRow("", f"a row is an object with named fields, this is {kind_of(row)}")
    # Parquet has a value for every column in every row: null means that the field is not there.
    fields = {name: value for name, value in row.items() if value is not None}
    prompt = _prompt(fields, need_prompt)
    images = _images(fields, folder, must_exist=need_prompt)
    videos = _videos(fields, folder, must_exist=need_prompt)
    if need_prompt:
        _check_marks(prompt, "image", IMAGE_MARK, len(images))
        _check_marks(prompt, "video", VIDEO_MARK, len(videos))
    return Problem(
        prompt=prompt,
        answer=_answer(fields),
        id=_id(fields, where),
        response_prefix=_text(fields, "response_prefix") or "",
        images=images,
        videos=videos,
        choices=_choices(fields),
        precision=_precision(fields),
        task=_text(fields, "task"),
        meta=_meta(fields),
    )


def kind_of(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    for kind, name in ((str, "text"), (bytes, "bytes"), (Mapping, "an object")):
        if isinstance(value, kind):
            return name
    return "a list" if isinstance(value, Sequence) else f"a {type(value).__name__}"


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BrokenRow(name, f"must be text, this is {kind_of(value)}")
    return value


def _id(fields: Mapping[str, Any], where: str) -> str:
    value = fields.get("id", where)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BrokenRow("id", f"must be text or a whole number, this is {kind_of(value)}")
    if value == "":
        raise BrokenRow("id", "is empty; leave it out and the row is named after its line")
    return str(value)


def _answer(fields: Mapping[str, Any]) -> Any:
    value = fields.get("answer")
    if isinstance(value, list | tuple):
        return [_list_item(item) for item in value]
    return None if value is None else _one_answer(value, "must be text, a number, true or false, or a list of these")


def _list_item(value: Any) -> Any:
    if isinstance(value, list | tuple):  # several boxes: a list of lists of coordinates
        return [_list_item(item) for item in value]
    return _one_answer(value, "as a list must hold text, numbers, true and false only")


def _one_answer(value: Any, rule: str) -> str | int | float | bool:
    """``value`` as JSON could hold it: Parquet also has decimals, dates and times, which become text."""
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, Decimal) and not value.is_finite()
    ):
        raise BrokenRow("answer", f"must be finite, this is {value}")
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Decimal):
        text = f"{value:f}"  # the zeros at the end come from the type of the column
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    if isinstance(value, datetime.date | datetime.time):
        return str(value)
    raise BrokenRow("answer", f"{rule}, this is {kind_of(value)}")


def _choices(fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = fields.get("choices", ())
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        wrong = value if not isinstance(value, list | tuple) else next(i for i in value if not isinstance(i, str))
        raise BrokenRow("choices", f"must be a list of text, this is or holds {kind_of(wrong)}")
    return tuple(value)


def _precision(fields: Mapping[str, Any]) -> int | None:
    value = fields.get("precision")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with gaps hold whole numbers as floats
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise BrokenRow("precision", f"must be a whole number of decimals, this is {kind_of(value)}")
    if value is not None and value < 0:
        raise BrokenRow("precision", f"must be at least 0, this is {value}")
    return value


def _meta(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    value = fields.get("meta", {})
    if not isinstance(value, Mapping):
        raise BrokenRow("meta", f"must be an object, this is {kind_of(value)}")
    return value


# --- prompt --------------------------------------------------------------------------------------------------------


def _prompt(fields: Mapping[str, Any], needed: bool) -> str | list[Message]:
    value = fields.get("prompt")
    if value is None:
        if needed:
            raise BrokenRow("prompt", f"is missing; the row has {', '.join(map(str, fields)) or 'nothing'}")
        return ""
    if isinstance(value, str):
        if needed and not value.strip():
            raise BrokenRow("prompt", "is empty")
        return value
    if not isinstance(value, list | tuple):
        raise BrokenRow("prompt", f"must be text or a list of chat messages, this is {kind_of(value)}")
    messages = [_message(message, f"prompt[{i}]") for i, message in enumerate(value)]
    if needed and (not messages or messages[-1]["role"] not in ("user", "tool")):
        last = f"it ends with the {messages[-1]['role']}'s" if messages else "it has none"
        raise BrokenRow("prompt", f"as a chat must end with a message to answer (the user's), but {last}")
    return messages


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, Mapping):
        raise BrokenRow(place, f"must be an object with role and content, this is {kind_of(message)}")
    message = {name: value for name, value in message.items() if value is not None}
    if message.get("role") not in _ROLES:
        raise BrokenRow(f"{place}.role", f"must be one of {', '.join(_ROLES)}, this is {message.get('role')!r}")
    content = message.get("content")
    if isinstance(content, list | tuple):
        message["content"] = [_part(part, f"{place}.content[{i}]") for i, part in enumerate(content)]
    elif not isinstance(content, str):
        raise BrokenRow(f"{place}.content", f"must be text or a list of parts, this is {kind_of(content)}")
    return message


def _part(part: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(part, Mapping):
        raise BrokenRow(place, f"must be an object with a type, this is {kind_of(part)}")
    part = {name: value for name, value in part.items() if value is not None}
    kind = part.get("type")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise BrokenRow(f"{place}.text", f"must be text, this is {kind_of(part.get('text'))}")
    elif kind not in ("image", "video"):
        raise BrokenRow(f"{place}.type", f"must be text, image or video, this is {kind!r}")
    elif set(part) != {"type"}:
        extra = ", ".join(sorted(set(part) - {"type"}))
        raise BrokenRow(
            place, f"a part of type {kind} is just a mark, but it has {extra}; the {kind} goes into `{kind}s`"
        )
    return part


# --- images and videos -----------------------------------------------------------------------------------------------


def _images(fields: Mapping[str, Any], folder: Path | None, must_exist: bool) -> tuple[ImageSource, ...]:
    value = fields.get("images", ())
    if not isinstance(value, list | tuple):
        raise BrokenRow("images", f"must be a list of paths or bytes, this is {kind_of(value)}")
    return tuple(_image(image, f"images[{i}]", folder, must_exist) for i, image in enumerate(value))


def _image(image: Any, place: str, folder: Path | None, must_exist: bool) -> ImageSource:
    if isinstance(image, Mapping):  # how the datasets library stores an image in Parquet
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes) and image:
        return image
    if not isinstance(image, str) or not image:
        raise BrokenRow(place, f"must be a path or the bytes of an image file, this is {_emptiness(image)}")
    if "://" in image:
        raise BrokenRow(place, f"{image!r} is an address; images are files, nothing is downloaded")
    path = (folder or Path()).absolute() / image
    if must_exist and not path.is_file():
        raise BrokenRow(place, f"there is no file {path}; paths are relative to the file of the row")
    return str(path)


def _videos(fields: Mapping[str, Any], folder: Path | None, must_exist: bool) -> tuple[Video, ...]:
    value = fields.get("videos", ())
    if not isinstance(value, list | tuple):
        raise BrokenRow("videos", f"must be a list of videos, each a list of frames, this is {kind_of(value)}")
    videos = []
    for number, video in enumerate(value):
        place = f"videos[{number}]"

        def read(image: Any, frame: str, place: str = place) -> ImageSource:
            return _image(image, f"{place} {frame}", folder, must_exist)

        try:
            videos.append(parse_video(video, read))
        except ValueError as error:
            raise BrokenRow(place, str(error)) from None
    return tuple(videos)


def _emptiness(value: Any) -> str:
    return "empty" if value in ("", b"") else kind_of(value)


def _check_marks(prompt: str | Sequence[Message], kind: str, mark: str, given: int) -> None:
    marks = _count_marks(prompt, kind, mark)
    if marks == given or (marks == 0 and isinstance(prompt, str)):
        return  # a plain text without marks has its images and videos in front
    raise BrokenRow(
        f"{kind}s",
        f"the prompt has {marks} {kind} marks (`{mark}` or parts of type {kind}), but the row has {given} {kind}s",
    )


def _count_marks(prompt: str | Sequence[Message], kind: str, mark: str) -> int:
    if isinstance(prompt, str):
        return prompt.count(mark)
    contents = [message["content"] for message in prompt]
    texts = [content for content in contents if isinstance(content, str)]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    texts += [part["text"] for part in parts if part["type"] == "text"]
    return sum(text.count(mark) for text in texts) + sum(part["type"] == kind for part in parts)
