"""Samples by their rows."""

from __future__ import annotations

import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.requests import ByRows, personal_fields, split
from tests.requests.toys import index


def test_rows_are_counted_from_0_and_those_outside_are_named() -> None:
    labels = [0, 1, 0, 1, 0]
    assert list(split(ByRows(rows=(3, 0, 3)), index(labels)).forget) == [0, 3]
    assert list(split(ByRows(rows=2), index(labels)).forget) == [2]  # type: ignore[arg-type]
    with pytest.raises(EigenforgetError, match=r"rows 5, -1 are not .* rows 0 to 4"):
        split(ByRows(rows=(5, -1)), index(labels))
    with pytest.raises(EigenforgetError, match="by_rows selects nothing"):
        split(ByRows(rows=()), index(labels))
    # A row names a sample, and so a person: with --hash-ids it is hidden.
    assert "rows" in personal_fields(ByRows(rows=(1,)))["by_rows"].kinds
