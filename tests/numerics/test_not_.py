"""`not_` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.methods.base import Task
from eigenforget.methods.not_ import NoT
from tests.numerics.method_toys import Forbidden, Sgd, batches, ce, changed, equal_states


def test_not_negates_the_first_layer_and_nothing_else(convolutions: Task) -> None:
    negated, original = NoT().negated(convolutions), convolutions.model
    assert changed(negated, original) == {"0.weight", "0.bias"}
    x = convolutions.retain.inputs  # type: ignore[union-attr]
    assert torch.equal(negated[0](x), -original[0](x))  # type: ignore[index]
    chosen = NoT(layers=("3", "7", "7")).negated(convolutions)
    assert changed(chosen, original) == {"3.weight", "3.bias", "7.weight", "7.bias"}, (
        "a name given twice counts once"
    )
    with pytest.raises(Refused, match="layer '2' owns none"):
        NoT(layers=("2",)).negated(convolutions)
    with pytest.raises(EigenforgetError, match=r"no layer 'conv9'; the model has: 0, 1"):
        NoT(layers=("conv9",)).negated(convolutions)


def test_not_fine_tunes_the_negated_model_on_the_retained_data(shallow: Task) -> None:
    method = NoT(epochs=2, batch_size=8, lr=0.1, schedule="constant", weight_decay=0.01)
    hand = copy.deepcopy(shallow.model)
    with torch.no_grad():
        for parameter in hand[0].parameters():  # type: ignore[index]
            parameter.copy_(0.0 - parameter)
    start, sgd = copy.deepcopy(hand), Sgd(hand)
    for cycle in range(2):
        for batch in batches(shallow.retain, 8, "recover", cycle):
            sgd.step(ce(hand, batch), lr=0.1, decay=0.01)
    equal_states(method(replace(shallow, forget=Forbidden())), hand, start)
