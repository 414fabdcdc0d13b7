"""Files of rows: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.text import first_line, is_unicode, listed
from eigenforget.data.columns import ColumnTable, DataColumn, text_column, typed_column
from eigenforget.data.memory import check_fits
from eigenforget.record import RecordError
from eigenforget.record.reading import opened, read_bytes

_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_columns(path: Path, delimiter: str = ",") -> ColumnTable:
    """The table in a .csv, .tsv, .jsonl or .parquet file.

    CSV has a header, UTF-8 text and the given delimiter (.tsv: a tab); blank lines and space after
    a delimiter are skipped. A line of JSON is one object of strings, numbers, true, false and null.
    Parquet needs pyarrow.

    Raises:
        EigenforgetError: The file cannot be read, is empty or not UTF-8, has ragged or unclosed
            rows (with the line), repeated or empty column names, or nested values.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    if suffix not in _SUFFIXES:
        raise EigenforgetError(f"files of rows end in {', '.join(_SUFFIXES)}, got {path.name!r}")
    text = _text(path)
    records = (
        _jsonl(text) if suffix == ".jsonl" else _csv(text, "\t" if suffix == ".tsv" else delimiter)
    )
    if not len(records):
        raise EigenforgetError("the file has no rows")
    return records


def from_arrow(table: Any) -> ColumnTable:
    """The columns of a pyarrow Table.

    Raises:
        EigenforgetError: Values are neither numbers, words nor times.
    """
    arrow = needed("pyarrow", extra="tables", what="Parquet")
    _check_names(table.column_names)
    columns = {name: _arrow_column(arrow, table.column(name), name) for name in table.column_names}
    return ColumnTable(columns, np.arange(table.num_rows), "row")


def _text(path: Path) -> str:
    try:
        content = read_bytes(path, most=1 << 40)
    except RecordError as error:
        raise EigenforgetError(str(error).removeprefix(f"{path}: ")) from None
    except MemoryError:
        raise EigenforgetError("does not fit into memory") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise EigenforgetError(
            f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}): save the file as UTF-8"
        ) from None
    if not text.strip():
        raise EigenforgetError("the file is empty")
    return text


def _csv(text: str, delimiter: str) -> ColumnTable:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    lines: list[int] = []
    rows: list[list[str]] = []
    header: list[str] = []
    before = 0
    try:
        for row in reader:
            line, before = before + 1, reader.line_num
            if not row:
                continue
            if not header:
                header = [name.strip() for name in row]
                _check_names(header)
                continue
            if len(row) != len(header):
                raise EigenforgetError(
                    f"line {line} has {len(row)} cells, the header has {len(header)}"
                )
            lines.append(line)
            rows.append(row)
    except csv.Error as error:
        raise EigenforgetError(f"line {before + 1}: not CSV: {error}") from None
    columns = {name: text_column([row[n] for row in rows]) for n, name in enumerate(header)}
    return ColumnTable(columns, np.array(lines), "line")


def _check_names(names: list[str]) -> None:
    if not names or "" in names:
        raise EigenforgetError(
            "every column needs a name; the header has: "
            f"{listed([name or repr(name) for name in names], 30) or 'none'}"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EigenforgetError(f"the header repeats the columns {listed(repeated)}")


def _jsonl(text: str) -> ColumnTable:
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    # Not splitlines(): JSON strings may hold U+2028 and its like.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, number))
            lines.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_names(names)
    columns = {name: _json_column([row.get(name) for row in rows], name, lines) for name in names}
    return ColumnTable(columns, np.array(lines), "line")


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise EigenforgetError(f"line {number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise EigenforgetError(
            f"line {number}: a row must be a JSON object, got {type(row).__name__}"
        )
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the object has {listed(map(ascii, twice))} twice")
    for text in (*names, *(value for _, value in pairs if isinstance(value, str))):
        if not is_unicode(text):
            raise ValueError(f"{ascii(text)[:60]} is no text in Unicode (a lone surrogate)")
    return dict(pairs)


def _json_column(cells: list[Any], name: str, lines: list[int]) -> DataColumn:
    for cell, line in zip(cells, lines, strict=True):
        if not isinstance(cell, (str, int, float, bool, type(None))):
            raise EigenforgetError(
                f"line {line}: {name!r} holds a {type(cell).__name__}, allowed: a string, "
                "number, true, false or null"
            )
    return typed_column(cells)


def _parquet(path: Path) -> ColumnTable:
    arrow, parquet = (
        needed("pyarrow", extra="tables", what="Parquet"),
        needed("pyarrow.parquet", extra="tables", what="Parquet"),
    )
    try:
        with opened(path):  # a pipe would block
            file = parquet.ParquetFile(path)
        groups = (file.metadata.row_group(n) for n in range(file.metadata.num_row_groups))
        check_fits(sum(group.total_byte_size for group in groups), "the file")
        table = file.read()
    except RecordError as error:
        raise EigenforgetError(str(error).removeprefix(f"{path}: ")) from None
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise EigenforgetError(f"cannot be read as Parquet: {first_line(error)}") from None
    records = from_arrow(table)
    if not len(records):
        raise EigenforgetError("the file has no rows")
    return records


def _arrow_column(arrow: Any, column: Any, name: str) -> DataColumn:
    kinds, kind = arrow.types, column.type
    if kinds.is_dictionary(kind):
        return _arrow_column(arrow, column.cast(kind.value_type), name)
    if kinds.is_decimal(kind):
        column = column.cast(arrow.float64())
    elif kinds.is_temporal(kind) and not kinds.is_duration(kind):
        column = column.cast(arrow.string())
    elif not (
        kinds.is_integer(kind)
        or kinds.is_floating(kind)
        or kinds.is_boolean(kind)
        or kinds.is_null(kind)
        or kinds.is_string(kind)
        or kinds.is_large_string(kind)
    ):
        raise EigenforgetError(
            f"column {name!r} holds {kind}, allowed: numbers, strings, booleans, dates and times"
        )
    return typed_column(column.to_pylist())
