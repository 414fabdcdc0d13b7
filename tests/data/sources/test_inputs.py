"""What cannot be augmented or joined."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.augment import Crop
from eigenforget.data.sources import (
    DatasetSource,
    JoinedSource,
    TensorSource,
    as_source,
)
from eigenforget.data.sources.inputs import Layout, check_labels
from tests.data.sources.toys import (
    Dicts,
    images,
    texts,
)


def test_what_cannot_be_augmented_or_joined_is_refused() -> None:
    with pytest.raises(
        EigenforgetError, match="these inputs are a dict of input_ids, attention_mask; choose none"
    ):
        TensorSource(texts().inputs, texts().targets, Crop())
    stream = DatasetSource(Dicts(texts()), augment=Crop())
    assert len(list(stream.batches(8))) == 3
    with pytest.raises(
        EigenforgetError, match="these inputs are a dict of input_ids, attention_mask"
    ):
        next(stream.batches(8, seeds.generator(0)))
    mixed = JoinedSource((texts(4), images(4)))
    with pytest.raises(
        EigenforgetError,
        match=r"joined sources give different inputs: .*'attention_mask': \[6\].* and .*\[1, 5, 4\]",
    ):
        next(mixed.batches(8))
    with pytest.raises(EigenforgetError, match="without any tensor"):
        TensorSource({}, torch.tensor([0]))
    with pytest.raises(
        EigenforgetError, match=r"labels must be a 1-D integer tensor, got torch\.float64"
    ):
        as_source([(torch.ones(2), 0.5), (torch.ones(2), 1.0)])


def test_one_of_two_items_says_which_is_the_other() -> None:
    assert Layout().pair(("x", "y")) == Layout(label=1).pair(["x", "y"]) == ("x", "y")
    assert Layout(inputs=1).pair(("y", "x")) == Layout(label=0).pair(("y", "x")) == ("x", "y")
    assert Layout(label="t").pair({"a": 1, "t": 2}) == ({"a": 1}, 2)
    assert Layout(inputs="a").pair({"a": 1, "b": 3, "labels": 2}) == (1, 2)
    assert Layout({"ids": 0, "mask": 2}, 1).pair((5, 6, 7)) == ({"ids": 5, "mask": 7}, 6)
    assert Layout(("a", "b"), "y").pair(Named(1, 2, 3)) == ({"a": 1, "b": 2}, 3)


class Named(NamedTuple):
    a: int
    b: int
    y: int


@pytest.mark.parametrize(
    ("layout", "item", "line"),
    [
        (Layout(), (torch.ones(2, 3), 1, 0), r"3 items \(float32 \[2, 3\], int, int\).*inputs="),
        (Layout(), (1,), "1 item .*label="),
        (Layout(label=2), (1, 2, 3), "3 items .*inputs="),
        (Layout(inputs=0), (1, 2, 3), "3 items .*label="),
        (Layout(), {"x": 1, "target": 2}, "'x', 'target'.*label="),
        (Layout(), {"x": 1, "label": 2, "labels": 2}, "'x', 'label', 'labels'.*label="),
        (Layout(label="z"), {"x": 1}, "no item 'z'.*'x'"),
        (Layout(0, 7), (1, 2, 3), "no item 7"),
        (Layout(0, "y"), (1, 2, 3), "no item 'y'"),
        (Layout(), 3.5, "float.*label="),
    ],
)
def test_a_doubt_about_what_is_what_names_the_options(layout: Any, item: Any, line: str) -> None:
    with pytest.raises(EigenforgetError, match=line):
        layout.pair(item)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.eye(3)[[0, 2]], r"one-hot.*argmax"),
        (torch.tensor([[0.3, 0.7], [1.0, 0.0]]), r"argmax.*MixUp"),
        (torch.tensor([[1, 1, 0], [0, 1, 1]]), "multi-label data"),
        (torch.tensor([0.5, 2.25]), "regression"),
        (torch.tensor([0.0, 2.0]), r"labels\.long"),
        (torch.zeros(2, 4, 4, dtype=torch.long), "segmentation"),
    ],
)
def test_labels_that_are_out_of_scope_are_told_from_those_with_a_cure(
    labels: torch.Tensor, said: str
) -> None:
    with pytest.raises(EigenforgetError, match=said):
        check_labels(labels)
