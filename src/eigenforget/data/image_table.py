"""Your own images, which a table names or holds."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import NonEmpty
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.data.arrow_tables import from_arrow
from eigenforget.data.bundle import Data
from eigenforget.data.columns import ColumnTable
from eigenforget.data.image_folder import KeepField, MemoryGib, Workers
from eigenforget.data.images import Images, ImageStorage, decoded, image_data, say_of_turned
from eigenforget.data.normalisation import Normalize
from eigenforget.data.readers import parquet_table, read_columns
from eigenforget.data.rows import SIDES, HoldoutShare, Roles, Rows, rows_of
from eigenforget.data.table import (
    Delimiter,
    Drop,
    Fraction,
    Group,
    Id,
    Label,
    SplitColumn,
    SplitSeed,
)
from eigenforget.data.torchvision_set import Size


@configured
class ImageTable:
    """Images that a .csv, .tsv, .jsonl or .parquet file names, or that a .parquet file holds.

    A column of words holds paths, relative to the folder of the file. In .parquet it may hold the
    images themselves, as bytes or as Hugging Face stores them ({"bytes", "path"}), whose names of
    classes are taken. Without an id column the ids are the paths if they all differ, else
    "row/<row>". The columns besides the image are columns of the Index. Images become inputs as in
    image_folder.
    """

    name: ClassVar[str] = "image_table"
    path: Annotated[NonEmpty, "the file, with a header"]
    image: Annotated[NonEmpty, "column with the images or their paths"] = "image"
    label: Label = "label"
    id: Id = ""
    group: Group = ""
    split: SplitColumn = ""
    test_fraction: Fraction = 0.2
    seed: SplitSeed = 0
    drop: Drop = ()
    size: Size = 0
    keep: KeepField = "auto"
    memory_gib: MemoryGib = 2.0
    workers: Workers = 0
    delimiter: Delimiter = ""
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Reads the file and the images.

        Raises:
            EigenforgetError: A column or an image is missing, or what table and image_folder
                refuse; the message names the file.
        """
        try:
            roles = Roles(self.label, self.id, self.group, self.split, self.drop)
            given = self._rows((*roles.named(), self.image))
            rows = rows_of(
                given.records,
                roles,
                HoldoutShare(self.test_fraction, self.seed),
                class_names=given.class_names,
                besides=(self.image,),
            )
            return self._data(given, rows)
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None

    def _rows(self, named: tuple[str, ...]) -> _ImageRows:
        path = Path(self.path)
        if path.suffix.lower() != ".parquet":
            records = read_columns(path, self.delimiter, named)
            paths = records.column(self.image, "image").text
            return _ImageRows(records, paths.__getitem__, paths, None)
        table = parquet_table(path)
        if self.image not in table.column_names:
            raise EigenforgetError(
                f"there is no column {self.image!r} (image); the columns: "
                f"{listed(table.column_names, 30)}"
            )
        images = table.column(self.image).combine_chunks()
        records = from_arrow(table.drop_columns([self.image]))
        if not len(records):
            raise EigenforgetError("the file has no rows")
        names = _class_names(table.schema.metadata or {}, self.label)
        return _ImageRows(records, _ArrowCells(images), _paths(images), names)

    def _data(self, given: _ImageRows, rows: Rows) -> Data:
        if not self.id and given.paths is not None and len(set(given.paths)) == len(given.records):
            rows = replace(rows, known=rows.known._replace(ids=given.paths.astype(np.str_)))
        sides = {}
        for side in SIDES:
            positions = rows.positions(side)
            where = [f"{given.records.unit} {place}" for place in given.records.places[positions]]
            read = _Cells(given.cell, positions, where, Path(self.path).parent, self.size or None)
            sides[side] = Images(read, rows.labels[positions], *rows.known.rows(positions))
        data = image_data(
            sides,
            keeping=ImageStorage(self.keep, self.memory_gib, self.workers),
            class_names=rows.class_names,
            normalize=self.normalize,
        )
        say_of_turned(sides.values())
        return data


class _ImageRows(NamedTuple):
    """What the file holds.

    Args:
        records: The columns besides the images.
        cell: Gives the image of a row as it stands in the file.
        paths: Of all images, objects [N], or None.
        class_names: Names of the classes, where the file has them beside the table.
    """

    records: ColumnTable
    cell: Callable[[int], Any]
    paths: np.ndarray | None
    class_names: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class _ArrowCells:
    """The cells of a pyarrow array."""

    cells: Any

    def __call__(self, row: int) -> Any:
        return self.cells[row].as_py()


@dataclass(frozen=True, eq=False)
class _Cells:
    """The n-th image of some rows."""

    cell: Callable[[int], Any]
    rows: np.ndarray
    where: list[str]
    folder: Path
    size: int | None
    turned: set[int] = field(default_factory=set)

    def __call__(self, n: int) -> np.ndarray:
        found = self.cell(int(self.rows[n]))
        if isinstance(found, dict):
            found = found.get("bytes") or found.get("path")
        if not found or not isinstance(found, (bytes, str)):
            raise EigenforgetError(f"{self.where[n]} has no image, but {type(found).__name__}")
        what, turned = self.where[n], lambda: self.turned.add(n)
        if isinstance(found, bytes):
            return decoded(io.BytesIO(found), self.size, what, turned)
        file = self.folder / found
        if not os.path.isfile(file):  # False also for what is no name of a file; a pipe would block
            raise EigenforgetError(f"{what}: there is no file {str(file)!r}")
        return decoded(file, self.size, f"{what}: {file}", turned)


def _paths(images: Any) -> np.ndarray | None:
    """The paths [N] in a column of images; None where some have none."""
    kind = str(images.type)
    if kind.startswith("struct") and images.type.get_field_index("path") >= 0:
        images = images.field("path")
    elif kind not in ("string", "large_string"):
        return None
    return None if images.null_count else np.array(images.to_pylist(), dtype=object)


def _class_names(metadata: Any, label: str) -> tuple[str, ...] | None:
    """The names of the classes that Hugging Face writes into a file."""
    try:
        known = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(map(str, known)) or None
    except (LookupError, TypeError, ValueError):
        return None
