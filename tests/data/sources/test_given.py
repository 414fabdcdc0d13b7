"""Sources of what users give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import (
    DatasetSource,
    TensorSource,
    as_source,
)
from tests.data.sources.toys import (
    Dicts,
    Points,
    assert_same,
    flat,
    passes,
    points,
    texts,
)


@pytest.mark.parametrize("seed", [None, 5])
def test_dicts_of_tensors_datasets_and_loaders_give_the_same_batches(seed: int | None) -> None:
    tensors = texts()
    assert isinstance(tensors.inputs, dict)
    given = {name: value.numpy() for name, value in tensors.inputs.items()}
    kinds = [
        as_source((tensors.inputs, tensors.targets)),
        as_source((given, tensors.targets.numpy().astype(np.uint8))),
        as_source([given, tensors.targets.tolist()]),
        as_source(Dicts(tensors)),
        as_source(DataLoader(Dicts(tensors), batch_size=3, shuffle=True)),
        as_source(DataLoader(Dicts(tensors), batch_size=3, num_workers=2)),
    ]
    for source in kinds:
        np.testing.assert_array_equal(source.labels(), tensors.labels())
        assert source.labels().dtype == np.int64
        assert_same(flat(source, 4, seed), flat(tensors, 4, seed))
        rows = np.array([4, 1, 9, 4])
        assert_same(flat(source.subset(rows), 3, seed), flat(tensors.subset(rows), 3, seed))


def test_numpy_arrays_of_every_layout() -> None:
    wide = np.arange(24.0).reshape(6, 4)
    frozen = wide.copy()
    frozen.flags.writeable = False
    labels = np.array([0, 1, 2, 0, 1, 2])
    for array in (
        wide,
        frozen,
        wide[:, ::-1][:, ::-1],
        np.asfortranarray(wide),
        wide.astype(">f8"),
        wide.astype(np.longdouble),
    ):
        source = as_source((array, labels[::-1]))
        assert isinstance(source, TensorSource) and isinstance(source.inputs, Tensor)
        assert source.inputs.dtype == torch.float32 and torch.equal(
            source.inputs, torch.arange(24.0).view(6, 4)
        )
        assert source.labels().tolist() == [2, 1, 0, 2, 1, 0]
    double = as_source((torch.ones(2, 3, dtype=torch.float64), torch.tensor([0, 1])))
    assert (
        isinstance(double, TensorSource)
        and isinstance(double.inputs, Tensor)
        and double.inputs.dtype == torch.float64
    )
    small = as_source((np.ones((2, 3), np.float16), labels[:2]))
    assert (
        isinstance(small, TensorSource)
        and isinstance(small.inputs, Tensor)
        and small.inputs.dtype == torch.float16
    )
    # Two samples in a list are a dataset, not a pair of inputs and labels.
    pairs = as_source([(torch.ones(3), 1), (torch.zeros(3), 0)])
    assert isinstance(pairs, DatasetSource) and pairs.labels().tolist() == [1, 0]


IDS = torch.zeros(2, 3, dtype=torch.long)


BAD = {
    "counts": (
        ({"ids": IDS, "mask": IDS[:1]}, torch.tensor([0, 1])),
        "^1 mask and 2 labels: the counts must be equal$",
    ),
    "float labels": (
        ({"ids": IDS}, np.array([0.0, 1.0])),
        "labels must be a 1-D integer tensor, got torch.float32",
    ),
    "2-D labels": ((IDS, IDS), r"labels must be a 1-D integer tensor, got torch.int64 \[2, 3\]"),
    "words as labels": ((IDS, np.array(["a", "b"])), r"^x: labels must be numbers, got <U1 \[2\]$"),
    "objects": (
        ({"ids": np.array([[None], [1]])}, np.array([0, 1])),
        "^x: ids must be numbers, got object",
    ),
    "empty": (({"ids": IDS[:0]}, torch.zeros(0, dtype=torch.long)), "^x is empty$"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pairs_are_refused_in_one_line(case: str) -> None:
    value, line = BAD[case]
    with pytest.raises(EigenforgetError, match=line) as caught:
        as_source(value, "x")
    assert "\n" not in str(caught.value)


def test_tensors_datasets_and_loaders_give_the_same_batches() -> None:
    tensors = points()
    kinds = [
        as_source((tensors.inputs, tensors.targets)),
        as_source((tensors.inputs.numpy(), tensors.targets.numpy())),
        as_source(TensorDataset(tensors.inputs, tensors.targets)),
        as_source(Points(tensors)),
        as_source(DataLoader(Points(tensors), batch_size=3, shuffle=True)),
    ]
    for source in kinds:
        np.testing.assert_array_equal(source.labels(), tensors.labels())
        for generator in (None, 5):
            for got, want in zip(
                passes(source, generator), passes(tensors, generator), strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        part = source.subset(np.array([4, 1, 9]))
        assert torch.equal(next(part.batches(8)).inputs, tensors.inputs[[4, 1, 9]])


def test_a_loader_with_its_own_sampler_keeps_its_selection() -> None:
    tensors = points()
    source = as_source(
        DataLoader(Points(tensors), batch_size=4, sampler=SubsetRandomSampler([7, 3, 11]))
    )
    assert torch.equal(next(source.batches(8)).inputs, tensors.inputs[[3, 7, 11]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)), "2 .*3 "),
        ((torch.zeros(2, 3), torch.zeros(2)), "1-D integer"),
        ((torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), "x is empty"),
        (3, "int$"),
    ],
)
def test_wrong_data(value: object, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        as_source(value, "x")


def test_a_batch_sampler_keeps_its_selection() -> None:
    data = TensorDataset(torch.arange(30.0)[:, None], torch.arange(30) % 3)
    batches = BatchSampler(SubsetRandomSampler([4, 9, 21]), batch_size=2, drop_last=False)
    assert as_source(DataLoader(data, batch_sampler=batches)).labels().tolist() == [1, 0, 0]
    with pytest.warns(UserWarning, match="4 samples, of which 3 differ"):
        found = as_source(DataLoader(data, batch_sampler=[[4, 9], [9, 21]]))
    assert len(found) == 3


def test_a_sampler_with_replacement_selects_nothing_by_chance() -> None:
    data = TensorDataset(torch.arange(30.0)[:, None], torch.arange(30) % 3)
    weights = torch.ones(30)
    weights[:5] = 0
    for sampler, taken in (
        (RandomSampler(data, replacement=True), 30),
        (WeightedRandomSampler(weights, 30), 25),
    ):
        with pytest.warns(UserWarning, match=f"{taken} of 30"):
            assert len(as_source(DataLoader(data, batch_size=4, sampler=sampler))) == taken
