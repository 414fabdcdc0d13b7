"""`ct` against its own steps, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.methods.base import Task
from eigenforget.methods.ct import CT
from tests.numerics.method_toys import Forbidden, Sgd, batches, ce, changed, equal_states


def test_a_transposed_model_sees_what_the_original_sees_of_the_transposed_image(
    convolutions: Task,
) -> None:
    result = CT().transposed(convolutions)
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(result(x), convolutions.model(x.transpose(2, 3)))
    assert changed(result, convolutions.model) == {"0.weight", "3.weight"}


def test_ct_fine_tunes_the_transposed_model_on_retain_data_alone(convolutions: Task) -> None:
    method = CT(epochs=2, batch_size=8, lr=0.05, schedule="constant", weight_decay=0.01)
    result = method(replace(convolutions, forget=Forbidden()))  # type: ignore[arg-type]
    hand = copy.deepcopy(method.transposed(convolutions)).train()
    sgd = Sgd(hand)
    for epoch in range(2):
        for batch in batches(convolutions.retain, 8, "recover", epoch):
            sgd.step(ce(hand, batch), lr=0.05, decay=0.01)
    equal_states(result, hand, convolutions.model)


def test_ct_needs_a_square_kernel_that_is_free(small: Task, convolutions: Task) -> None:
    with pytest.raises(Refused, match="ct transposes square kernels"):
        CT()(small)
    frozen = convolutions.student()
    for module in frozen.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.requires_grad_(False)
    with pytest.raises(Refused, match="not frozen"):
        CT()(replace(convolutions, model=frozen))
