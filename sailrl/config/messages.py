"""Pydantic's findings as paragraphs for people: what is wrong, where, the rule, and what to write instead."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sailrl.config.base import Section
from sailrl.config.yaml_text import Dumper, Keys, Where, dotted, parse
from sailrl.errors import ConfigError

_NEEDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ValidationError, model: type[Section], where: Where) -> list[str]:
    """One paragraph for each thing that is wrong with a configuration of class ``model``."""
    paragraphs: dict[str, int] = {}
    for finding in error.errors(include_url=False):
        spot = _spot(model, finding["loc"])
        paragraphs[f"{where.of(spot.keys)}: {_paragraph(finding, spot, model)}"] = where.order(spot.keys)
    return sorted(paragraphs, key=paragraphs.__getitem__)


def show(value: Any) -> str:
    """A value from the file, so that text and numbers cannot be mistaken for each other."""
    if value is None:
        return "empty (null)"
    if isinstance(value, dict):
        return f"a section with the keys {', '.join(map(str, value))}" if value else "an empty section"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def line(key: str | int, value: Any) -> str:
    """``key: value`` as it is written in the file."""
    if isinstance(value, float):
        return f"`{key}: {value!r}`"  # yaml would write 1e-06 as 1.0e-06
    text = yaml.dump({key: value}, Dumper=Dumper, default_flow_style=True, width=1000)
    return f"`{text.strip()[1:-1]}`"


@dataclass(frozen=True)
class _Spot:
    """What the schema says of the place a finding points to."""

    keys: Keys
    """The way to the value as written in the file (pydantic adds the names of union members)."""
    owner: type[Section] | None = None
    """The section that the last key stands in."""
    field: FieldInfo | None = None
    alternatives: tuple[Any, ...] = ()
    """The types the value may have."""

    @property
    def doc(self) -> str:
        text = " ".join((self.field.description or "").split()) if self.field else ""
        return f" {text}" if text else ""


def _spot(model: type[Section], loc: tuple[str | int, ...]) -> _Spot:
    spot = _Spot((), alternatives=(model,))
    for element in loc:
        if len(spot.alternatives) > 1:  # pydantic names the member of the union it tried
            member = [a for a in spot.alternatives if _is_section(a) and _has_tag(a, element)]
            spot = _Spot(spot.keys, spot.owner, spot.field, tuple(member[:1]) or spot.alternatives)
            continue
        current = spot.alternatives[0] if spot.alternatives else Any
        keys = (*spot.keys, element)
        if _is_section(current):
            field = current.model_fields.get(str(element))
            spot = _Spot(keys, current, field, tuple(_members(field.annotation)) if field else ())
        else:
            arguments = [a for a in get_args(current) if a is not str and a is not Ellipsis]
            spot = _Spot(keys, None, spot.field, tuple(_members(arguments[0])) if arguments else ())
    return spot


def _members(annotation: Any) -> Iterator[Any]:
    """The types an annotation allows, without null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin is Union or origin is types.UnionType:
        for argument in get_args(annotation):
            yield from _members(argument)
    elif annotation is not types.NoneType:
        yield annotation


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _has_tag(section: type[Section], tag: str | int) -> bool:
    literals = (f.annotation for f in section.model_fields.values() if get_origin(f.annotation) is Literal)
    return any(tag in get_args(literal) for literal in literals)


def _paragraph(finding: Any, spot: _Spot, model: type[Section]) -> str:
    kind, value, context = finding["type"], finding["input"], finding.get("ctx", {})
    name, key = dotted(spot.keys) or "the configuration", spot.keys[-1] if spot.keys else ""
    if kind == "extra_forbidden":
        return _unknown_key(spot, model)
    if kind == "missing":
        return _missing(spot)
    if kind == "value_error":
        return f"{name}: {str(context['error']).rstrip('.')}."
    if kind == "union_tag_not_found":
        tag = context["discriminator"].strip("'")
        known = _tags(spot, tag)
        return (
            f"{name} does not say which one it is: the key `{tag}` is missing, one of {', '.join(known)}. "
            f"Write {line(tag, known[0])}."
        )
    if kind == "union_tag_invalid":
        tag = context["discriminator"].strip("'")
        return _not_one_of(f"{name}.{tag}", tag, context["tag"], _tags(spot, tag))
    if kind == "literal_error" and spot.field is not None:
        options = [str(o) for a in spot.alternatives if get_origin(a) is Literal for o in get_args(a)]
        return _not_one_of(name, key, value, options)
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        good = _default(spot)
        fix = f"The default is {line(key, good)}." if good is not None else f"Write {line(key, context[limit])}."
        if good is None and kind in ("greater_than", "less_than"):
            fix = f"Write a number {words} {context[limit]:g}."
        return f"{name} is {show(value)}, but it must be {words} {context[limit]:g}.{spot.doc} {fix}"
    needs = _NEEDS.get(kind)
    if needs is None:
        return f"{name} is {show(value)}: {finding['msg'].rstrip('.')}.{spot.doc}"
    return f"{name} is {show(value)}, but it must be {needs}.{spot.doc} {_fix_type(kind, key, value, spot)}"


