"""What sources share, by position in one dataset or by content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import Samples, TensorSource, as_source, content
from eigenforget.data.sources.content import (
    check_overlap,
    check_reading,
    content_rows,
    overlap,
    reads_the_same,
)
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
    copies = False

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        position %= 2 if self.copies else self.rows
        return torch.full((3,), float(position)), position % 2


@pytest.mark.parametrize("source", [images(), texts()])
def test_samples_in_memory_are_compared_by_their_inputs(source: Any) -> None:
    one, other = source.subset(np.arange(8)), source.subset(np.arange(5, 20))
    assert overlap(one, other=other) == 3 == overlap(other, other=one)
    assert overlap(one, other=source.subset(np.arange(8, 20))) == 0
    relabelled = TensorSource(other.inputs, (other.targets + 1) % 3)
    assert overlap(one, other=relabelled) == 3
    assert overlap(one, other=other, rows=lambda s: [*content_rows(s)[:-1], str(len(s))]) == 2


def test_parts_of_one_dataset_are_compared_by_position_at_any_depth() -> None:
    whole = Noisy()
    one = as_source(Subset(whole, [1, 2, 3]))
    assert overlap(one, other=as_source(whole)) == 3
    assert overlap(one, other=as_source(Subset(Subset(whole, [0, 3, 4]), [1, 2]))) == 1
    assert overlap(one, other=as_source(Subset(whole, [0, 4]))) == 0
    assert overlap(one, other=as_source(Subset(whole, [3, 4])), rows=content_rows) == 1


def test_other_datasets_are_read_where_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = as_source(Plain(5)), as_source(Plain(12))
    assert overlap(one, other=other) == 5
    monkeypatch.setattr(content, "READ", 16)
    assert overlap(one, other=other) is None
    assert (
        overlap(one, other=other, rows=content_rows)
        == 5
        == overlap(one, other=other, at_any_cost=True)
    )


def test_copies_within_one_dataset_count_too() -> None:
    whole = Plain(4)
    whole.copies = True
    one, other = as_source(Subset(whole, [0, 1])), as_source(Subset(whole, [1, 2, 3]))
    assert overlap(one, other=other) == 3, "1 by position, 2 and 3 as copies of 0 and 1"


def test_samples_that_differ_each_time_are_not_compared_by_content() -> None:
    noisy = as_source(Noisy(12))
    assert overlap(noisy, other=as_source(Plain(5))) is None
    assert overlap(noisy, other=as_source(Noisy(12)), at_any_cost=True) is None
    state = torch.get_rng_state()
    assert not reads_the_same(noisy) and reads_the_same(as_source(Plain(5)))
    assert reads_the_same(images()) and torch.equal(torch.get_rng_state(), state)
    assert reads_the_same(as_source(Samples(Noisy(5), clean=Plain(5))))


def test_reading_that_differs_is_one_line_with_the_ways_out() -> None:
    with pytest.raises(EigenforgetError, match=r"^x: .*eval_transform=.*clean=.*allow_random=True"):
        check_reading(as_source(Noisy()), "x")
    check_reading(as_source(Samples(Noisy(), allow_random=True)), "x")
    check_reading(as_source(Plain()), "x")


def test_inputs_that_are_no_tensors_cannot_be_compared() -> None:
    pairs = [((torch.ones(2), torch.ones(2)), 0)] * 3
    with pytest.raises(EigenforgetError, match="list"):
        content_rows(as_source(pairs))


def test_shared_samples_are_one_line_that_says_how_many() -> None:
    check_overlap("retain set", of="forget set", count=0)
    with pytest.raises(EigenforgetError, match=r"17 samples of the retain set.*allow_overlap"):
        check_overlap("retain set", of="forget set", count=17)
