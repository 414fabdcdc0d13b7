"""Tables: your own, from a file, and the small ones that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Between01, NonEmpty, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.data.bundle import Data
from eigenforget.data.columns import ColumnTable, typed_column
from eigenforget.data.encoding import Missing, contents, encoded, features_of
from eigenforget.data.normalisation import Normalize
from eigenforget.data.readers import read_columns
from eigenforget.data.rows import HoldoutShare, Roles, Rows, rows_of

Label = Annotated[NonEmpty, "column with the class: integers, used as they are, or names"]
Id = Annotated[str, "column with unique ids; '' for row/<row>"]
Group = Annotated[str, "column with groups, such as persons; '' for none"]
SplitColumn = Annotated[
    str, "column with train or test in each row; '' for a stratified, seeded split"
]
Fraction = Annotated[Between01, "share held out where no split is given"]
SplitSeed = Annotated[WholeNumber, "which samples are held out"]
Drop = Annotated[tuple[str, ...], "columns that are not used at all, a tuple"]
Delimiter = Annotated[
    str, Field(max_length=1), "between the cells of a .csv file; '' takes that of its header"
]


@configured
class TableFile:
    """Rows of a .csv, .tsv, .jsonl or .parquet file, or of .csv.gz, as input vectors [N, D].

    Parquet needs pip install 'eigenforget[tables]'. Every column without another role is an input.
    Numbers are standardised with the mean and standard deviation of the training rows, unless
    `normalize` says otherwise. After the numbers, each column named as categorical becomes one
    input per category of the training rows, in sorted order. A category that only test rows have is
    0 in all of them. Every column that is not dropped is also a column of the Index, for requests
    such as where(column='age', op='<', value=18). The content of a row is the hash of its inputs.
    """

    name: ClassVar[str] = "table"
    path: Annotated[str, "the file, with a header"]
    label: Label
    id: Id = ""
    group: Group = ""
    split: SplitColumn = ""
    test_fraction: Fraction = 0.2
    seed: SplitSeed = 0
    drop: Drop = ()
    categorical: Annotated[tuple[str, ...], "columns whose values are categories, a tuple"] = ()
    missing: Annotated[
        Missing,
        "missing values: 'error' reports them, 'mean' takes the mean of the training rows, or no "
        "category",
    ] = "error"
    delimiter: Delimiter = ""
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Reads the file.

        Raises:
            EigenforgetError: The file cannot be read, is ragged or empty, lacks a column, has words
                in a numeric column, missing values (but see `missing`) or repeated ids; the message
                names the file, and the column or line.
        """
        try:
            roles = Roles(self.label, self.id, self.group, self.split, self.drop)
            named = (*roles.named(), *self.categorical)
            records = read_columns(Path(self.path), self.delimiter, named)
            rows = rows_of(records, roles, HoldoutShare(self.test_fraction, self.seed))
            return tabulated(
                records,
                roles,
                rows,
                self.categorical,
                missing=self.missing,
                normalize=self.normalize,
            )
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None


@configured
class Builtin:
    """A small table that comes with scikit-learn.

    These are iris (150 rows, 4 inputs, 3 classes), wine (178, 13, 3) and breast_cancer (569, 30,
    2). The ids are "<dataset>/<row>" with scikit-learn's row, whatever the split; classes are in
    scikit-learn's order. The measurements are also columns of the Index.
    """

    name: ClassVar[str] = "builtin"
    dataset: Annotated[Literal["iris", "wine", "breast_cancer"], "which table"] = "iris"
    test_fraction: Fraction = 0.2
    seed: SplitSeed = 0
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Loads the table."""
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.dataset}")()
        rows = np.arange(len(bunch.target))
        columns = {
            str(name): typed_column(bunch.data[:, n].tolist())
            for n, name in enumerate(bunch.feature_names)
        }
        columns |= {
            "label": typed_column(bunch.target.tolist()),
            "id": typed_column([f"{self.dataset}/{row}" for row in rows]),
        }
        records, roles = ColumnTable(columns, rows, "row"), Roles(label="label", id="id")
        names = tuple(map(str, bunch.target_names))
        made = rows_of(
            records, roles, HoldoutShare(self.test_fraction, self.seed), class_names=names
        )
        return tabulated(records, roles, made, (), missing="error", normalize=self.normalize)


def tabulated(
    records: ColumnTable,
    roles: Roles,
    rows: Rows,
    categorical: tuple[str, ...],
    *,
    missing: Missing,
    normalize: str,
) -> Data:
    """The Data of a table; see TableFile."""
    features = features_of(records, roles.named(), categorical)
    made = encoded(records, features, rows, missing=missing, normalize=normalize)
    return rows.data(
        made.inputs,
        contents(records, features),
        normalisation=made.normalisation,
        encoding=made.encoding,
    )
