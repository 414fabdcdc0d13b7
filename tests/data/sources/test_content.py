"""What sources share, by position in one dataset or by content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import TensorSource, as_source, content
from eigenforget.data.sources.content import check_overlap, content_rows, overlap
from tests.data.sources.toys import images, texts


class Noisy(Dataset[Any]):
    """Every reading of a sample differs, as with random augmentation."""

    def __init__(self, rows: int = 20) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return torch.randn(3), position % 2


class Plain(Noisy):
    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return torch.full((3,), float(position)), position % 2


@pytest.mark.parametrize("source", [images(), texts()])
def test_samples_in_memory_are_compared_by_their_inputs(source: Any) -> None:
    one, other = source.subset(np.arange(8)), source.subset(np.arange(5, 20))
    assert overlap(one, other) == 3 == overlap(other, one)
    assert overlap(one, source.subset(np.arange(8, 20))) == 0
    relabelled = TensorSource(other.inputs, (other.targets + 1) % 3)
    assert overlap(one, relabelled) == 3
    assert overlap(one, other, rows=lambda s: content_rows(s)[:-1]) == 2


def test_parts_of_one_dataset_are_compared_by_position_at_any_depth() -> None:
    whole = Noisy()
    one = as_source(Subset(whole, [1, 2, 3]))
    assert overlap(one, as_source(whole)) == 3
    assert overlap(one, as_source(Subset(Subset(whole, [0, 3, 4]), [1, 2]))) == 1
    assert overlap(one, as_source(Subset(whole, [0, 4]))) == 0


def test_other_datasets_are_read_where_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = as_source(Plain(5)), as_source(Plain(12))
    assert overlap(one, other) == 5
    monkeypatch.setattr(content, "READ", 16)
    assert overlap(one, other) == 0
    assert overlap(one, other, rows=content_rows) == 5


def test_shared_samples_are_one_line_that_says_how_many() -> None:
    check_overlap("retain set", of="forget set", count=0)
    with pytest.raises(EigenforgetError, match=r"17 samples of the retain set.*allow_overlap"):
        check_overlap("retain set", of="forget set", count=17)