def _not_one_of(name: str, key: str | int, value: Any, options: list[str]) -> str:
    near = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    fix = f"Write {line(key, (near or options)[0])}."
    return f"{name} is {show(value)}, but it must be one of {', '.join(options)}. {fix}"


def _tags(spot: _Spot, discriminator: str) -> list[str]:
    tags: list[str] = []
    for member in spot.alternatives:
        if _is_section(member) and discriminator in member.model_fields:
            tags += [str(t) for t in get_args(member.model_fields[discriminator].annotation)]
    return tags


def _default(spot: _Spot) -> Any:
    if spot.field is None or spot.field.is_required():
        return None
    value = spot.field.get_default()
    return value if isinstance(value, str | int | float | bool) else None


def _fix_type(kind: str, key: str | int, value: Any, spot: _Spot) -> str:
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        sections = [a for a in spot.alternatives if _is_section(a)]
        keys = f": {', '.join(sections[0].model_fields)}" if sections else ""
        return f"Give it keys{keys}{', or remove the line' if value is None else ''}."
    if kind == "string_type" and not isinstance(value, dict | list | type(None)):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"Put it in quotes if that text is meant: `{key}: '{text}'`."
    if kind == "bool_type" and str(value).lower() in ("yes", "on", "no", "off", "1", "0"):
        return f"Write {line(key, str(value).lower() in ('yes', 'on', '1'))}."
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"Write {line(key, int(value))}."
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type"):
        joined = re.sub(r"(?<=\d)[_,](?=\d)", "", value.strip())  # 16_384 and 16,384 are text in YAML 1.2
        wanted = {"int_type": int, "float_type": int | float, "bool_type": bool}[kind]
        meant = _unquoted(joined)
        if isinstance(meant, wanted) and (kind == "bool_type" or not isinstance(meant, bool)):
            return f"Write it without {'quotes' if joined == value else 'separators'}: `{key}: {joined}`."
    good = _default(spot)
    return f"The default is {line(key, good)}." if good is not None else f"Write `{key}: ...` with {_NEEDS[kind]}."


def _unquoted(text: str) -> Any:
    """What a text would be without quotes."""
    try:
        return parse(text, "text")[0]
    except ConfigError:
        return text


def _missing(spot: _Spot) -> str:
    *parents, key = spot.keys
    inside = f"the section {dotted(tuple(parents))}" if parents else "the configuration"
    if isinstance(key, int):
        return f"{dotted(tuple(parents))} is too short a list: value number {key + 1} is missing.{spot.doc} Add it."
    annotation = spot.alternatives[0] if spot.alternatives else None
    if _is_section(annotation):
        example = f"`{key}:` with the keys {', '.join(annotation.model_fields)}"
    else:
        floors = [m.ge for m in (spot.field.metadata if spot.field else ()) if hasattr(m, "ge")]
        value = floors[0] if floors else None
        example = line(key, value) if value is not None else f"`{key}: ...`"
    return f"{inside} has no `{key}`, which it needs.{spot.doc} Add {example}."


def _unknown_key(spot: _Spot, model: type[Section]) -> str:
    *parents, key = spot.keys
    inside = f"the section {dotted(tuple(parents))}" if parents else "the configuration"
    known = list(spot.owner.model_fields) if spot.owner else []
    elsewhere = [path for path in all_keys(model) if path[-1] == key and path[:-1] != tuple(parents)]
    if elsewhere:
        or_near = _nearest(str(key), known, " The nearest key here is `{}`.")
        owner = f"the section {dotted(elsewhere[0][:-1])}" if elsewhere[0][:-1] else "the top of the file"
        return f"{inside} has no key `{key}`, but {owner} has. Write it as `{dotted(elsewhere[0])}`.{or_near}"
    near = _nearest(str(key), known, "Did you mean `{}`?")
    if near:
        return f"{inside} has no key `{key}`. {near}"
    paths = {str(path[-1]): path for path in all_keys(model) if path[:-1] != tuple(parents)}
    far = difflib.get_close_matches(str(key), list(paths), n=1, cutoff=0.75)
    if far:
        path = paths[far[0]]
        return f"{inside} has no key `{key}`. Did you mean `{dotted(path)}`?"
    return f"{inside} has no key `{key}`. It has {', '.join(known)}; remove the line or use one of these."


def _nearest(key: str, known: list[str], text: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return text.format(near[0]) if near else ""


def all_keys(section: type[Section], keys: Keys = (), open_: frozenset[type[Section]] = frozenset()) -> Iterator[Keys]:
    """Every key that a configuration may have, sections before what they hold."""
    for name, field in section.model_fields.items():
        yield (*keys, name)
        for member in _members(field.annotation):
            step: Keys = ()
            inner = member
            if get_origin(member) is dict:
                inner, step = get_args(member)[1], ("<name>",)
            if _is_section(inner) and inner not in open_:
                yield from all_keys(inner, (*keys, name, *step), open_ | {section})
