"""Sources of what users give."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import (
    DatasetSource,
    Samples,
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
        and small.inputs.dtype == torch.float32
    )
    # Two samples in a list are a dataset, not a pair of inputs and labels.
    pairs = as_source([(torch.ones(3), 1), (torch.zeros(3), 0)])
    assert isinstance(pairs, DatasetSource) and pairs.labels().tolist() == [1, 0]


@pytest.mark.parametrize(
    "labels",
    [
        [np.int64(1), np.int64(0)],
        (1, 0),
        np.array([[1], [0]], np.uint8),
        torch.tensor([True, False]),
        np.array([True, False]),
        np.array([1, 0], dtype=object),
    ],
)
def test_whole_numbers_of_every_kind_are_labels(labels: object) -> None:
    for inputs in (torch.ones(2, 3), np.ones((2, 3))):
        source = as_source((inputs, labels))
        assert source.labels().tolist() == [1, 0]
        assert next(source.batches(2)).labels.dtype == torch.int64
    each = as_source([(torch.ones(3), label) for label in labels])  # type: ignore[attr-defined]
    assert each.labels().tolist() == [1, 0]


def test_plain_lists_are_inputs_and_labels() -> None:
    source = as_source(([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0]))
    assert isinstance(source, TensorSource) and source.labels().tolist() == [0, 1, 0]
    for rows in (list(np.ones((3, 2))), list(torch.ones(3, 2))):
        source = as_source((rows, [0, 1, 0]))
        assert isinstance(source, TensorSource) and source.inputs.shape == (3, 2)  # type: ignore[union-attr]


def test_inputs_that_were_computed_with_gradients_have_none() -> None:
    inputs = torch.nn.Linear(3, 3)(torch.ones(4, 3))
    labels = torch.tensor([0, 1, 0, 1])
    for data in (
        (inputs, labels),
        TensorDataset(inputs, labels),
        [(row, 0) for row in inputs],
        {"x": inputs, "labels": labels},
    ):
        batch = next(as_source(data).batches(4)).inputs
        assert not (batch["x"] if isinstance(batch, dict) else batch).requires_grad


IDS = torch.zeros(2, 3, dtype=torch.long)


BAD = {
    "counts": (
        ({"ids": IDS, "mask": IDS[:1]}, torch.tensor([0, 1])),
        "^x: 1 mask and 2 labels: the counts must be equal$",
    ),
    "float labels": (
        ({"ids": IDS}, np.array([0.0, 1.0])),
        r"labels must be a 1-D integer tensor, got torch.float32.*labels.long\(\)",
    ),
    "one-hot": ((IDS, torch.eye(3).long()[:2]), r"got torch.int64 \[2, 3\].*labels.argmax\(1\)"),
    "no labels": ((IDS, None), "^x: labels .*None"),
    "sparse": ((IDS.float().to_sparse(), torch.tensor([0, 1])), "^x: inputs .*sparse.*to_dense"),
    "meta": ((IDS.to("meta"), torch.tensor([0, 1])), "^x: inputs .*meta"),
    "huge labels": ((IDS, [10**30, 1]), "^x cannot be read: .*large"),
    "soft labels": ([(torch.ones(3), torch.ones(2) / 2)] * 3, r"\[3, 2\].*labels.argmax\(1\)"),
    "words as labels": ((IDS, np.array(["a", "b"])), "^x: labels are words .'a', 'b'.*number the"),
    "words in a list": ((IDS, ["b", "a"]), "^x: labels are words .'a', 'b'"),
    "words of a dataset": ([(torch.ones(3), w) for w in "ab"], "^x: labels are words .'a', 'b'"),
    "no tensors": ([(object(), 0), (object(), 1)], "^x: samples cannot be read: .*object"),
    "inputs of two sizes": (
        [(torch.ones(3), 0), (torch.ones(2), 1)],
        "^x: samples cannot be read: .*size.*collate_fn=.*pads",
    ),
    "lists of two lengths": (
        [{"ids": [1] * n, "labels": 0} for n in (1, 2)],
        "^x: samples cannot be read: .*size.*collate_fn=.*pads",
    ),
    "images as they are": (
        [(Image.new("RGB", (2, 2)), 0)] * 3,
        "^x: samples cannot be read: .*PIL.*transform",
    ),
    "words beside tensors": (
        [{"ids": IDS[0], "mask": IDS[0], "author": "me", "labels": 0}] * 3,
        r"'author' .*words.*as in Samples\(data, inputs=\('ids', 'mask'\)\)$",
    ),
    "a spec": ("by_class(label=3)", r"^x must be samples, got 'by_class\(label=3\)'.*commands"),
    "inputs alone": (IDS, r"^x is a Tensor without labels: give \(inputs, labels\)"),
    "row numbers": ([0, 2], r"^x is a list of numbers: .*Subset\(dataset, rows\)"),
    "a table": (type("DataFrame", (), {})(), r"^x is a DataFrame: give \(frame\[\["),
    "several datasets": (
        {"train": SimpleNamespace(features={}), "test": SimpleNamespace(features={})},
        r"^x is a dict of datasets: .*data\['train'\]",
    ),
    "lists in dicts": ([{"ids": [1, 2], "labels": 0}] * 3, r"'ids'.*set_format.*inputs="),
    "objects": (
        ({"ids": np.array([[None], [1]])}, np.array([0, 1])),
        "^x: ids must be numbers, got object",
    ),
    "empty": (({"ids": IDS[:0]}, torch.zeros(0, dtype=torch.long)), "^x is empty$"),
}


class Broken(Dataset[Any]):
    """Raises the error for its last sample."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        if row == 2:
            raise self._error
        return torch.ones(2), 0


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file"), EOFError("cut short"), AssertionError("of width 3")],
    ids=lambda error: type(error).__name__,
)
def test_what_a_dataset_raises_is_one_line(error: Exception) -> None:
    with pytest.raises(
        EigenforgetError, match=r"^x: samples cannot be read: .*(No such|cut|of wi)"
    ):
        as_source(Broken(error), "x")


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


class Own(Points):
    """A dataset whose samples have other labels than its `targets`."""

    def __init__(self, source: TensorSource, moved: int) -> None:
        super().__init__(source)
        self.targets = (source.targets + (torch.arange(len(source)) < moved)) % 3


def test_labels_are_those_of_the_samples_where_the_targets_differ() -> None:
    tensors = points()
    with pytest.warns(EigenforgetWarning, match=r"x: 5 of 23 samples.*Samples\(data, label="):
        found = as_source(Own(tensors, 5), "x")
    assert found.labels().tolist() == tensors.labels().tolist()
    part = found.subset(np.array([4, 1]))
    assert part.labels().tolist() == tensors.labels()[[4, 1]].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_source(Own(tensors, 0))
        as_source(Samples(Own(tensors, 5), label=1))


def test_inputs_and_labels_come_to_one_device() -> None:
    with FakeTensorMode():  # devices without values: there need be no GPU
        x, y = torch.empty(10, 3, device="cuda"), torch.empty(10, dtype=torch.long)
        for inputs in (x, {"ids": x, "mask": torch.ones(10, 3)}):
            batch = next(as_source((inputs, y)).batches(4))
            named = batch.inputs if isinstance(batch.inputs, dict) else {"": batch.inputs}
            assert {t.device.type for t in (*named.values(), batch.labels)} == {"cuda"}
