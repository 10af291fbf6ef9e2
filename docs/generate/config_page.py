"""``docs/config.md``: every key of every kind, read from the JSON Schemas that ``sailrl schema`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docs.generate.markdown import code, one_line, table
from sailrl.config.kinds import KINDS

Node = Mapping[str, Any]

INTRODUCTION = """\
# Configuration reference

A configuration is one YAML file with one `kind` of job. This page lists every key. It is generated from the classes in
`sailrl/config`; `sailrl schema KIND` prints the same as a JSON Schema.

- A key with the default *required* must be written where its section is written.
- Some defaults depend on other keys. The effect then says how, after the word "Default".
- A key that is not in this list is an error. The message names the nearest key that is.
- `null` means empty. Where it is allowed, the effect says what it does.
- `<name>` stands for a name of your choice, `[]` for each item of a list.
- Every key can be set on the command line, over the file: `sailrl run configs/rlvr_8b.yaml learner.learning_rate=2e-6`.
- The column "in" names the kinds of job that have the key. A stage of a `recipe` is a configuration of another kind.

An editor with a YAML language server completes and checks keys while you type when the first line of a file names the
schema, as in `configs/`:

```yaml
# yaml-language-server: $schema=../docs/schema/rlvr.json
```
"""
UNITS = {
    "_s": "seconds",
    "_gib": "GiB",
    "_tokens": "tokens",
    "_pixels": "pixels",
    "_episodes": "episodes",
    "_updates": "updates",
    "_steps": "steps",
    "_rate": "share, 0 to 1",
    "_share": "share, 0 to 1",
    "_utilization": "share, 0 to 1",
    "learning_rate": "",
    "rollouts_per_episode": "rollouts",
    "passes_per_episode": "passes",
    "episodes": "episodes",
    "epochs": "epochs",
    "steps": "steps",
    "max_waves": "waves",
    "max_staleness": "versions",
    "max_restarts": "restarts",
    "max_concurrent": "sequences",
    "images_per_prompt": "images",
    "frames_per_video": "frames",
    "at_most": "responses",
    "keep": "checkpoints",
    "k": "responses",
    "rollouts_per_update": "rollouts",
    "group_size": "responses",
    "samples": "responses",
    "rows_per_step": "rows",
    "rows_per_image": "rows",
    "total": "rows",
    "limit": "rows",
    "max_abs_dlogp": "nats",
    "max_k3": "nats per token",
    "probe_tolerance": "nats",
    "margin": "nats per step",
    "max_tokens_per_microbatch": "tokens",
    "tensor_parallel": "GPUs",
    "ranks": "processes",
    "shard_ranks": "processes",
    "workers": "processes",
    "threads": "threads",
    "image_distance": "bits of 256",
}
"""Units by the name of a key, or by how its name ends. The longest entry that fits counts."""
REQUIRED = "*required*"
LONGEST_DEFAULT = 40
"""Characters of a default that are shown."""


@dataclass(frozen=True)
class Section:
    """A section of the file, as one kind of job has it."""

    kind: str
    path: str
    node: Node
    schema: Node
    """Of the whole kind: where its references lead."""
    choice: tuple[str, ...]
    """The members chosen on the way here, where a section is one of several: ``("gspo", "adaptive")``."""


def config_page(schemas: Mapping[str, Node]) -> str:
    """The page, from the JSON Schema of each kind."""
    by_path: dict[str, list[Section]] = {}
    for kind, schema in schemas.items():
        for section in sections(kind, schema):
            by_path.setdefault(section.path, []).append(section)
    alike: dict[frozenset[str], list[Section]] = {}
    for found in by_path.values():
        alike.setdefault(frozenset(section.node["title"] for section in found), []).extend(found)
    anchors = {section.path: anchor(group[0].path) for group in alike.values() for section in group}
    return "\n".join([INTRODUCTION, *(_part(group, anchors) for group in alike.values())])


def sections(kind: str, schema: Node) -> Iterator[Section]:
    """Every section of a kind, outer ones first. The stages of a recipe are left to their own kinds."""

    def walk(node: Node, path: str, choice: tuple[str, ...]) -> Iterator[Section]:
        if path and (tag := _tag(node)):
            choice = (*choice, node["properties"][tag]["const"])
        yield Section(kind, path, node, schema, choice)
        for name, value in node["properties"].items():
            for step, member in _members(value, schema):
                yield from walk(member, f"{path}.{name}{step}".removeprefix("."), choice)

    yield from walk(schema, "", ())


def _members(value: Node, schema: Node) -> Iterator[tuple[str, Node]]:
    """The sections that a value may hold, and how the path goes on to them: nothing, ``[]`` or ``.<name>``."""
    if "$ref" in value:
        member = schema["$defs"][value["$ref"].rpartition("/")[2]]
        if member["title"] not in {job.__name__ for job in KINDS.values()}:
            yield "", member
    for option in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _members(option, schema)
    for key, step in (("items", "[]"), ("additionalProperties", ".<name>")):
        if isinstance(value.get(key), dict):
            yield from ((step + rest, member) for rest, member in _members(value[key], schema))


def _tag(node: Node) -> str | None:
    """The key that says which of several sections this one is."""
    return next((name for name, value in node["properties"].items() if "const" in value), None)


def _part(group: Sequence[Section], anchors: Mapping[str, str]) -> str:
    """The heading and the table of sections with the same keys, wherever they stand."""
    places: dict[str, dict[str, None]] = {}
    for section in group:
        places.setdefault(section.path, {})[section.kind] = None
    first, *others = places
    lines = [f"## {code(first)}" if first else "## The file", ""]
    if others:
        also = ", ".join(f"{code(path)} ({', '.join(kinds)})" for path, kinds in places.items() if path != first)
        lines += [f"The same keys stand in {also}.", ""]
    abouts: dict[str, list[Section]] = {}
    for section in group:
        abouts.setdefault(one_line(section.node.get("description", "")), []).append(section)
    for about, of in abouts.items():
        label = f"- {_choices(of, group) or _kinds(of)}: " if len(abouts) > 1 else ""
        lines.append(f"{label}{about}")
    head = ("key", "value", "default", "unit", "effect", "in")
    rows = (
        (*cells, ": ".join(filter(None, (_kinds(found), _choices(found, group)))))
        for cells, found in _rows(group, anchors).items()
    )
    return "\n".join([*lines, "", table(head, rows)])


def _rows(group: Sequence[Section], anchors: Mapping[str, str]) -> dict[tuple[str, ...], list[Section]]:
    """The cells of every key but "in", with the sections that have it; keys that differ in nothing share a row."""
    rows: dict[tuple[str, ...], list[Section]] = {}
    consts = [value["const"] for section in group for value in section.node["properties"].values() if "const" in value]
    for section in group:
        for name, value in section.node["properties"].items():
            if "const" in value:
                cells = (code(name), ", ".join(map(code, dict.fromkeys(consts))), REQUIRED, "", "Which of these it is.")
            else:
                what = _value(value, f"{section.path}.{name}".removeprefix("."), anchors)
                cells = (
                    code(name),
                    what,
                    _default(name, value, section.node),
                    unit(name, value),
                    _effect(value, section),
                )
            rows.setdefault(cells, []).append(section)
    names = list(dict.fromkeys(cells[0] for cells in rows))
    return dict(sorted(rows.items(), key=lambda item: names.index(item[0][0])))


def _effect(value: Node, section: Section) -> str:
    """The text under the field; pydantic leaves it out where it is the text of the class."""
    inherited = [member["description"] for _, member in _members(value, section.schema)]
    return one_line(value.get("description") or inherited[0])


def _kinds(found: Sequence[Section]) -> str:
    kinds = dict.fromkeys(section.kind for section in found)
    return "all kinds" if len(kinds) == len(KINDS) else ", ".join(kinds)


def _choices(found: Sequence[Section], group: Sequence[Section]) -> str:
    """Which members of a choice ``found`` are; empty where that is all of ``group``."""
    chosen, all_choices = (dict.fromkeys(section.choice for section in some) for some in (found, group))
    if len(chosen) == len(all_choices):
        return ""
    inner: dict[tuple[str, ...], list[str]] = {}
    for choice in chosen:
        inner.setdefault(choice[:-1], []).append(choice[-1])
    outer: dict[str, list[str]] = {}
    for around, names in inner.items():
        every = len(names) == sum(choice[:-1] == around for choice in all_choices)
        outer.setdefault("" if around and every else ", ".join(map(code, names)), []).extend(map(code, around))
    return "; ".join(" with ".join(filter(None, (", ".join(around), names))) for names, around in outer.items())


def _value(value: Node, path: str, anchors: Mapping[str, str]) -> str:
    """What may be written, in words."""
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    options = [option for option in (*value.get("anyOf", ()), *value.get("oneOf", ())) if option.get("type") != "null"]
    if "$ref" in value:
        return f"[section](#{anchors[path]})" if path in anchors else "configuration of its kind"
    if options:
        return " or ".join(dict.fromkeys(_value(option, path, anchors) for option in options))
    if "enum" in value:
        return ", ".join(map(code, value["enum"]))
    if "prefixItems" in value:
        return f"list of {len(value['prefixItems'])}: " + ", ".join(
            _value(item, path, anchors) for item in value["prefixItems"]
        )
    if "items" in value:
        return f"list of: {_value(value['items'], path + '[]', anchors)}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return (
            f"by name: {_value(inner, path + '.<name>', anchors)}" if isinstance(inner, dict) and inner else "any keys"
        )
    bounds = [f"{sign} {value[limit]:g}" for limit, sign in limits.items() if limit in value]
    return " ".join([words.get(value.get("type", ""), "anything"), ", ".join(bounds)]).strip()


def _default(name: str, value: Node, section: Node) -> str:
    if name in section.get("required", ()) or "const" in value:
        return REQUIRED
    default = value.get("default", {} if value.get("type") == "object" else [])
    if isinstance(default, dict) and default:
        return "its defaults"
    if isinstance(default, str) and default:
        return code(default if len(default) <= LONGEST_DEFAULT else default[: LONGEST_DEFAULT - 4] + " ...")
    return code(json.dumps(default).replace("e-0", "e-"))


def unit(name: str, value: Node) -> str:
    """The unit of a number, by the name of its key; nothing for other values."""
    options = [value, *value.get("anyOf", ())]
    if not any(option.get("type") in ("integer", "number") for option in options):
        return ""
    fitting = [end for end in UNITS if name == end or (end.startswith("_") and name.endswith(end))]
    return UNITS[max(fitting, key=len)] if fitting else ""


def anchor(path: str) -> str:
    """The link to a heading, as GitHub and MkDocs make it from the heading's text."""
    return "".join(c for c in path or "the-file" if c.isalnum() or c in "_-")
