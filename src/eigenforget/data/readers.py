"""Files of rows: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.row_texts import pyarrow_where_installed
from eigenforget.core.text import first_line, is_unicode, listed
from eigenforget.data.arrow_tables import arrow_csv, typed_arrow_column
from eigenforget.data.columns import (
    UNNAMED,
    ColumnTable,
    DataColumn,
    check_header,
    text_column,
    typed_column,
    with_decimal_points,
    without_row_numbers,
)
from eigenforget.data.memory import check_fits
from eigenforget.record import RecordError
from eigenforget.record.reading import opened

_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_PACKED = ".gz"
_PIECE = 1 << 24
_DELIMITERS = ",;\t|"
"""Those that are looked for; the first of them where the header has as many cells with several."""
_HEAD = 1 << 16
"""Bytes of a file in which the delimiter is looked for."""
_LONG = 32 << 20
"""Bytes of a CSV file that is better read with pyarrow."""


def read_columns(path: Path, delimiter: str = "", written: Collection[str] = ()) -> ColumnTable:
    """The table in a .csv, .tsv, .jsonl or .parquet file; text may be packed, as in .csv.gz.

    CSV has a header and UTF-8 text; blank lines and space after a delimiter are skipped. Where it
    has another delimiter than a comma, decimal commas are read as points, which a warning says. A
    line of JSON is one object of strings, numbers, true, false and null. Parquet needs pyarrow,
    which also reads CSV where it is installed, to the same table. A first column without a name
    that numbers the rows, as pandas and R write it, is left out, which a warning says.

    Args:
        path: The file.
        delimiter: What stands between the cells of a CSV file; "" takes what its header has (.tsv:
            a tab).
        written: Columns that somebody named: their cells are wanted as they were written, also
            where all are numbers, and they stay.

    Raises:
        EigenforgetError: The file cannot be read, is empty or not UTF-8, has ragged or unclosed
            rows (with the line), repeated or empty column names, or nested values.
    """
    return without_row_numbers(_table(path, delimiter, written), written)


def _table(path: Path, delimiter: str, written: Collection[str]) -> ColumnTable:
    name = path.name.lower()
    suffix = Path(name.removesuffix(_PACKED)).suffix
    if name.endswith(".parquet"):
        return _parquet(path)
    if suffix not in _SUFFIXES[:-1]:
        raise EigenforgetError(
            f"files of rows end in {', '.join(_SUFFIXES)} or .csv{_PACKED}, got {path.name!r}"
        )
    content = functools.partial(_content, path)
    if suffix == ".jsonl":
        records = _jsonl(_text(content))
    else:
        records = _csv_file(content, "\t" if suffix == ".tsv" else delimiter, written)
    if not len(records):
        raise EigenforgetError("the file has no rows")
    return records


def csv_columns(text: str, *, delimiter: str = "") -> ColumnTable:
    """The table in the text of a CSV file; see `read_columns`.

    Raises:
        EigenforgetError: It has ragged or unclosed rows (with the line), or repeated or empty
            column names.
    """
    used = delimiter or _delimiter(text[:_HEAD])
    return _with_points(_csv(text, used), used)


@contextmanager
def _content(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading, unpacked where it is packed."""
    try:
        with opened(path) as file:
            packed = path.name.lower().endswith(_PACKED)
            yield _unpacked(gzip.GzipFile(fileobj=file)) if packed else file
    except RecordError as error:
        raise EigenforgetError(str(error).removeprefix(f"{path}: ")) from None
    except (EOFError, zlib.error) as error:
        raise EigenforgetError(f"cannot be read: {first_line(error)}") from None
    except MemoryError:
        raise EigenforgetError("does not fit into memory") from None


def _unpacked(file: gzip.GzipFile) -> BinaryIO:
    """The content, piece by piece: a small file may hold more than there is memory for."""
    found = io.BytesIO()
    while piece := file.read(_PIECE):
        found.write(piece)
        check_fits(3 * found.tell(), "the file, unpacked,")  # the text and the cells
    found.seek(0)
    return found


def _text(content: Callable[[], AbstractContextManager[BinaryIO]]) -> str:
    with content() as file:
        found = file.read()
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise EigenforgetError(
            f"line {line} is not UTF-8 (byte 0x{found[error.start]:02x}): save the file as UTF-8"
        ) from None
    if not text.strip():
        raise EigenforgetError("the file is empty")
    return text


