"""The contract of a problem row, field by field. Training, filtering and scoring read rows through this one door."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from sailrl.data.fields import BrokenRow, kind_of, list_in_text, refuse_half_characters
from sailrl.data.messages import check_has_question, parse_prompt, with_marks
from sailrl.data.pictures import image_source
from sailrl.data.videos import parse_video
from sailrl.errors import DataError
from sailrl.types import ImageSource, Message, Problem, Video

_PUT_TO_A_MODEL = ("prompt", "answer", "id", "response_prefix", "choices", "task")
"""Fields whose texts a tokenizer or a file must take."""


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
    prompt, pictures = _prompt(fields, need_prompt)
    if pictures and fields.get("images"):
        raise BrokenRow("images", "are given twice: the prompt's parts of type image have pictures of their own")
    images = _images(pictures or fields.get("images", ()), folder, must_exist=need_prompt)
    videos = _videos(fields, folder, must_exist=need_prompt)
    if need_prompt:
        marked = with_marks(prompt, len(images), len(videos))
        prompt = prompt if isinstance(prompt, str) else marked  # of a text, the template puts them in front
        check_has_question(marked)
        for name in _PUT_TO_A_MODEL:
            refuse_half_characters(fields.get(name), name)
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


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BrokenRow(name, f"must be text, this is {kind_of(value)}")
    return value


def _prompt(fields: Mapping[str, Any], needed: bool) -> tuple[str | list[Message], list[Any]]:
    value = fields.get("prompt")
    if value is not None:
        return parse_prompt(value)
    if needed:
        raise BrokenRow("prompt", f"is missing; the row has {', '.join(map(str, fields)) or 'nothing'}")
    return "", []


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
    if isinstance(value, str):
        value = list_in_text(value) or value
    if isinstance(value, Mapping):  # by letter, or as ARC has them: texts and their letters
        by_letter = [value[letter] for letter in sorted(value) if value[letter] is not None]
        value = value.get("text", by_letter)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        wrong = value if not isinstance(value, list | tuple) else next(i for i in value if not isinstance(i, str))
        raise BrokenRow("choices", f"must be a list of text, this is or holds {kind_of(wrong)}")
    return tuple(value)


def _precision(fields: Mapping[str, Any]) -> int | None:
    value = fields.get("precision")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with gaps hold whole numbers as floats
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)  # and others all values as text
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


# --- images and videos -----------------------------------------------------------------------------------------------


def _images(value: Any, folder: Path | None, must_exist: bool) -> tuple[ImageSource, ...]:
    if not isinstance(value, list | tuple):
        raise BrokenRow("images", f"must be a list of paths or bytes, this is {kind_of(value)}")
    return tuple(image_source(image, f"images[{i}]", folder, must_exist) for i, image in enumerate(value))


def _videos(fields: Mapping[str, Any], folder: Path | None, must_exist: bool) -> tuple[Video, ...]:
    value = fields.get("videos", ())
    if not isinstance(value, list | tuple):
        raise BrokenRow("videos", f"must be a list of videos, each a list of frames, this is {kind_of(value)}")
    videos = []
    for number, video in enumerate(value):
        place = f"videos[{number}]"

        def read(image: Any, frame: str, place: str = place) -> ImageSource:
            return image_source(image, f"{place} {frame}", folder, must_exist)

        try:
            videos.append(parse_video(video, read))
        except ValueError as error:
            raise BrokenRow(place, str(error)) from None
    return tuple(videos)
