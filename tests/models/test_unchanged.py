"""Which weights are still the original's."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.methods import Finetune
from eigenforget.methods.unlearn import unlearn
from eigenforget.models.mlp import Mlp
from eigenforget.models.unchanged import UnchangedWeights, frozen_weights, unchanged
from eigenforget.training.engine import Engine

CLASSES, WIDTH = 4, 6


ENGINE = Engine(device="cpu")


def samples(shape: tuple[int, ...] = (WIDTH,), n: int = 32) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % CLASSES
    noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return noise + labels.reshape(-1, *[1] * len(shape)), labels


def sides(inputs: Tensor, labels: Tensor) -> dict[str, Any]:
    """Class 2 is forgotten."""
    gone = labels == 2
    return {"forget": (inputs[gone], labels[gone]), "retain": (inputs[~gone], labels[~gone])}


def linear(**buffers: Tensor) -> nn.Module:
    """10 weights: 8 and a bias of 2."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(8.0).reshape(2, 4))
        model.bias.zero_()
    for name, tensor in buffers.items():
        model.register_buffer(name, tensor)
    return model


def changed(model: nn.Module, name: str, index: Any, value: float) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        dict(other.state_dict())[name][index] = value
    return other


def test_the_share_counts_elements_bit_for_bit() -> None:
    model = linear()
    assert unchanged(model, after=copy.deepcopy(model)) == UnchangedWeights(
        1.0, None, ("weight", "bias")
    )
    assert unchanged(model, after=changed(model, "weight", (1, 2), 99)) == UnchangedWeights(
        0.9, None, ("bias",)
    )
    assert unchanged(model, after=changed(model, "weight", (0, 0), -0.0)).share == 0.9, (
        "0.0 and −0.0 are other bits"
    )
    assert unchanged(model, after=changed(model, "weight", (1, 2), 6.0)).share == 1.0, (
        "6 for 6 is no change"
    )
    broken = changed(model, "weight", (0, 1), math.nan)
    assert (
        unchanged(broken, after=copy.deepcopy(broken)).share == 1.0
        and unchanged(model, after=broken).share == 0.9
    ), "NaN is itself"
    assert unchanged(model, after=copy.deepcopy(model).half()).share == 0.0, "another type"
    assert unchanged(model, after=nn.Linear(5, 2)) == UnchangedWeights(
        pytest.approx(0.0), None, ()
    ), "another shape, and new biases"


def test_what_is_gone_or_has_another_name_has_changed() -> None:
    one = nn.Sequential()
    one.add_module("a", linear())
    two = nn.Sequential()
    two.add_module("b", linear())
    assert unchanged(one, after=two) == UnchangedWeights(0.0, None, ())


def test_frozen_parameters_do_not_count_and_tied_ones_count_once() -> None:
    model = nn.Sequential(linear(), linear())
    model[0].requires_grad_(False)
    assert unchanged(model, after=changed(model, "0.weight", (0, 0), 5)) == UnchangedWeights(
        1.0, None, ("1.weight", "1.bias")
    )
    assert unchanged(model, after=changed(model, "1.weight", (0, 0), 5)).share == 0.9
    with pytest.raises(
        EigenforgetError, match=r"^Linear has no trainable floating-point parameter to compare$"
    ):
        unchanged(linear().requires_grad_(False), after=linear())
    tied = nn.Sequential(linear(), linear())
    tied[1].weight = tied[0].weight
    assert unchanged(tied, after=changed(tied, "1.bias", 0, 5)) == UnchangedWeights(
        11 / 12, None, ("0.weight", "0.bias")
    )
    empty = nn.Sequential(linear())
    empty.none = nn.Parameter(torch.zeros(0, 3))  # type: ignore[assignment]
    assert unchanged(empty, after=copy.deepcopy(empty)) == UnchangedWeights(
        1.0, None, ("0.weight", "0.bias")
    )


def test_moving_averages_are_found_and_constants_are_left_out() -> None:
    mask = torch.full((3, 3), -math.inf).triu(1)
    model = linear(ema=torch.ones(2, 4), mask=mask, steps=torch.zeros(5, dtype=torch.int64))
    model.register_buffer("unsaved", torch.ones(7), persistent=False)
    result = copy.deepcopy(model)
    nn.init.constant_(result.weight, 9.0)
    nn.init.constant_(result.bias, 9.0)
    assert unchanged(model, after=result) == UnchangedWeights(0.0, 1.0, ("ema",))
    result.ema[0, 0] = 2.0  # type: ignore[index]
    assert unchanged(model, after=result) == UnchangedWeights(0.0, 7 / 8, ())
    model.requires_grad_(False)
    both_kinds = nn.Sequential(model, linear())
    assert unchanged(both_kinds, after=copy.deepcopy(both_kinds)).buffers is None, (
        "what belongs to frozen weights stays by intent"
    )

    class WithCopy(nn.Module):
        """A second module that takes no part."""

        def __init__(self) -> None:
            super().__init__()
            self.live = Mlp(hidden=(8,)).build(num_classes=CLASSES, input_shape=(WIDTH,), seed=0)
            self.average = copy.deepcopy(self.live)

        def forward(self, x: Tensor) -> Any:
            return self.live(x)

    model = WithCopy()
    model.eigenforget_head = (
        f"live.{[n for n, m in model.live.named_modules() if isinstance(m, nn.Linear)][-1]}"
    )
    found = unchanged(
        model,
        after=unlearn(
            model, method=Finetune(epochs=3, batch_size=8), engine=ENGINE, **sides(*samples())
        ),
    )
    assert set(found.names) == {
        f"average.{name}" for name, _ in model.average.named_parameters()
    } and found.share == pytest.approx(0.5)


def test_what_is_frozen_is_said_and_of_adapters_that_they_alone_changed() -> None:
    before = nn.ModuleDict({"base": nn.Linear(4, 3), "lora_A": nn.Linear(4, 1, bias=False)})
    assert frozen_weights(before, after=copy.deepcopy(before)) == {}
    before["base"].requires_grad_(False)
    found = frozen_weights(before, after=copy.deepcopy(before))["frozen_weights"]
    assert found["share"] == round(15 / 19, 6) and "adapters" in found["said"]
    before["lora_A"].requires_grad_(False)
    before["head"] = nn.Linear(3, 3)
    assert (
        "adapters"
        not in frozen_weights(before, after=copy.deepcopy(before))["frozen_weights"]["said"]
    )
    redrawn = copy.deepcopy(before)
    for parameter in redrawn.parameters():
        nn.init.normal_(parameter)
    assert frozen_weights(before, after=redrawn) == {}, "as after retraining"
