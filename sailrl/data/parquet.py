"""Reads Parquet in small batches, and writes it from streamed rows: Parquet wants one type per column before the first
row, rows come as they are."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from sailrl.data.fields import BrokenRow
from sailrl.data.pictures import image_source
from sailrl.errors import DataError

Row: TypeAlias = dict[str, Any]
BATCH_ROWS = 1000
"""Rows that are written at a time."""
PICTURE_ROWS = 64
"""The same where the rows have pictures."""
IMAGES = "images"
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURE = {"feature": {"_type": "Image"}, "_type": "Sequence"}
"""A list of pictures, as all versions of the datasets library read it from a file."""
READ_ROWS, READ_BYTES = 256, 32 << 20
"""Most rows and about as many bytes as are read at a time."""
_MIXED = pa.field("mixed", pa.string(), metadata={"sailrl": "mixed"})
"""Type of a column whose values have no common type: text as it is, everything else as JSON."""


def open_parquet(path: Path) -> pq.ParquetFile:
    """The file, its footer read.

    Raises:
        DataError: it is no Parquet that can be read, or two of its columns have one name.
    """
    try:
        # Without these pyarrow reads a whole row group ahead, which is often the whole file.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        names = Counter(file.schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path} as Parquet: {_one_line(error)}.") from error
    name, count = max(names.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise DataError(f"{path} has {count} columns named {name!r}, but a row has one value per name. Rename them.")
    return file


def read_batches(path: Path, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """All rows in batches of bounded size, so that memory holds a few rows however large a picture is.

    Raises:
        DataError: a part of the file is damaged.
    """
    done = 0
    try:
        for group in range(file.metadata.num_row_groups):
            for batch in _group_batches(file, group):
                yield batch
                done += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {path} as Parquet behind row {done}: {_one_line(error)}. Copy or download it again."
        ) from error


def parquet_rows(path: Path, file: pq.ParquetFile) -> Iterator[Row]:
    """All rows as Python's values.

    Raises:
        DataError: a part of the file is damaged, or a value has no form in Python (a time in nanoseconds, the year
            20000, text that is not UTF-8).
    """
    done = 0
    for batch in read_batches(path, file):
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: a value in rows {done + 1} to {done + len(batch)} cannot be read: {_one_line(error)}. "
                "Store the column as text or as a number."
            ) from error
        yield from rows
        done += len(rows)


def _group_batches(file: pq.ParquetFile, group: int) -> Iterator[pa.RecordBatch]:
    about = file.metadata.row_group(group)
    size = max(1, min(READ_ROWS, READ_BYTES * about.num_rows // max(1, about.total_byte_size)))
    done = 0
    while done < about.num_rows:
        read = 0
        try:
            for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                new = batch.slice(max(0, done - read))
                read += len(batch)
                if len(new):
                    yield new
                    done += len(new)
        except pa.ArrowNotImplementedError:
            # More than 2 GiB in a nested column of one batch: a value that is stored once and stands in many rows.
            if size == 1:
                raise
            size = max(1, size // 8)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def write_parquet(path: Path, rows: Callable[[], Iterable[Row]]) -> None:
    """Goes over ``rows()`` twice: once for the type of every column, once to write.

    A column that mixes types (numbers and text, say) becomes text; objects that differ in their keys become one struct.
    Lists of pictures in ``images`` are written with their bytes, as the feature ``Image`` of the datasets library.
    """
    types: dict[str, Any] = {}
    has_pictures = True
    for batch in _batches(rows(), BATCH_ROWS):
        has_pictures = has_pictures and all(_are_pictures(row.get(IMAGES)) for row in batch)
        for name in dict.fromkeys(key for row in batch for key in row):
            found = _type([row.get(name) for row in batch])
            types[name] = _common(types[name], found) if name in types else found
    has_pictures = has_pictures and IMAGES in types
    if has_pictures:
        types[IMAGES] = pa.list_(_PICTURE)
    # Parquet has neither columns without a type nor structs without a field.
    as_text = {name for name, kind in types.items() if kind is _MIXED or not _storable(kind)}
    schema = pa.schema([pa.field(name, pa.string() if name in as_text else kind) for name, kind in types.items()])
    if has_pictures:
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": {IMAGES: _FEATURE}}})})

    def stored(name: str, value: Any) -> Any:
        if name in as_text:
            return _text(value)
        return [_picture(entry) for entry in value] if name == IMAGES and has_pictures and value else value

    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batches(rows(), PICTURE_ROWS if has_pictures else BATCH_ROWS):
            columns = [pa.array([stored(f.name, row.get(f.name)) for row in batch], type=f.type) for f in schema]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _are_pictures(value: Any) -> bool:
    return value is None or (
        isinstance(value, list | tuple) and all(isinstance(entry, str | bytes | Mapping) for entry in value)
    )


def _picture(entry: Any) -> dict[str, Any]:
    """A picture as the datasets library stores it; a path that leads to no file stays a path."""
    try:
        source = image_source(entry, IMAGES, Path("/"), must_exist=True)
    except BrokenRow:
        path = entry.get("path") if isinstance(entry, Mapping) else entry
        return {"bytes": None, "path": _text(path)}
    if isinstance(source, bytes):
        return {"bytes": source, "path": None}
    return {"bytes": Path(source).read_bytes(), "path": Path(source).name}


def add_columns(source: Path, target: Path, rows: Iterator[Mapping[str, Any]], added: pa.Schema) -> None:
    """Copies a Parquet file, types and all, with the columns of ``added`` behind its own: one of ``rows`` per row."""
    with open_parquet(source) as file:
        kept = [field for field in file.schema_arrow if field.name not in added.names]
        schema = pa.schema([*kept, *added])
        with pq.ParquetWriter(target, schema) as writer:
            for batch in read_batches(source, file):
                extra = list(itertools.islice(rows, len(batch)))
                old = [batch.column(field.name) for field in kept]
                new = [pa.array([row.get(field.name) for row in extra], type=field.type) for field in added]
                writer.write_table(pa.Table.from_arrays([*old, *new], schema=schema))


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
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
