"""Tables through pyarrow: Parquet, and CSV files that leave no doubt about their cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.data.columns import ABSENT, ColumnTable, DataColumn, text_array, text_column

_BLOCK = 1 << 20
"""Bytes that are looked at or parsed at a time."""
_LONGEST_CELL = 131_072
"""Characters; the csv module refuses longer ones."""
_QUOTE, _SPACE, _LINE, _RETURN = (ord(character) for character in '" \n\r')
_BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What str.strip() takes off."""
_CODE = r"^[+-]?0[0-9xX]"
"""A number that starts with a zero is a code, such as a postcode."""


class CsvLines(NamedTuple):
    """Where the rows of a CSV file are, the header first.

    Args:
        lines: Line of the file in which each starts, from 1.
        starts: Byte at which each starts.
        blanks: Whether there is white space in the file that may surround cells.
        breaks: Whether a quoted cell has line ends.
    """

    lines: np.ndarray
    starts: np.ndarray
    blanks: bool
    breaks: bool


def csv_lines(file: BinaryIO, delimiter: str) -> CsvLines | None:
    """Where the rows of a CSV file are.

    None where that is in doubt, or cells are not the same to pyarrow and to the csv module: text
    that is not UTF-8, quotes that do not surround a cell, lone carriage returns, NUL.
    """
    scan = _Scan(delimiter)
    while block := file.read(_BLOCK):
        if not scan.take(block if block.endswith(b"\n") else block + file.readline()):
            return None
    if scan.quoted or not scan.starts:
        return None
    lines, starts = np.concatenate(scan.lines), np.concatenate(scan.starts)
    return CsvLines(lines, starts, scan.blanks, scan.breaks) if len(lines) else None


