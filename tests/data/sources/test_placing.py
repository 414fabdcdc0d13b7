"""Samples on the device of a training: all of them or none, and the same batches."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from eigenforget.data.sources import DatasetSource, JoinedSource, TensorSource
from eigenforget.data.sources.placing import near, room_on

META = torch.device("meta")
"""Stands for another device: tensors there have a form and no numbers."""


def tensors(rows: int) -> TensorSource:
    return TensorSource(torch.arange(2.0 * rows).view(rows, 2), torch.arange(rows))


def test_all_samples_move_where_they_fit_and_none_where_they_do_not() -> None:
    joined = JoinedSource((tensors(3), tensors(4)))
    named = TensorSource({"a": torch.zeros(5, 2)}, torch.arange(5))
    read = DatasetSource(TensorDataset(torch.zeros(2, 2), torch.arange(2)))
    sources = (joined, named, read)
    size = 7 * (2 * 4 + 8) + 5 * (2 * 4 + 8)
    assert near(sources, META, size - 1) == sources
    first, second, third = near(sources, META, size)
    assert isinstance(first, JoinedSource) and third is read
    assert isinstance(second, TensorSource) and isinstance(second.inputs, dict)
    moved = [part.targets for part in first.parts if isinstance(part, TensorSource)]
    assert {tensor.device for tensor in (*moved, second.targets, second.inputs["a"])} == {META}
    assert len(moved) == 2 and [len(source) for source in (first, second)] == [7, 5]


def test_samples_that_are_there_stay_the_same_objects() -> None:
    here, source = torch.device("cpu"), tensors(3)
    assert near([source], here, 10**9) == (source,) and room_on(here) == 0


def test_batches_on_another_device_have_the_rows_of_a_pass_here() -> None:
    source = tensors(5)
    (there,) = near([source], META, 10**9)
    here = list(source.batches(2, torch.Generator().manual_seed(0)))
    forms = [batch.inputs.shape for batch in there.batches(2, torch.Generator().manual_seed(0))]
    assert forms == [batch.inputs.shape for batch in here] and len(here) == 2
