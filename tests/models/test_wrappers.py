"""What is put around modules, and what is no plain module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.wrappers import on_its_device, unwrapped
from tests.models.module_toys import in_fabric, net


def test_wrappers_are_taken_off() -> None:
    model = net()
    for wrapped in (
        model,
        nn.DataParallel(model),
        torch.compile(model, backend="eager"),
        nn.DataParallel(torch.compile(model)),
    ):
        assert unwrapped(wrapped) is model
    fabric = in_fabric()
    assert unwrapped(fabric) is fabric.module and isinstance(fabric.module, nn.Sequential)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: nn.Sequential(nn.LazyLinear(3)),
            r"^0.weight has no shape yet; load or run the model first$",
        ),
        (lambda: net().to("meta"), r"^0.weight has no storage yet"),
        (
            lambda: torch.jit.script(nn.Sequential(nn.Linear(2, 2))),
            r"^RecursiveScriptModule cannot be unlearned; give the plain nn.Module",
        ),
        (
            lambda: nn.Sequential(torch.compile(net())),
            r"^0 inside Sequential is wrapped or compiled; give the model without that$",
        ),
    ],
)
def test_what_cannot_be_unlearned_is_refused_with_the_reason(make: Any, line: str) -> None:
    with pytest.raises(EigenforgetError, match=line):
        unwrapped(make())


def test_a_model_that_moved_comes_back() -> None:
    model, other = net(), nn.Identity()
    with pytest.raises(ZeroDivisionError), on_its_device(model, other):
        moved = model.double()
        raise ZeroDivisionError
    assert moved[0].weight.device == torch.device("cpu")


def test_the_memory_order_of_a_model_comes_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    model[1].to(memory_format=torch.channels_last)
    model.register_buffer("mask", torch.arange(24.0).view(1, 2, 3, 4))
    before = {name: (t.stride(), t.clone()) for name, t in model.state_dict().items()}
    with on_its_device(model):
        model.to(memory_format=torch.channels_last)
        assert model[0].weight.stride() != before["0.weight"][0]
    for name, tensor in model.state_dict().items():
        assert tensor.stride() == before[name][0] and torch.equal(tensor, before[name][1])
