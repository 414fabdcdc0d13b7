"""The index: unique ids, checked columns, its digest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Index, digest_of_rows


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1, 2]}, r"index column x must be one value for each of the 3 ids, got \[2\]"),
        ({"x": np.zeros((3, 2))}, r"got \[3, 2\]"),
        ({"x": [1, None, "a"]}, "x must hold integers, floats, strings or bools, got object"),
        ({"x": np.array(["2024-05-31"] * 3, dtype="datetime64[D]")}, "write dates as 2024-05-31"),
        ({"label": [1, 2, 3]}, "cannot be named 'label'"),
        ({"id": [1, 2, 3]}, "cannot be named 'id'"),
    ],
)
def test_wrong_columns(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        Index(np.array(["a", "b", "c"]), np.zeros(3, dtype=int), columns=columns)


def test_columns_enter_the_digest_by_name_type_and_value() -> None:
    ids, labels = np.array(["a", "b"]), np.array([0, 1])
    made: list[dict[str, Any]] = [
        {},
        {"x": [1, 2]},
        {"x": [2, 1]},
        {"y": [1, 2]},
        {"x": ["1", "2"]},
        {"x": [1, 2], "y": [1, 2]},
    ]
    assert len({Index(ids, labels, columns=columns).digest() for columns in made}) == len(made)
    assert Index(ids, labels, columns={}).digest() == Index(ids, labels).digest()
    both = {"x": [1, 2], "y": [3, 4]}
    assert (
        Index(ids, labels, columns=both).digest()
        == Index(ids, labels, columns=dict(reversed(both.items()))).digest()
    )


def test_the_index_keeps_its_columns_when_the_callers_mapping_changes() -> None:
    given_ = {"x": np.array([1, 2])}
    data = Index(np.array(["a", "b"]), np.array([0, 1]), columns=given_)
    before = data.digest()
    given_["y"] = np.array([3, 4])
    assert data.digest() == before and list(data.columns) == ["x"]
    assert list(
        Index(data.ids, data.labels, columns={"s": np.array(["p", "q"], dtype=object)}).column("s")
    ) == ["p", "q"]


def test_ids_must_be_unique() -> None:
    with pytest.raises(EigenforgetError, match="repeated: a"):
        Index(np.array(["a", "b", "a"]), np.zeros(3, dtype=int))


def test_the_digest_is_that_of_the_sorted_rows() -> None:
    ids = np.array(["b", "a", "a!", "a\t", "ab", "", "é"])
    for names in (ids, np.append(ids[:-1], "a\x1fb")):
        known = {"x": np.arange(7) / 3, "s": names[::-1]}
        index = Index(names, np.arange(7) % 2, columns=known)
        rows = [
            f"{name}\x1f{label}\x1fs:U={s}\x1fx:f={x}"
            for name, label, s, x in zip(
                names, index.labels, known["s"], known["x"].tolist(), strict=True
            )
        ]
        assert index.digest() == digest_of_rows(rows)


def test_rows_by_id_do_not_depend_on_their_order() -> None:
    index = Index(np.array(["c", "a", "d", "b"]), np.zeros(4, dtype=int))
    assert index.by_id(np.array([0, 2, 3])).tolist() == [3, 0, 2]
    assert index.by_id(np.array([3, 2, 0])).tolist() == [3, 0, 2]
    rows, permuted = np.array([3, 2, 0]), np.random.default_rng(1).permutation(3)[:2]
    drawn = index.drawn(rows, 2, np.random.default_rng(1))
    assert drawn.tolist() == [[3, 0, 2][i] for i in permuted]
