"""`eigenforget export --format parquet`: the table of records as a file for data frames."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from eigenforget.core.errors import NotWritten
from eigenforget.core.extras import needed
from eigenforget.record import RunRecord
from eigenforget.report.pages.export import frame


def write_parquet(records: Sequence[RunRecord], path: Path, scores: Sequence[str] = ()) -> Path:
    """One row for each model with the columns of report.export.frame: text, or float64 with null
    where there is no value.

    The file is written as a whole, or not at all. Errors: RecordError for an unknown score,
    EigenforgetError without pyarrow, NotWritten.
    """
    arrow, parquet = (
        needed(name, extra="tables", what="the Parquet format")
        for name in ("pyarrow", "pyarrow.parquet")
    )
    found = frame(records, scores)
    types = [arrow.string() if name in found.texts else arrow.float64() for name in found.names]
    columns = list(zip(*found.rows, strict=True))
    table = arrow.table(
        [arrow.array(c, t) for c, t in zip(columns, types, strict=True)], names=list(found.names)
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        parquet.write_table(table, draft)
        os.replace(draft, path)
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return path
