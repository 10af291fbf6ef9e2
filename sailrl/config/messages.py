"""Turns pydantic's errors into paragraphs: what is wrong, where, the rule, and what to write instead."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sailrl.config.aliases import meant
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
    "multiple_of": ("multiple_of", "a multiple of"),
}


def explain(error: ValidationError, model: type[Section], where: Where) -> list[str]:
    """One paragraph for each thing that is wrong with a configuration of class ``model``."""
    by_keys: dict[Keys, list[_Found]] = {}
    for finding in error.errors(include_url=False):
        found = _found(finding, model)
        by_keys.setdefault(found.spot.keys, []).append(found)
    paragraphs: list[str] = []
    for keys in sorted(by_keys, key=where.order):
        paragraphs += [f"{where.of(keys)}: {text}" for text in _paragraphs(by_keys[keys], model)]
    return paragraphs


def show(value: Any) -> str:
    """A value of the file as text that shows whether it is text or a number."""
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
    """The part of the schema that a finding is about."""

    keys: Keys
    """The path of the value as written in the file (pydantic adds the names of union members)."""
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


@dataclass(frozen=True)
class _Found:
    """One finding of pydantic."""

    kind: str
    value: Any
    context: dict[str, Any]
    message: str
    spot: _Spot


def _found(finding: Any, model: type[Section]) -> _Found:
    kind, value, context = finding["type"], finding["input"], finding.get("ctx", {})
    spot = _spot(model, finding["loc"])
    if kind == "union_tag_invalid":  # it is about the tag, not about the section
        tag = context["discriminator"].strip("'")
        spot, value = replace(spot, keys=(*spot.keys, tag), field=None), context["tag"]
    return _Found(kind, value, context, finding["msg"], spot)


def _paragraphs(findings: list[_Found], model: type[Section]) -> list[str]:
    """What is wrong with one value. Of a union, pydantic reports each member that the value does not fit."""
    needs = [_need(found) for found in findings]
    if not all(needs):
        return [_special(found, model) for found in findings]
    first = next((found for found in findings if found.kind == "literal_error"), findings[0])
    must = " or ".join(str(need) for need in needs)
    name = dotted(first.spot.keys) or "the configuration"
    return [f"{name} is {show(first.value)}, but it must be {must}.{first.spot.doc} {_fix(first)}"]


def _need(found: _Found) -> str | None:
    """What the value must be, for the findings that are about nothing else."""
    if found.kind in _BOUNDS:
        limit, words = _BOUNDS[found.kind]
        return f"{words} {found.context[limit]:g}"
    if found.kind in ("literal_error", "union_tag_invalid"):
        return f"one of {', '.join(_options(found))}"
    return _NEEDS.get(found.kind)


def _special(found: _Found, model: type[Section]) -> str:
    name = dotted(found.spot.keys) or "the configuration"
    if found.kind == "extra_forbidden":
        return _unknown_key(found.spot, found.value, model)
    if found.kind == "missing":
        return _missing(found.spot)
    if found.kind == "value_error":
        return f"{name}: {str(found.context['error']).rstrip('.')}."
    if found.kind == "union_tag_not_found":
        tag, known = _tag(found), _options(found)
        return (
            f"{name} does not say which one it is: the key `{tag}` is missing, one of {', '.join(known)}. "
            f"Write {line(tag, known[0])}."
        )
    return f"{name} is {show(found.value)}: {found.message.rstrip('.')}.{found.spot.doc}"


def _tag(found: _Found) -> str:
    return str(found.context["discriminator"]).strip("'")


def _options(found: _Found) -> list[str]:
    """The values that a literal, or the tag of a union, may have."""
    literals = found.spot.alternatives
    if "discriminator" in found.context:
        sections = [a for a in found.spot.alternatives if _is_section(a)]
        literals = tuple(s.model_fields[_tag(found)].annotation for s in sections if _tag(found) in s.model_fields)
    return [str(option) for literal in literals if get_origin(literal) is Literal for option in get_args(literal)]


def _fix(found: _Found) -> str:
    key = found.spot.keys[-1] if found.spot.keys else ""
    good = _default(found.spot)
    if found.kind in ("literal_error", "union_tag_invalid"):
        options = _options(found)
        near = difflib.get_close_matches(str(found.value), options, n=1, cutoff=0.6)
        return f"Write {line(key, (near or options)[0])}."
    if found.kind not in _BOUNDS:
        return _fix_type(found, key)
    if good is not None:
        return f"The default is {line(key, good)}."
    limit, words = _BOUNDS[found.kind]
    bound = found.context[limit]
    return f"Write {line(key, bound)}." if words in ("at least", "at most") else f"Write a number {words} {bound:g}."


def _default(spot: _Spot) -> Any:
    if spot.field is None or spot.field.is_required():
        return None
    value = spot.field.get_default()
    return value if isinstance(value, str | int | float | bool) else None


def _fix_type(found: _Found, key: str | int) -> str:
    kind, value = found.kind, found.value
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        sections = [a for a in found.spot.alternatives if _is_section(a)]
        keys = f": {', '.join(sections[0].model_fields)}" if sections else ""
        return f"Give it keys{keys}{', or remove the line' if value is None else ''}."
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"Put it in quotes if that text is meant: `{key}: '{show(value)}'`."
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
    good = _default(found.spot)
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


def _unknown_key(spot: _Spot, value: Any, model: type[Section]) -> str:
    *parents, key = spot.keys
    inside = f"the section {dotted(tuple(parents))}" if parents else "the configuration"
    known = list(spot.owner.model_fields) if spot.owner else []
    if squeezed := re.fullmatch(r"(\w+):(\S+)", str(key)):
        return f"{inside} has no key `{key}`. A colon needs a space behind it: `{squeezed[1]}: {squeezed[2]}`."
    paths = list(all_keys(model))
    every, near = [dotted(path) for path in paths], _nearest(str(key), known, "Did you mean `{}`?")
    if isinstance(value, dict):  # of a section that nothing here is like, what stands in it
        targets = {dotted((*spot.keys, name)): meant(str(name), every) or _only(str(name), every) for name in value}
        wanted = ", ".join(f"`{target}` for `{typed}`" for typed, target in targets.items() if target)
        hint = near or (f"Did you mean {wanted}?" if wanted else "")
    elif target := meant(str(key), every):
        hint = f"Did you mean `{target.removeprefix(dotted((*parents, '')))}`?"
    elif elsewhere := [path for path in paths if path[-1] == key and path[:-1] != tuple(parents)]:
        or_near = _nearest(str(key), known, " The nearest key here is `{}`.")
        owner = f"the section {dotted(elsewhere[0][:-1])}" if elsewhere[0][:-1] else "the top of the file"
        return f"{inside} has no key `{key}`, but {owner} has. Write it as `{dotted(elsewhere[0])}`.{or_near}"
    else:
        far = {str(path[-1]): dotted(path) for path in paths if path[:-1] != tuple(parents)}
        found = difflib.get_close_matches(str(key), list(far), n=1, cutoff=0.75)
        hint = near or (f"Did you mean `{far[found[0]]}`?" if found else "")
    hint = hint or f"It has {', '.join(known)}; remove the line or use one of these."
    return f"{inside} has no key `{key}`. {hint}"


def _only(name: str, known: Sequence[str]) -> str | None:
    """The one key of this name, in whatever section; None where there are several."""
    found = {key for key in known if key.rpartition(".")[2] == name}
    return found.pop() if len(found) == 1 else None


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
