"""What a user says of her data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import Samples, TensorSource, as_source, unaugmented
from tests.data.sources.toys import points

X, Y = points().inputs, points().targets
INDEX = torch.arange(len(Y))


class Threes(Dataset[Any]):
    """(image, number, label), as datasets that keep ids give them."""

    def __init__(self, transform: Any = None) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        assert isinstance(X, Tensor)
        return X[i] if self.transform is None else self.transform(X[i]), i % 3, int(Y[i])


def noise(x: Tensor) -> Tensor:
    return x + torch.rand(x.shape)


class Rows(Dataset[Any]):
    """Samples with items that torch puts into no batch."""

    def __init__(self, form: Any) -> None:
        self.form = form

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, i: int) -> Any:
        assert isinstance(X, Tensor)
        return self.form({"image": X[i], "picture": object(), "who": None, "label": int(Y[i])})


@pytest.mark.parametrize("inputs", [0.5, (0, 1), {"x": None}, [("a",)]])
def test_inputs_that_name_nothing_are_one_line(inputs: Any) -> None:
    with pytest.raises(EigenforgetError, match=r"^Samples: inputs= is a position, .* got "):
        Samples((X, Y), inputs=inputs)
    with pytest.raises(
        EigenforgetError, match=r"^Samples: label= is a position or a name, got 0.5"
    ):
        Samples((X, Y), inputs=0, label=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (dict, {"inputs": "image"}),
        (dict, {"inputs": ("image",)}),
        (dict, {"inputs": {"x": "image"}, "label": "label"}),
        (lambda row: tuple(row.values()), {"inputs": 0, "label": 3}),
        (lambda row: list(row.values()), {"inputs": 0, "label": -1}),
    ],
)
def test_what_is_not_named_is_in_no_batch(form: Any, keys: Any) -> None:
    with pytest.raises(EigenforgetError, match=r"^x: samples cannot .*leave out.*inputs="):
        as_source(Rows(form), "x")
    source = as_source(Samples(Rows(form), **keys))
    inputs = next(source.batches(50)).inputs
    (found,) = inputs.values() if isinstance(inputs, dict) else (inputs,)
    assert torch.equal(found, X) and source.labels().tolist() == Y.tolist()
    with pytest.raises(EigenforgetError, match=r"^x: "):
        as_source(Samples(Rows(form), inputs="no such item", label=0), "x")


@pytest.mark.parametrize(
    "data",
    [
        Threes(),
        DataLoader(Threes(), batch_size=4),
        Subset(Threes(), range(len(Y))),
        TensorDataset(X, INDEX, Y),
        DataLoader(TensorDataset(X, INDEX, Y), batch_size=4),
        (X, INDEX, Y),
        (X.numpy(), INDEX.numpy(), Y.tolist()),
        [X, INDEX, Y.tolist()],
        [(x, i, y) for i, (x, y) in enumerate(zip(X, Y, strict=True))],
        [[x, i, int(y)] for i, (x, y) in enumerate(zip(X, Y, strict=True))],
    ],
    ids=lambda d: type(d).__name__,
)
def test_items_of_three_need_a_word_and_then_are_right(data: Any) -> None:
    if not isinstance(data, (tuple, list)):
        with pytest.raises(EigenforgetError, match=r"^x: a sample has 3 items .*label="):
            as_source(data, "x")
    source = as_source(Samples(data, inputs=0, label=2))
    assert source.labels().tolist() == Y.tolist()
    assert torch.equal(next(source.batches(50)).inputs, X)
    assert source.subset(np.array([3])).labels().tolist() == [int(Y[3])]


def test_arrays_by_name() -> None:
    arrays = {"pixels": X, "person": INDEX, "target": Y}
    with pytest.raises(EigenforgetError, match="'pixels', 'person', 'target'"):
        as_source(arrays)
    source = as_source(Samples(arrays, inputs="pixels", label="target"))
    assert isinstance(source, TensorSource) and torch.equal(source.targets, Y)
    both = as_source(Samples((X, INDEX, Y), inputs={"x": 0, "i": 1}, label=2))
    assert isinstance(both, TensorSource) and set(both.inputs) == {"x", "i"}


@pytest.mark.parametrize("wrap", [lambda d: d, DataLoader, lambda d: Subset(d, range(len(Y)))])
def test_eval_transform_is_for_passes_that_measure_and_leaves_the_dataset_alone(wrap: Any) -> None:
    data = Threes(noise)
    how = {"inputs": 0, "label": 2}
    for source in (
        as_source(Samples(wrap(data), **how, eval_transform=lambda x: x)),
        as_source(Samples(wrap(data), **how, clean=Threes())),
    ):
        assert data.transform is noise
        assert torch.equal(next(source.batches(50)).inputs, X)
        part = source.subset(np.array([5, 2]))
        assert torch.equal(next(part.batches(50)).inputs, X[[5, 2]])
        trained = next(source.batches(50, seeds.generator(0)))
        assert (trained.inputs > X[trained.positions]).any()
        plain = next(unaugmented(source).batches(50, seeds.generator(0)))
        assert torch.equal(plain.inputs, X[plain.positions])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"clean": Subset(Threes(), [0])}, "1 samples and the data 23"),
        ({"clean": Subset(Threes(), range(22, -1, -1))}, "other labels.*same order"),
        ({"clean": (X, INDEX.float(), Y.float())}, "clean=.*float"),
    ],
)
def test_a_clean_view_of_other_samples_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(EigenforgetError, match=line):
        as_source(Samples(Threes(noise), inputs=0, label=2, **given), "x")


def test_what_has_no_transform_cannot_get_another() -> None:
    with pytest.raises(EigenforgetError, match=r"list has no attribute transform.*clean="):
        as_source(Samples([(X[0], 1), (X[1], 0)], eval_transform=lambda x: x))
    with pytest.raises(EigenforgetError, match="tensors are the same"):
        as_source(Samples((X, Y), eval_transform=lambda x: x))
    with pytest.raises(EigenforgetError, match="eval_transform= or clean="):
        Samples((X, Y), eval_transform=lambda x: x, clean=(X, Y))