def _csv_file(
    content: Callable[[], AbstractContextManager[BinaryIO]],
    delimiter: str,
    written: Collection[str],
) -> ColumnTable:
    with content() as file:
        head = file.read(_HEAD).decode("utf-8-sig", "replace")
        size = file.seek(0, io.SEEK_END)
    used = delimiter or _delimiter(head)
    arrow = pyarrow_where_installed()
    found = None
    if arrow is not None:
        found = arrow_csv(arrow, content, used, check_header=_checked_names, written=written)
    elif size > _LONG:
        notices.warn(
            "a long CSV file is read several times faster, and in a quarter of the memory, with "
            "pyarrow: pip install 'eigenforget[tables]'"
        )
    found = _csv(_text(content), used) if found is None else found
    if used not in (",", delimiter):
        notices.warn(f"cells are divided by {used!r}, as in the header; delimiter=… says otherwise")
    return _with_points(found, used)


def _delimiter(head: str) -> str:
    """The delimiter with which the header has most cells, and the next row as many."""
    whole = head if len(head) < _HEAD else head[: head.rfind("\n") + 1] or head
    counts = {mark: _cells_of_first_rows(whole, mark) for mark in _DELIMITERS}
    alike = {mark: rows[0] for mark, rows in counts.items() if len(set(rows)) == 1 < rows[0]}
    return max(alike, key=alike.__getitem__, default=",")


def _cells_of_first_rows(head: str, delimiter: str) -> list[int]:
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return [len(row) for row in itertools.islice(filter(None, reader), 2)]
    except csv.Error:
        return []


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
                header = _checked_names([name.strip() for name in row])
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


def _with_points(records: ColumnTable, delimiter: str) -> ColumnTable:
    """The table with numbers that have decimal commas, where cells are divided otherwise."""
    if delimiter == ",":
        return records
    made = {
        name: found
        for name, column in records.columns.items()
        if column.numbers is None and (found := with_decimal_points(column)) is not None
    }
    if not made:
        return records
    cell = next(cell for cell in next(iter(made.values())).text if "," in cell).strip()
    notices.warn(
        f"numbers have decimal commas in {listed(map(repr, made), 5)}: {cell} is read as "
        f"{cell.replace(',', '.')}"
    )
    return replace(records, columns={**records.columns, **made})


def _checked_names(names: list[str]) -> list[str]:
    """The names in a header; the first may be empty, as pandas and R write an index of rows."""
    if len(names) > 1 and not names[0] and UNNAMED not in names:
        names = [UNNAMED, *names[1:]]
    check_header(names)
    return names


def _jsonl(text: str) -> ColumnTable:
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    # Not splitlines(): JSON strings may hold U+2028 and its like.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, number))
            lines.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    check_header(names)
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
            raise ValueError(f"{ascii(text)[:60]} is not Unicode text (a lone surrogate)")
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
    """The table, read column by column: all at once would be in memory twice."""
    with _parquet_file(path) as file:
        names = file.schema_arrow.names
        check_header(names)
        if not file.metadata.num_rows:
            raise EigenforgetError("the file has no rows")
        columns = {
            name: typed_arrow_column(file.read(columns=[name]).column(name), name) for name in names
        }
        return ColumnTable(columns, np.arange(file.metadata.num_rows), "row")


def parquet_table(path: Path) -> Any:
    """The pyarrow Table in a .parquet file.

    Raises:
        EigenforgetError: pyarrow is not installed, the file cannot be read, or columns have no name
            of their own.
    """
    with _parquet_file(path) as file:
        table = file.read()
    check_header(table.column_names)
    return table


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """The file, open for reading; it fits into memory."""
    arrow, parquet = (
        needed("pyarrow", extra="tables", what="Parquet"),
        needed("pyarrow.parquet", extra="tables", what="Parquet"),
    )
    try:
        with opened(path):  # a pipe would block
            file = parquet.ParquetFile(path)
        groups = (file.metadata.row_group(n) for n in range(file.metadata.num_row_groups))
        check_fits(sum(group.total_byte_size for group in groups), "the file")
        yield file
    except RecordError as error:
        raise EigenforgetError(str(error).removeprefix(f"{path}: ")) from None
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise EigenforgetError(f"cannot be read as Parquet: {first_line(error)}") from None
