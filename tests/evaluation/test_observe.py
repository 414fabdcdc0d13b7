"""Parts, batches and pairs of a model's outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.evidence import PartOutputs
from eigenforget.evaluation.observe import CHUNK, batches, pairs, parts_of
from eigenforget.requests.splitting import gone_classes
from tests.toys import CLASSES


def source(labels: list[int], seed: int = 0) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor(labels)
    return TensorSource(torch.eye(8)[y] * 2 + 0.5 * torch.randn(len(y), 8, generator=g), y)


FORGET, RETAIN, TEST = source([2] * 20), source([0, 1, 3] * 20, 1), source([0, 1, 2, 3] * 15, 2)


def test_parts_divide_the_test_set_by_the_classes_that_are_gone() -> None:
    assert gone_classes(FORGET.labels(), retain=RETAIN.labels()).classes == (2,)
    parts = parts_of(FORGET, retain=RETAIN, test=TEST, forgotten_classes=(2,))
    assert set(parts["test_forget"].labels()) == {2} and set(parts["test_retain"].labels()) == {
        0,
        1,
        3,
    }
    assert len(parts["test_forget"]) + len(parts["test_retain"]) == len(TEST)
    assert list(parts_of(FORGET, retain=RETAIN, test=TEST, forgotten_classes=())) == [
        "forget",
        "retain",
        "test_retain",
    ]
    with pytest.raises(EigenforgetError, match="no sample of a retained class"):
        parts_of(FORGET, retain=RETAIN, test=source([2, 2]), forgotten_classes=(2,))


def rows_of(n: int, *, first: int = 0, width: int = 3) -> PartOutputs:
    rng = np.random.default_rng(n)
    return PartOutputs(
        rng.normal(size=(n, CLASSES)).astype(np.float32),
        rng.normal(size=(n, width)).astype(np.float32),
        np.arange(n) % CLASSES,
        np.arange(first, first + n),
    )


def test_a_forgotten_class_without_test_samples_is_a_warning() -> None:
    with pytest.warns(EigenforgetWarning, match="class 2, which is forgotten"):
        parts = parts_of(FORGET, retain=RETAIN, test=source([0, 1]), forgotten_classes=(2,))
    assert list(parts) == ["forget", "retain", "test_retain"]


def test_batches_and_pairs_give_all_rows_once_in_order() -> None:
    rows, other = (
        rows_of(2 * CHUNK + 5),
        rows_of(2 * CHUNK + 5, width=7)._replace(logits=np.zeros((2 * CHUNK + 5, 4), np.float32)),
    )
    fed = list(batches(rows))
    assert [len(b.labels) for b, _ in fed] == [CHUNK, CHUNK, 5]
    assert np.array_equal(torch.cat([o.features for _, o in fed]), rows.features)
    assert np.array_equal(torch.cat([b.positions for b, _ in fed]), rows.positions)
    for reads in ("logits", "features"):
        labels, mine, theirs = (
            torch.cat(column) for column in zip(*pairs(rows, other, reads), strict=True)
        )
        assert np.array_equal(labels, rows.labels)
        assert np.array_equal(mine, getattr(rows, reads)) and np.array_equal(
            theirs, getattr(other, reads)
        )


def test_pairs_of_other_samples_are_refused() -> None:
    rows = rows_of(8)
    swapped = rows._replace(positions=rows.positions[[1, 0, *range(2, 8)]])
    for other in (
        rows_of(7),
        rows_of(8, first=1),
        swapped,
        rows._replace(labels=rows.labels[::-1].copy()),
    ):
        with pytest.raises(EigenforgetError, match="same samples in the same order"):
            list(pairs(rows, other, "logits"))
