"""Writes Parquet from streamed rows. Parquet wants one type per column before the first row, rows come as they are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

Row: TypeAlias = dict[str, Any]
BATCH_ROWS = 1000
_MIXED = pa.field("mixed", pa.string(), metadata={"sailrl": "mixed"})
"""Type of a column whose values have no common type: text as it is, everything else as JSON."""


def write_parquet(path: Path, rows: Callable[[], Iterable[Row]], known: pa.Schema | None = None) -> None:
    """Goes over ``rows()`` twice: once for the type of every column that is not in ``known``, once to write.

    A column that mixes types (numbers and text, say) becomes text; objects that differ in their keys become one struct.
    """
    types: dict[str, Any] = {}
    for batch in _batches(rows()):
        for name in dict.fromkeys(key for row in batch for key in row):
            found = _type([row.get(name) for row in batch])
            types[name] = _common(types[name], found) if name in types else found
    for field in known or ():
        types[field.name] = field.type
    # Parquet has neither columns without a type nor structs without a field.
    fields = [
        pa.field(name, pa.string() if kind is _MIXED or not _storable(kind) else kind) for name, kind in types.items()
    ]
    as_text = {name for name, kind in types.items() if kind is _MIXED or not _storable(kind)}
    schema = pa.schema(fields)
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batches(rows()):
            columns = [
                pa.array(
                    [_text(row.get(f.name)) if f.name in as_text else row.get(f.name) for row in batch], type=f.type
                )
                for f in fields
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def add_columns(source: Path, target: Path, rows: Iterator[Mapping[str, Any]], added: pa.Schema) -> None:
    """Copies a Parquet file, types and all, with the columns of ``added`` behind its own: one of ``rows`` per row."""
    with pq.ParquetFile(source) as file:
        kept = [field for field in file.schema_arrow if field.name not in added.names]
        schema = pa.schema([*kept, *added])
        with pq.ParquetWriter(target, schema) as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[field.name for field in kept]):
                extra = list(itertools.islice(rows, len(batch)))
                columns = [pa.array([row.get(field.name) for row in extra], type=field.type) for field in added]
                writer.write_table(pa.Table.from_arrays([*batch.columns, *columns], schema=schema))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, BATCH_ROWS)):
        yield batch


def _type(values: list[Any]) -> Any:
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return _MIXED


def _common(one: Any, other: Any) -> Any:
    if one is _MIXED or other is _MIXED:
        return _MIXED
    try:
        schemas = [pa.schema([("x", one)]), pa.schema([("x", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except pa.ArrowException:
        return _MIXED


def _storable(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_storable(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _storable(kind.value_type)
    return not pa.types.is_null(kind)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