class _Scan:
    """Looks at a CSV file block by block; each ends with a line, or with the file."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = ord(delimiter)
        self.quoted = self.blanks = self.breaks = False
        self.line, self.place = 1, 0
        self.lines, self.starts = list[np.ndarray](), list[np.ndarray]()
        self._white = [b for b in b"\t\x0b\x0c\x1c\x1d\x1e\x1f " if b != self.delimiter]

    def take(self, block: bytes) -> bool:
        """Looks at a block; False where something is in doubt."""
        if b"\0" in block or not _is_text(block):
            return False
        self.blanks = self.blanks or not block.isascii() or any(b in block for b in self._white)
        codes = np.frombuffer(block, np.uint8)
        if b"\r" in block:
            returns = np.flatnonzero(codes == _RETURN)
            if returns[-1] + 1 == len(codes) or (codes[returns + 1] != _LINE).any():
                return False
        ends = np.flatnonzero(codes == _LINE)
        first_is_inside, inside = self.quoted, np.zeros(len(ends), dtype=bool)
        if self.quoted or b'"' in block:
            quotes = np.flatnonzero(codes == _QUOTE)
            if not self._surround_cells(codes, quotes):
                return False
            inside = (np.searchsorted(quotes, ends) + self.quoted) % 2 == 1
            self.quoted = bool((len(quotes) + self.quoted) % 2)
            self.breaks = self.breaks or bool(inside.any())
        if not len(ends) or ends[-1] + 1 < len(codes):
            ends, inside = np.append(ends, len(codes)), np.append(inside, self.quoted)
        starts = np.append(0, ends[:-1] + 1)
        blank = (ends == starts) | ((ends == starts + 1) & (codes[starts] == _RETURN))
        rows = np.flatnonzero(~np.append(first_is_inside, inside[:-1]) & ~blank)
        self.lines.append(rows + self.line)
        self.starts.append(starts[rows] + self.place)
        self.line, self.place = self.line + len(ends), self.place + len(codes)
        return True

    def _surround_cells(self, codes: np.ndarray, quotes: np.ndarray) -> bool:
        """Whether quotes stand at both ends of cells only, or twice within them."""
        opening, closing = quotes[int(self.quoted) :: 2], quotes[1 - int(self.quoted) :: 2]
        before = np.where(opening == 0, _LINE, codes[opening - 1])
        after = codes[np.minimum(closing + 1, len(codes) - 1)]
        after = np.where(closing + 1 == len(codes), _LINE, after)
        if not self.place and len(opening) and opening[0] == 3 and codes[0] == 0xEF:
            before[0] = _LINE  # after a byte-order mark
        at_start = opening[before != _QUOTE]
        spaced = (codes[np.minimum(at_start + 1, len(codes) - 1)] == _SPACE).any()
        ends = (self.delimiter, _LINE, _QUOTE)
        fine = np.isin(before, ends).all() and np.isin(after, (*ends, _RETURN)).all()
        return bool(fine and not spaced)


def _is_text(block: bytes) -> bool:
    try:
        return block.isascii() or block.decode() is not None
    except UnicodeDecodeError:
        return False


def arrow_csv(
    arrow: Any,
    content: Callable[[], AbstractContextManager[BinaryIO]],
    delimiter: str,
    *,
    check_header: Callable[[list[str]], list[str]],
    written: Collection[str] = (),
) -> ColumnTable | None:
    """The table of a CSV file as the csv module would read it, or None where it has to.

    Args:
        arrow: The library.
        content: Opens the file.
        delimiter: What stands between cells.
        check_header: Gives the names of the columns of those in the header, or raises.
        written: Columns whose cells are wanted as they were written, also where all are numbers.
    """
    if not delimiter.isascii() or delimiter in '" \n\r':
        return None
    with content() as file:
        found = csv_lines(file, delimiter)
        if found is None or len(found.lines) < 2:
            return None
        file.seek(int(found.starts[0]))
        header = file.read(int(found.starts[1] - found.starts[0])).decode("utf-8-sig")
    row = next(csv.reader(io.StringIO(header, newline=""), delimiter=delimiter, strict=True), [])
    if not row:  # a byte-order mark alone
        return None
    names = check_header([name.strip() for name in row])
    columns = [_Growing(name in written) for name in names]
    if not _grown(arrow, content, delimiter, found, columns):
        return None
    late = [column for column in columns if not column.is_complete()]
    if late:  # what looked like numbers has words further down
        for n, column in enumerate(columns):
            columns[n] = _Growing(column.is_kept or column in late)
        if not _grown(arrow, content, delimiter, found, columns):
            return None
    made = {name: column.column(arrow) for name, column in zip(names, columns, strict=True)}
    arrow.default_memory_pool().release_unused()
    return ColumnTable(made, found.lines[1:], "line")


class _Growing:
    """A column of a CSV file while it is read."""

    def __init__(self, is_kept: bool) -> None:
        self.is_kept, self.is_number = is_kept, True
        self._numbers, self._cells = list[np.ndarray](), list[Any]()
        self._marks = frozenset[str]()
        self._misses_cells = False

    def take(self, arrow: Any, cells: Any, *, blanks: bool) -> None:
        if self.is_number:
            bare = arrow.compute.utf8_trim(cells, _BLANKS) if blanks else cells
            numbers, marks = _numbers(arrow, bare)
            self.is_number = numbers is not None
            if numbers is None:
                self._misses_cells = bool(self._numbers) and not self.is_kept
                self._numbers.clear()
            else:
                self._numbers.append(numbers)
                self._marks |= marks
        if self.is_kept or not self.is_number:
            self._cells.append(cells)

    def is_complete(self) -> bool:
        return not self._misses_cells

    def column(self, arrow: Any) -> DataColumn:
        numbers = np.concatenate(self._numbers) if self.is_number else None
        self._numbers.clear()
        if self._cells:
            cells = arrow.chunked_array(self._cells)
            return DataColumn(lambda: _objects(cells), numbers, self._marks)
        return DataColumn(
            lambda: text_array([repr(value) for value in numbers.tolist()]),  # type: ignore[union-attr]
            numbers,
            self._marks,
        )


def _grown(
    arrow: Any,
    content: Callable[[], AbstractContextManager[BinaryIO]],
    delimiter: str,
    found: CsvLines,
    columns: Sequence[_Growing],
) -> bool:
    """Reads the rows into the columns; False where pyarrow finds other rows or cells."""
    count = 0
    try:
        threads = arrow.cpu_count()
        with content() as file, ThreadPoolExecutor(threads) as pool:
            apply = pool.map if threads > 1 else map
            for batch in _batches(arrow, file, delimiter, found, len(columns)):
                count += batch.num_rows

                def grow(n: int, batch: Any = batch) -> None:
                    cells = batch.column(n)
                    if found.blanks:
                        cells = arrow.compute.utf8_ltrim(cells, " ")
                    columns[n].take(arrow, cells, blanks=found.blanks)

                list(apply(grow, range(len(columns))))
    except (arrow.ArrowException, _UnlikeCsv):
        return False
    return count == len(found.lines) - 1


def _batches(
    arrow: Any, file: BinaryIO, delimiter: str, found: CsvLines, count: int
) -> Iterator[Any]:
    library = needed("pyarrow.csv", extra="tables", what="CSV")
    names = [str(n) for n in range(count)]
    longest = int(np.diff(found.starts).max())
    file.seek(int(found.starts[1]))
    reader = library.open_csv(
        arrow.PythonFile(file, mode="r"),
        read_options=library.ReadOptions(column_names=names, block_size=max(_BLOCK, 2 * longest)),
        parse_options=library.ParseOptions(delimiter=delimiter, newlines_in_values=found.breaks),
        convert_options=library.ConvertOptions(
            column_types={name: arrow.string() for name in names}, check_utf8=False
        ),
    )
    for batch in reader:
        if longest > _LONGEST_CELL:
            for column in batch.columns:
                if (arrow.compute.max(arrow.compute.utf8_length(column)).as_py() or 0) > (
                    _LONGEST_CELL
                ):
                    raise _UnlikeCsv
        yield batch


class _UnlikeCsv(Exception):  # noqa: N818 (it leaves this module as an answer)
    """The csv module reads this in another way."""


def _numbers(arrow: Any, cells: Any) -> tuple[np.ndarray | None, frozenset[str]]:
    """The numbers of cells without white space around them, as text_column finds them."""
    compute = arrow.compute
    if compute.any(compute.match_substring_regex(cells, _CODE)).as_py():
        return None, frozenset()
    values, marks = _cast(arrow, cells, arrow.float64()), frozenset[str]()
    if values is None:
        gone = compute.is_in(cells, value_set=arrow.array(ABSENT))
        marks = frozenset(compute.unique(cells.filter(gone)).to_pylist())
        values = _cast(arrow, compute.if_else(gone, None, cells), arrow.float64())
    found = np.empty(0) if values is None else values.to_numpy(zero_copy_only=False)
    if values is None or np.isfinite(found).sum() + values.null_count < len(cells):
        made = text_column(cells.to_pylist())
        return made.numbers, made.marks
    if not values.null_count and (found == np.floor(found)).all():
        whole = _cast(arrow, cells, arrow.int64())
        if whole is not None:
            if compute.any(compute.equal(cells, "-0")).as_py():
                raise _UnlikeCsv  # 0 among whole numbers, -0.0 where fractions follow
            return whole.to_numpy(), marks
    return found, marks


def _cast(arrow: Any, cells: Any, kind: Any) -> Any:
    """The cells as numbers; None where they are none. Costs much where most are none."""
    try:
        return cells.cast(kind)
    except arrow.ArrowInvalid:
        return None


def _objects(cells: Any) -> np.ndarray:
    """Strings as objects [N]; equal ones are one object."""
    coded = cells.dictionary_encode().combine_chunks()
    if not isinstance(coded, list) and hasattr(coded, "dictionary"):
        words = text_array(coded.dictionary.to_pylist())
        return np.asarray(words[coded.indices.to_numpy(zero_copy_only=False)])
    return text_array(cells.to_pylist())


def from_arrow(table: Any) -> ColumnTable:
    """The columns of a pyarrow Table.

    Raises:
        EigenforgetError: Values are neither numbers, words nor times.
    """
    columns = {name: typed_arrow_column(table.column(name), name) for name in table.column_names}
    return ColumnTable(columns, np.arange(table.num_rows), "row")


def typed_arrow_column(column: Any, name: str) -> DataColumn:
    """A column of a pyarrow Table, which is let go where its numbers tell all that it holds.

    Raises:
        EigenforgetError: Values are neither numbers, words nor times.
    """
    arrow = needed("pyarrow", extra="tables", what="Parquet")
    kinds, kind = arrow.types, column.type
    if kinds.is_dictionary(kind):
        return typed_arrow_column(column.cast(kind.value_type), name)
    if kinds.is_decimal(kind):
        column = column.cast(arrow.float64())
    elif (kinds.is_temporal(kind) and not kinds.is_duration(kind)) or _is_view(kinds, kind):
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
    numbers = _typed_numbers(arrow, column)
    if numbers is None or (column.null_count and not kinds.is_floating(column.type)):
        return DataColumn(lambda: _cell_texts(column), numbers)
    return DataColumn(lambda: _texts(numbers.tolist()), numbers)


def _is_view(kinds: Any, kind: Any) -> bool:
    return bool(hasattr(kinds, "is_string_view") and kinds.is_string_view(kind))


def _typed_numbers(arrow: Any, column: Any) -> np.ndarray | None:
    kinds, kind = arrow.types, column.type
    if column.null_count == len(column):
        return np.full(len(column), np.nan)
    if kinds.is_boolean(kind) and not column.null_count:
        return np.asarray(column.to_numpy())
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return None
    if kinds.is_integer(kind):
        if kinds.is_uint64(kind) and arrow.compute.max(column).as_py() >= 2**63:
            return None
        if not column.null_count:
            return np.asarray(column.to_numpy()).astype(np.int64)
    if not kinds.is_float16(kind):
        column = column.cast(arrow.float64(), safe=False)
    return np.asarray(column.to_numpy()).astype(np.float64)


def _cell_texts(column: Any) -> np.ndarray:
    if str(column.type) in ("string", "large_string"):
        return _objects(column.fill_null(""))
    return _texts(column.to_pylist())


def _texts(cells: Sequence[Any]) -> np.ndarray:
    return text_array(["" if cell is None or cell != cell else repr(cell) for cell in cells])
